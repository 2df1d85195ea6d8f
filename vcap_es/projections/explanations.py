"""Why: where every unit of an interval is, and which events put it there."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from vcap_es.errors import InvalidInput
from vcap_es.events.envelope import Recorded
from vcap_es.events.instants import format_instant
from vcap_es.projections.history import Line, Place, Statement, until
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.tables import called, units
from vcap_es.shown import shown

POSITIONS_MAX = 100
"""Events that a reason names, the newest ones; `events` counts them all."""


class Reason(Struct, frozen=True, kw_only=True, gc=False):
    """`amount` units are at `place` (of `server`), put there by `events` events.

    The reason for the place "minted" is the total itself; the others sum to it. `positions` are
    those of the newest events, up to `POSITIONS_MAX`.
    """

    place: Place
    server: str | None
    amount: int
    text: str
    events: int
    positions: list[int]


def explain(
    events: Iterable[Recorded],
    cap: str,
    *,
    number: int | None = None,
    position: int | None = None,
    at: int | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Reason]:
    """Where every unit of an interval of `cap` was after the last event up to `position` and `at`.

    `events` are those of the cap from its first on. The interval is `number`, or the one whose
    period contains `at`, or without both the one that the last event fell into. The first reason
    is the total; the amounts of the others sum to it. Texts call a server by its incarnation, and
    by its name where `names` has one for that.

    Raises InvalidInput where there was no such interval by then.
    """
    book, lines, last = Statement(cap), list[Line](), at
    for event in until(events, position=position, at=at):
        lines += book.feed(event)
        last = event.recorded_at if at is None else at
    interval = _interval(book.history.intervals(cap), cap, number, last)
    own = [line for line in lines if line.number == interval.number]
    return [_total(interval, own), *_places(own, names or {})]


def _interval(intervals: list[Interval], cap: str, number: int | None, at: int | None) -> Interval:
    if number is not None:
        found = next((each for each in intervals if each.number == number), None)
        if found is None:
            raise InvalidInput(f"interval {number} of {cap} was not open by then: read its history")
        return found
    found = next(
        (each for each in intervals if at is not None and each.start <= at < each.end), None
    )
    if found is None:
        when = "at any time" if at is None else f"at {format_instant(at)}"
        raise InvalidInput(f"no interval of {shown(cap)} was open {when}: name one by its number")
    return found


def _total(interval: Interval, lines: list[Line]) -> Reason:
    start, end = format_instant(interval.start), format_instant(interval.end)
    own = [line for line in lines if line.source == "minted"]
    total = sum(line.amount for line in own)
    text = f"interval {interval.number}, from {start} to {end}, has {total} units in all"
    return _reason("minted", None, total, f"{text} ({_events(own)})", own)


def _places(lines: list[Line], names: Mapping[str, str]) -> list[Reason]:
    """A reason for each place that has or owes units: the pool first, then the largest first."""
    touching: dict[tuple[Place, str | None], list[Line]] = {}
    for line in lines:
        for place in (line.source, line.target):
            if place is not None and place != "minted":
                owner = line.server if place in _AT_SERVERS else None
                touching.setdefault((place, owner), []).append(line)
    reasons = [_place(place, owner, own, names) for (place, owner), own in touching.items()]
    return sorted((reason for reason in reasons if reason.amount), key=_by_weight)


def _by_weight(reason: Reason) -> tuple[int, int, str]:
    return _ORDER.index(reason.place), -reason.amount, reason.server or ""


def _place(place: Place, server: str | None, lines: list[Line], names: Mapping[str, str]) -> Reason:
    came = sum(line.amount for line in lines if line.target == place)
    amount = came - sum(line.amount for line in lines if line.source == place)
    told = _OVER if amount < 0 else _TOLD[place]
    known_as = called(server, names) if server is not None else ""
    text = told.format(amount=abs(amount), units=units(abs(amount)), server=known_as)
    return _reason(place, server, amount, f"{text} ({_events(lines)})", lines)


def _reason(place: Place, server: str | None, amount: int, text: str, lines: list[Line]) -> Reason:
    positions = list(dict.fromkeys(line.position for line in lines))
    return Reason(
        place=place,
        server=server,
        amount=amount,
        text=text,
        events=len(positions),
        positions=positions[-POSITIONS_MAX:],
    )


def _events(lines: list[Line]) -> str:
    """What the lines were and where the last of each kind is, as in "3 topup, last at 14"."""
    by_what: dict[str, list[int]] = {}
    for line in lines:
        by_what.setdefault(line.what, []).append(line.position)
    return "; ".join(_told_events(what, at) for what, at in by_what.items())


def _told_events(what: str, positions: list[int]) -> str:
    if len(positions) == 1:
        return f"{what} at {positions[0]}"
    return f"{what} {len(positions)} times, from {positions[0]} to {positions[-1]}"


_ORDER: tuple[Place, ...] = ("available", "withheld", "expired", "spent", "held", "unreported")
_AT_SERVERS = frozenset({"held", "spent", "unreported"})
_OVER = "over by {amount}: the total was lowered below what had left the pool"
_TOLD: dict[Place, str] = {
    "available": "{units} free in the pool",
    "withheld": "{units} withheld since the log was restored: they may have been served before",
    "expired": "{units} expired: not taken by the end, or come back after it",
    "spent": "{units} spent at {server}, net of refunds",
    "held": "{units} held by {server}, not told to be spent",
    "unreported": "{units} unreported: {server} had not told by the close, so they count as spent",
}
