"""The calls of the client plane: what is sent, and what an answer says. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, get_args
from urllib.parse import quote

import msgspec
from msgspec import Struct

from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Refunded,
    RefusalCode,
    Refused,
    Settled,
    origin_and_last,
)
from vcap_es.errors import InvalidInput, RequestRefused
from vcap_es.events.amounts import check_amount
from vcap_es.events.consume_ids import cap_of_id
from vcap_es.events.instants import parse_instant

T = TypeVar("T")

REFUSALS = frozenset(get_args(RefusalCode))
INSTANTS = ("start", "resets_at")


class Call(NamedTuple, Generic[T]):
    """One call, wherever it is sent: `decode` reads the body of a good answer."""

    method: str
    path: str
    body: bytes | None
    decode: Callable[[bytes], T]


class Problem(Struct, frozen=True, kw_only=True):
    """What a server says where it does not do what was asked (RFC 9457)."""

    code: str
    detail: str = ""
    cap: str = ""
    retry_after_ms: int | None = None


def consume(cap: str, amount: int, minimum: int | None) -> Call[Consumed]:
    """Take `amount` units; with `minimum`, as many as there are, but at least so many."""
    return _post(_cap_path(cap, "/consume"), _wish(amount, minimum), Consumed)


def consume_all(items: Mapping[str, int]) -> Call[ConsumedAll]:
    """Take the amount of every cap, or nothing."""
    body = {"items": [{"cap": cap, "amount": check_amount(items[cap])} for cap in items]}
    return Call("POST", "/v1/consume", msgspec.json.encode(body), _decode_all)


def consume_each(items: Iterable[tuple[str, int]]) -> Call[ConsumedEach]:
    """Take each amount, whatever becomes of the others."""
    wishes = [{"cap": cap, "amount": check_amount(amount)} for cap, amount in items]
    body = {"items": wishes, "atomic": False}
    return Call("POST", "/v1/consume", msgspec.json.encode(body), _decode_each)


def hold(cap: str, amount: int, lifetime_ms: int) -> Call[Held]:
    """Take units to be committed or cancelled within `lifetime_ms`."""
    body = {"cap": cap, "amount": check_amount(amount), "lifetime_ms": lifetime_ms}
    return _post("/v1/holds", body, Held)


def commit(id_: str, amount: int | None) -> Call[Settled]:
    """Spend units of a hold; all of it where `amount` is None."""
    return _post(f"/v1/holds/{_quoted(id_)}/commit", _some(amount), Settled)


def cancel(id_: str) -> Call[Settled]:
    """Give a whole hold back."""
    return _post(f"/v1/holds/{_quoted(id_)}/cancel", {}, Settled)


def refund(id_: str, amount: int | None) -> Call[Refunded]:
    """Give units of a consume back; all that is left of it where `amount` is None."""
    return _post(_cap_path(cap_of_id(id_), "/refund"), {"id": id_, **_some(amount)}, Refunded)


def lookup(cap: str) -> Call[Level]:
    """Look what is left."""
    return Call("GET", _cap_path(cap, ""), None, _reader(Level))


def refused(problem: Problem) -> Refused:
    """The refusal that a problem is. Raises RequestRefused where the request is at fault."""
    if problem.code in REFUSALS:
        return Refused(
            code=problem.code,  # type: ignore[arg-type]  # it is one of them
            cap=problem.cap,
            detail=problem.detail,
            retry_after_ms=problem.retry_after_ms,
        )
    raise RequestRefused(
        problem.code,
        problem.detail,
        cap=problem.cap or None,
        retry_after_ms=problem.retry_after_ms,
    )


def _post(path: str, body: object, answer: type[T]) -> Call[T]:
    return Call("POST", path, msgspec.json.encode(body), _reader(answer))


def _reader(answer: type[T]) -> Callable[[bytes], T]:
    return lambda body: _read(body, answer)


def _read(body: bytes, answer: type[T]) -> T:
    """An answer as the server means it: over HTTP, instants are texts for people."""
    fields = _fields(body)
    for name in INSTANTS:
        if isinstance(fields.get(name), str):
            fields[name] = _instant(fields[name])
    if answer is Consumed:
        fields["origin"], fields["last"] = _origin_and_last(fields.pop("id", None))
    return msgspec.convert(fields, answer)


def _origin_and_last(id_: object) -> tuple[str, int]:
    try:
        return origin_and_last(str(id_))
    except ValueError as error:
        raise msgspec.ValidationError(f"{id_!r} is no id of a consume") from error


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except InvalidInput as error:
        raise msgspec.ValidationError(str(error)) from error


def _cap_path(cap: str, rest: str) -> str:
    return f"/v1/caps/{_quoted(cap)}{rest}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _wish(amount: int, minimum: int | None) -> dict[str, int]:
    check_amount(amount)
    if minimum is None:
        return {"amount": amount}
    return {"min": check_amount(minimum), "max": amount}


def _some(amount: int | None) -> dict[str, int]:
    return {} if amount is None else {"amount": check_amount(amount)}


class _Items(Struct):
    items: list[msgspec.Raw]


_items = msgspec.json.Decoder(_Items).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode
_problem = msgspec.json.Decoder(Problem).decode


def _decode_all(body: bytes) -> ConsumedAll:
    return ConsumedAll(items=[_read(bytes(each), Consumed) for each in _items(body).items])


def _decode_each(body: bytes) -> ConsumedEach:
    return ConsumedEach(items=[_decode_item(each) for each in _items(body).items])


def _decode_item(body: msgspec.Raw) -> Consumed | Refused:
    try:
        return _read(bytes(body), Consumed)
    except msgspec.ValidationError:
        return refused(_problem(body))
