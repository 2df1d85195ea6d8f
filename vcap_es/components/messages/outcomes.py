"""What a volumecap server answers to a client. A refusal is an answer like any other."""

from typing import Literal

from msgspec import Struct

from vcap_es.events.consume_ids import shadow_id

RefusalCode = Literal[
    "unknown_cap",
    "not_started",
    "ended",
    "paused",
    "capped",
    "paced",
    "counted_out",
    "unavailable",
    "key_reused",
    "share_full",
    "unknown_id",
    "settled",
]


class Consumed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`consumed` units were taken and spent; `id` explains and refunds them.

    They are the last units up to the running total `last` of a slice, whose ids all begin with
    `origin`; the id is put together only where somebody reads it. `remaining` is what this server
    holds and what the pool was last heard to have, in units; `resets_at` is the end of the interval
    in microseconds UTC. `shadow` names the refusal that a shadow cap would have given: nothing was
    taken, and the id says so.
    """

    cap: str
    origin: str
    last: int
    consumed: int
    remaining: int
    total: int
    resets_at: int
    shadow: RefusalCode | None = None

    @property
    def id(self) -> str:
        """The name of these units, or of those that a shadow cap did not take."""
        if self.shadow is not None:
            return shadow_id(self.origin, self.consumed)
        return f"{self.origin}{self.last - self.consumed}-{self.last}" if self.origin else ""


def origin_and_last(id: str) -> tuple[str, int]:  # noqa: A002  # the field's name
    """What `Consumed` keeps of an id; raises ValueError where it is none."""
    last = id.rpartition("-")[2]
    return (id[: id.rindex(".") + 1], int(last)) if id else ("", 0)


class Held(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`held` units are taken until they are committed or cancelled, for at most `lifetime_ms`.

    `shadow` names the refusal that a shadow cap would have given: nothing is taken.
    """

    id: str
    cap: str
    held: int
    remaining: int
    total: int
    resets_at: int
    lifetime_ms: int
    shadow: RefusalCode | None = None


class Settled(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A hold is settled: `committed` units are spent and `refunded` came back.

    `short` is what was asked above the hold and could not be had. Units above the hold have an id
    of their own, `above`, which explains them; `id` refunds them with the others. `shadow` names
    the refusal that a shadow cap would have given: some of what is committed was not taken.
    """

    id: str
    cap: str
    committed: int
    refunded: int
    short: int = 0
    above: str = ""
    shadow: RefusalCode | None = None


class Refunded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`refunded` units of the consume `id` came back, and `refunded_in_all` so far."""

    id: str
    cap: str
    refunded: int
    refunded_in_all: int


class Refused(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Nothing was taken, because of `code` at `cap`; `retry_after_ms` where waiting may help."""

    code: RefusalCode
    cap: str
    detail: str
    retry_after_ms: int | None = None


class ConsumedAll(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Every item of an all-or-none consume was taken, in the order asked."""

    items: list[Consumed]


class ConsumedEach(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Each item of a batch of independent consumes has its own answer, in the order asked."""

    items: list[Consumed | Refused]


class Level(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """What is left of a cap: `here` at this server, `remaining` here and in the data centre.

    Both are as last heard, in units. `start` and `resets_at` bound the interval, in microseconds
    UTC. `name` is the kind of the interval. What is `withheld` counts as spent since the log was
    restored from a backup.
    """

    cap: str
    here: int
    remaining: int
    total: int
    start: int
    resets_at: int
    name: str
    mode: str
    withheld: int = 0


Outcome = Consumed | Held | Settled | Refunded | Refused | ConsumedAll | ConsumedEach
