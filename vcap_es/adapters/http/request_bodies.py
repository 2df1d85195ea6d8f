"""The bodies of requests: strict JSON in, commands out.

An amount is a JSON integer from 1 to 2**63 - 1 and nothing else. A duplicate key, an unknown key,
a bool, a float, an exponent and a text that looks like a number are refused. No body type has a
field of any type, so nesting deeper than the type is refused at the first level too many.
"""

import json
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from vcap_es.components.messages.client import (
    Cancel,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Refund,
)
from vcap_es.errors import RequestRefused
from vcap_es.events.amounts import MAX_AMOUNT

BODY_BYTES_MAX = 4 * 1024
BATCH_BYTES_MAX = 256 * 1024
ITEMS_MAX = 1000
LIFETIME_MS_MAX = 3_600_000

CAP_ID = r"[A-Za-z0-9._:-]{1,128}"
"""The ids of caps, as a regular expression."""

_CAP_LINES = re.compile(rf"(?:{CAP_ID}\n)+")

AMOUNT_BODY = re.compile(rb'\s*\{\s*"amount"\s*:\s*([1-9][0-9]{0,17})\s*\}\s*')
"""The body of nearly every call, up to 18 digits: it has one key, so it cannot repeat one."""

T = TypeVar("T")

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
CapId = Annotated[str, Meta(pattern=rf"^{CAP_ID}\Z")]
ConsumeId = Annotated[str, Meta(min_length=1, max_length=256)]


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body; a key that is not a field is refused."""


class AmountBody(Body, frozen=True, kw_only=True):
    """How much to consume: `amount`, or as much as there is from `min` to `max`."""

    amount: Amount | UnsetType = UNSET
    min: Amount | UnsetType = UNSET
    max: Amount | UnsetType = UNSET


class ItemBody(AmountBody, frozen=True, kw_only=True):
    """How much of which cap to consume. The ids of a batch are checked together."""

    cap: str


class ConsumeBody(Body, frozen=True, kw_only=True):
    """Several caps at once: all or none, unless `atomic` is false."""

    items: Annotated[list[ItemBody], Meta(min_length=1, max_length=ITEMS_MAX)]
    atomic: bool | UnsetType = UNSET


class HoldBody(Body, frozen=True, kw_only=True):
    """Hold `amount` units of `cap` for at most `lifetime_ms`."""

    cap: CapId
    amount: Amount
    lifetime_ms: Annotated[int, Meta(ge=1, le=LIFETIME_MS_MAX)]


class CommitBody(Body, frozen=True, kw_only=True):
    """Commit `amount` units of a hold; all of it where there is none."""

    amount: Amount | UnsetType = UNSET


class CancelBody(Body, frozen=True, kw_only=True):
    """Nothing: the path says it all."""


class RefundBody(Body, frozen=True, kw_only=True):
    """Give `amount` units of the consume `id` back; all that is left where there is none."""

    id: ConsumeId
    amount: Amount | UnsetType = UNSET


# ---- strict JSON


def parse(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """The value of a JSON text, by a decoder of a type that spells out every level.

    Raises RequestRefused, `invalid_amount` where an amount is at fault and else `bad_request`.
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RequestRefused(_code(str(error)), f"{error} of the body") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused("bad_request", f"the body is not JSON: {error}") from error
    if not _repeats_no_key(value, body):
        _refuse_duplicates(body)
    return value


def _code(message: str) -> str:
    at = re.search(r"at `\$\S*\.(?:amount|min|max|total)`$", message)
    return "invalid_amount" if at else "bad_request"


def _repeats_no_key(value: object, body: bytes) -> bool:
    """A shortcut past `_refuse_duplicates`, for nearly every body that is fine.

    Without an escape, each quote in a body is a bound of a key or of a text, so a body that
    repeats a key has more of them than the value that came out of it has when it is written.
    """
    return b"\\" not in body and body.count(b'"') == msgspec.json.encode(value).count(b'"')


def _refuse_duplicates(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise RequestRefused("bad_request", f"the key {name[:80]!r} is in the body twice")
        seen.add(name)


# ---- bodies into commands

_amount = msgspec.json.Decoder(AmountBody)
_several = msgspec.json.Decoder(ConsumeBody)
_hold = msgspec.json.Decoder(HoldBody)
_commit = msgspec.json.Decoder(CommitBody)
_cancel = msgspec.json.Decoder(CancelBody)
_refund = msgspec.json.Decoder(RefundBody)


def consume_command(cap: str, body: bytes) -> Consume:
    """`{"amount": n}` or `{"min": n, "max": m}`."""
    simple = AMOUNT_BODY.fullmatch(body)
    if simple:
        amount = int(simple[1])
        return Consume(cap=cap, minimum=amount, maximum=amount)
    return _consume(cap, parse(body, _amount))


def consume_several_command(body: bytes) -> ConsumeAll | ConsumeEach:
    """`{"items": [{"cap": c, "amount": n}, ..], "atomic": true}`."""
    parsed = parse(body, _several)
    _check_ids([item.cap for item in parsed.items])
    items = [_consume(item.cap, item) for item in parsed.items]
    if parsed.atomic is False:
        return ConsumeEach(items=items)
    if len({item.cap for item in items}) < len(items):
        raise RequestRefused("bad_request", "a cap is there twice: add its amounts up")
    if any(item.minimum != item.maximum for item in items):
        detail = "all or none takes exact amounts: use `amount`, or set `atomic` to false"
        raise RequestRefused("bad_request", detail)
    return ConsumeAll(items=items)


def _check_ids(caps: list[str]) -> None:
    """Check all at once: a loop would cost more than all the rest of a batch."""
    lines = "".join([f"{cap}\n" for cap in caps])
    if not _CAP_LINES.fullmatch(lines) or lines.count("\n") > len(caps):
        raise RequestRefused("bad_request", f"each `cap` must be an id: {CAP_ID}")


def _consume(cap: str, body: AmountBody) -> Consume:
    amount, minimum, maximum = body.amount, body.min, body.max
    if amount is not UNSET and minimum is UNSET and maximum is UNSET:
        return Consume(cap=cap, minimum=amount, maximum=amount)
    if amount is UNSET and minimum is not UNSET and maximum is not UNSET:
        if minimum <= maximum:
            return Consume(cap=cap, minimum=minimum, maximum=maximum)
        raise RequestRefused("invalid_amount", f"min {minimum} is above max {maximum}", cap=cap)
    raise RequestRefused("bad_request", "give `amount`, or `min` and `max`", cap=cap)


def hold_command(body: bytes) -> Hold:
    """`{"cap": c, "amount": n, "lifetime_ms": t}`."""
    parsed = parse(body, _hold)
    return Hold(cap=parsed.cap, amount=parsed.amount, lifetime_ms=parsed.lifetime_ms)


def commit_command(id: str, body: bytes) -> Commit:  # noqa: A002  # the field's name
    """`{}`, nothing, or `{"amount": n}`."""
    amount = parse(body or b"{}", _commit).amount
    return Commit(id=id, amount=None if amount is UNSET else amount)


def cancel_command(id: str, body: bytes) -> Cancel:  # noqa: A002  # the field's name
    """`{}`, or nothing."""
    parse(body or b"{}", _cancel)
    return Cancel(id=id)


def refund_command(body: bytes) -> Refund:
    """`{"id": i}`, with an `amount` if not all of it comes back."""
    parsed = parse(body, _refund)
    return Refund(id=parsed.id, amount=None if parsed.amount is UNSET else parsed.amount)
