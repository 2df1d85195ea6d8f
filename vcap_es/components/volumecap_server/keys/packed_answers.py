"""The answers of keyed calls as they are kept: in few bytes, and the same again when unpacked.

What an answer says of its interval is not kept with it: the interval has a number, its name, and
whoever unpacks the answer knows what that stands for.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct, msgpack

from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Outcome,
    Refunded,
    RefusalCode,
    Refused,
    Settled,
)
from vcap_es.components.messages.refusals import capped, capped_amount
from vcap_es.components.volumecap_server.keys.ledger import Place

Named = Callable[[int], Place | None]
"""The interval of a name, None where it is closed."""


class _Consumed(Struct, frozen=True, array_like=True, tag=1, gc=False):
    name: int
    last: int
    consumed: int
    remaining: int
    total: int
    resets_at: int


class _Held(Struct, frozen=True, array_like=True, tag=2, gc=False):
    name: int
    last: int
    held: int
    remaining: int
    total: int
    resets_at: int
    lifetime_ms: int


class _Settled(Struct, frozen=True, array_like=True, tag=3, gc=False):
    name: int
    last: int
    held: int
    committed: int
    refunded: int
    short: int
    above_last: int = 0
    above: int = 0


class _Refunded(Struct, frozen=True, array_like=True, tag=4, gc=False):
    name: int
    last: int
    consumed: int
    refunded: int
    refunded_in_all: int


class _Capped(Struct, frozen=True, array_like=True, tag=5, gc=False):
    name: int
    amount: int
    retry_after_ms: int


class _Shadowed(Struct, frozen=True, array_like=True, tag=6, gc=False):
    cap: str
    consumed: int
    total: int
    resets_at: int
    shadow: RefusalCode
    name: int = -1


class _Refused(Struct, frozen=True, array_like=True, tag=9, gc=False):
    code: RefusalCode
    cap: str
    detail: str
    retry_after_ms: int | None


class _Several(Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The names of the items are indexes of `places`; it is known while one of these is open."""

    is_all: bool
    places: list[Place]
    items: list[_Consumed | _Shadowed | _Refused]


class _Whole(Struct, frozen=True, array_like=True, tag=8, gc=False):
    name: int
    outcome: Outcome


Packed = _Consumed | _Held | _Settled | _Refunded | _Capped | _Several | _Whole

_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(Packed).decode


def pack(outcome: Outcome, name: int, cap: str, prefixes: dict[str, Place]) -> bytes:
    """An answer of the interval `name`, of `cap`; `prefixes` are those of the ids in a batch."""
    match outcome:
        case Consumed() if outcome.origin and outcome.shadow is None:
            packed: Packed = _consumed(outcome, name)
        case Held() if outcome.shadow is None:
            last, held = _span(outcome.id)
            packed = _Held(
                name,
                last,
                held,
                outcome.remaining,
                outcome.total,
                outcome.resets_at,
                outcome.lifetime_ms,
            )
        case Settled() if outcome.shadow is None:
            packed = _settled(outcome, name)
        case Refunded():
            last, consumed = _span(outcome.id)
            packed = _Refunded(name, last, consumed, outcome.refunded, outcome.refunded_in_all)
        case Refused(code="capped") if outcome.cap == cap:
            packed = _capped(outcome, name) or _Whole(name, outcome)
        case ConsumedAll() | ConsumedEach() if prefixes:
            packed = _several(outcome, prefixes)
        case _:
            packed = _Whole(name, outcome)
    return _encode(packed)


def _span(id_: str) -> tuple[int, int]:
    """The last unit of an id, and how many it names."""
    first, _, last = id_.rpartition(".")[2].rpartition("-")
    return int(last), int(last) - int(first)


def _settled(outcome: Settled, name: int) -> _Settled:
    last, held = _span(outcome.id)
    above_last, above = _span(outcome.above) if outcome.above else (0, 0)
    return _Settled(
        name,
        last,
        held,
        outcome.committed,
        outcome.refunded,
        outcome.short,
        above_last,
        above,
    )


def _consumed(outcome: Consumed, name: int) -> _Consumed:
    return _Consumed(
        name,
        outcome.last,
        outcome.consumed,
        outcome.remaining,
        outcome.total,
        outcome.resets_at,
    )


def _capped(outcome: Refused, name: int) -> _Capped | None:
    amount, retry_after_ms = capped_amount(outcome), outcome.retry_after_ms
    if amount is None or retry_after_ms is None:
        return None
    return _Capped(name, amount, retry_after_ms)


