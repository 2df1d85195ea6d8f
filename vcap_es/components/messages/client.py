"""What a client may ask of a volumecap server.

Amounts are units, `1 .. 2**63 - 1`, checked where they enter.
"""

from msgspec import Struct


class Consume(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Take and spend `maximum` units of `cap`, or as many as there are but at least `minimum`."""

    cap: str
    minimum: int
    maximum: int


class ConsumeAll(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Take every item or none of them; no cap twice. Minimum and maximum of an item are equal."""

    items: list[Consume]


class ConsumeEach(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Take each item independently of the others."""

    items: list[Consume]


class Hold(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Take `amount` units of `cap` for up to `lifetime_ms`, to be committed or cancelled."""

    cap: str
    amount: int
    lifetime_ms: int


class Commit(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Spend `amount` units of the hold `id` (all of it where None); the rest comes back."""

    id: str
    amount: int | None = None


class Cancel(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Give the whole hold `id` back."""

    id: str


class Refund(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Give `amount` units of the consume `id` back (all that is left of it where None)."""

    id: str
    amount: int | None = None


Command = Consume | ConsumeAll | ConsumeEach | Hold | Commit | Cancel | Refund


class Idempotency(Struct, frozen=True, kw_only=True, gc=False):
    """A caller's key for one call, and what that asks, in any bytes: same key, same answer."""

    key: str
    fingerprint: bytes
