"""Why: where every unit of an interval is, and which events put it there.

What is told is added up event by event, in tallies whose size does not grow with the events.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from vcap_es.errors import InvalidInput
from vcap_es.events.envelope import Recorded
from vcap_es.events.instants import format_instant
from vcap_es.projections.history import Place, narrowed, until
from vcap_es.projections.statement import Posting, Statement
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.wording import called, units
from vcap_es.shown import shown

POSITIONS_MAX = 100
"""Events that a reason names, the newest ones; `events` counts them all."""


class Reason(Struct, frozen=True, kw_only=True, gc=False):
    """`amount` units are at `place` (of `server`), put there by `events` events.

    The reason for the place "minted" is the total itself; the others sum to it. What is "elsewhere"
    is at other data centres, or came from there where it is below 0. `positions` are those of the
    newest events, up to `POSITIONS_MAX`.
    """

    place: Place
    server: str | None
    amount: int
    text: str
    events: int
    positions: list[int]


class LineCount(Struct, array_like=True, gc=False):
    """How many lines of one kind touched a place, and the positions of the first and the last."""

    lines: int
    first: int
    last: int


class PlaceTally(Struct, array_like=True, gc=False):
    """What came to one place less what left it, in units, by how many events of which kinds.

    The sum of all that came has no bound that a file can keep; the difference has that of amounts.
    `newest` are the positions of the last ones, up to twice `POSITIONS_MAX` of them.
    """

    net: int = 0
    events: int = 0
    kinds: dict[str, LineCount] = {}
    newest: list[int] = []

    def add(self, what: str, position: int) -> None:
        """An event of the kind `what` has touched the place."""
        kind = self.kinds.get(what)
        if kind is None:
            self.kinds[what] = LineCount(1, position, position)
        else:
            kind.lines += 1
            kind.last = position
        if not self.newest or self.newest[-1] != position:
            self.events += 1
            self.newest.append(position)
            if len(self.newest) >= 2 * POSITIONS_MAX:
                del self.newest[:-POSITIONS_MAX]


Tallies = dict[Place, dict[str, PlaceTally]]
"""The tallies of an interval by place and server; the server is "" where the place has none."""


def add_up(tallies: Tallies, posting: Posting, position: int) -> None:
    """Take in what the event at `position` moves."""
    for place, more in ((posting.source, -posting.amount), (posting.target, posting.amount)):
        if place is None:
            continue
        server = posting.server if place in _AT_SERVERS and posting.server is not None else ""
        of_place = tallies.get(place)
        if of_place is None:
            of_place = tallies[place] = {}
        tally = of_place.get(server)
        if tally is None:
            tally = of_place[server] = PlaceTally()
        tally.net += more
        tally.add(posting.what, position)


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
    book, tallies, last = Statement(cap), dict[int, Tallies](), at
    for event in until(events, position=position, at=at):
        fact = narrowed(event.fact, cap)
        for posting in [] if fact is None else book.post(fact):
            if posting.number is not None:
                add_up(tallies.setdefault(posting.number, {}), posting, event.position)
        last = event.recorded_at if at is None else at
    interval = _interval(book.history.intervals(cap), cap, number, last)
    return reasons_of(interval, tallies[interval.number], names or {})


def reasons_of(interval: Interval, tallies: Tallies, names: Mapping[str, str]) -> list[Reason]:
    """Where every unit of `interval` is, and why: its total first, then the places."""
    return [_total(interval, tallies), *_places(tallies, names)]


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
        raise not_open(cap, at)
    return found


def not_open(cap: str, at: int | None) -> InvalidInput:
    """What is raised where no interval of `cap` was open at the instant `at`."""
    when = "at any time" if at is None else f"at {format_instant(at)}"
    return InvalidInput(f"no interval of {shown(cap)} was open {when}: name one by its number")


def _total(interval: Interval, tallies: Tallies) -> Reason:
    start, end = format_instant(interval.start), format_instant(interval.end)
    tally = tallies.get("minted", {}).get("", PlaceTally())
    text = f"interval {interval.number}, from {start} to {end}, has {-tally.net} units in all"
    return _reason("minted", None, -tally.net, text, tally)


def _places(tallies: Tallies, names: Mapping[str, str]) -> list[Reason]:
    """A reason for each place that has or owes units: the pool first, then the largest first."""
    reasons = [
        _place(place, server or None, tally, names)
        for place, of_place in tallies.items()
        if place != "minted"
        for server, tally in of_place.items()
    ]
    return sorted((reason for reason in reasons if reason.amount), key=_by_weight)


def _by_weight(reason: Reason) -> tuple[int, int, str]:
    return _ORDER.index(reason.place), -reason.amount, reason.server or ""


def _place(place: Place, server: str | None, tally: PlaceTally, names: Mapping[str, str]) -> Reason:
    amount = tally.net
    told = _OWED.get(place, _TOLD[place]) if amount < 0 else _TOLD[place]
    known_as = called(server, names) if server is not None else ""
    text = told.format(amount=abs(amount), units=units(abs(amount)), server=known_as)
    return _reason(place, server, amount, text, tally)


def _reason(place: Place, server: str | None, amount: int, text: str, tally: PlaceTally) -> Reason:
    """The reason with what moved the units, as in "topup 3 times, from 9 to 14"."""
    told = "; ".join(_told(what, kind) for what, kind in tally.kinds.items())
    return Reason(
        place=place,
        server=server,
        amount=amount,
        text=f"{text} ({told})",
        events=tally.events,
        positions=tally.newest[-POSITIONS_MAX:],
    )


def _told(what: str, kind: LineCount) -> str:
    if kind.lines == 1:
        return f"{what} at {kind.first}"
    return f"{what} {kind.lines} times, from {kind.first} to {kind.last}"


_ORDER: tuple[Place, ...] = (
    *("available", "withheld", "expired", "spent", "held", "unreported"),
    "elsewhere",
)
_AT_SERVERS = frozenset({"held", "spent", "unreported"})
_OWED: dict[Place, str] = {
    "available": "over by {amount}: the total was lowered below what had left the pool",
    "elsewhere": "{units} came from other data centres, net of what went there",
}
_TOLD: dict[Place, str] = {
    "available": "{units} free in the pool",
    "withheld": "{units} withheld since the log was restored: they may have been served before",
    "elsewhere": "{units} went to other data centres, net of what came from there",
    "expired": "{units} expired: not taken by the end, or come back after it",
    "spent": "{units} spent at {server}, net of refunds",
    "held": "{units} held by {server}, not told to be spent",
    "unreported": "{units} unreported: {server} had not told by the close, so they count as spent",
}