def _several(outcome: ConsumedAll | ConsumedEach, prefixes: dict[str, Place]) -> _Several:
    at = {prefix: index for index, prefix in enumerate(prefixes)}
    items: Iterable[Consumed | Refused] = outcome.items
    return _Several(
        isinstance(outcome, ConsumedAll),
        list(prefixes.values()),
        [_item(each, at) for each in items],
    )


def _item(item: Consumed | Refused, at: dict[str, int]) -> _Consumed | _Shadowed | _Refused:
    if isinstance(item, Refused):
        return _Refused(item.code, item.cap, item.detail, item.retry_after_ms)
    if item.shadow is None:
        return _consumed(item, at[item.origin])
    name = at.get(item.origin, -1)
    return _Shadowed(item.cap, item.consumed, item.total, item.resets_at, item.shadow, name)


def unpack(
    data: bytes, incarnation: str, named: Named, is_open: Callable[[Place], bool]
) -> tuple[Outcome, Place] | None:
    """The answer and an interval that it is kept with; None where its intervals are closed."""
    packed = _decode(data)
    if isinstance(packed, _Several):
        place = next((each for each in packed.places if is_open(each)), None)
        return None if place is None else (_unpack_several(packed, incarnation), place)
    place = named(packed.name)
    return None if place is None else (_unpack(packed, incarnation, place), place)


def id_prefix(incarnation: str, place: Place) -> str:
    """How the ids of the consumes of an interval begin at an incarnation of a server."""
    cap, number = place
    return f"{incarnation}.{number}.{cap}."


def _unpack(packed: Packed, incarnation: str, place: Place) -> Outcome:
    cap, origin = place[0], id_prefix(incarnation, place)
    match packed:
        case _Consumed():
            return _as_consumed(packed, cap, origin)
        case _Held():
            return Held(
                id=f"{origin}{packed.last - packed.held}-{packed.last}",
                cap=cap,
                held=packed.held,
                remaining=packed.remaining,
                total=packed.total,
                resets_at=packed.resets_at,
                lifetime_ms=packed.lifetime_ms,
            )
        case _Settled():
            return Settled(
                id=f"{origin}{packed.last - packed.held}-{packed.last}",
                cap=cap,
                committed=packed.committed,
                refunded=packed.refunded,
                short=packed.short,
                above=(
                    f"{origin}{packed.above_last - packed.above}-{packed.above_last}"
                    if packed.above
                    else ""
                ),
            )
        case _Refunded():
            return Refunded(
                id=f"{origin}{packed.last - packed.consumed}-{packed.last}",
                cap=cap,
                refunded=packed.refunded,
                refunded_in_all=packed.refunded_in_all,
            )
        case _Capped():
            return capped(cap, packed.amount, packed.retry_after_ms)
        case _Whole():
            return packed.outcome
        case _Several():
            return _unpack_several(packed, incarnation)


def _unpack_several(packed: _Several, incarnation: str) -> ConsumedAll | ConsumedEach:
    origins = [id_prefix(incarnation, each) for each in packed.places]
    items = [_unpack_item(each, packed.places, origins) for each in packed.items]
    if packed.is_all:
        return ConsumedAll(items=[each for each in items if isinstance(each, Consumed)])
    return ConsumedEach(items=items)


def _unpack_item(
    item: _Consumed | _Shadowed | _Refused, places: list[Place], origins: list[str]
) -> Consumed | Refused:
    match item:
        case _Consumed(name=index):
            return _as_consumed(item, places[index][0], origins[index])
        case _Shadowed():
            return Consumed(
                cap=item.cap,
                origin=origins[item.name] if item.name >= 0 else "",
                last=item.consumed,
                consumed=item.consumed,
                remaining=0,
                total=item.total,
                resets_at=item.resets_at,
                shadow=item.shadow,
            )
        case _Refused(code, cap, detail, retry_after_ms):
            return Refused(code=code, cap=cap, detail=detail, retry_after_ms=retry_after_ms)


def _as_consumed(packed: _Consumed, cap: str, origin: str) -> Consumed:
    return Consumed(
        cap=cap,
        origin=origin,
        last=packed.last,
        consumed=packed.consumed,
        remaining=packed.remaining,
        total=packed.total,
        resets_at=packed.resets_at,
    )
