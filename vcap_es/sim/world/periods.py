"""What was served in each local period of a cap, over all intervals that were ever opened for it.

Computed by other means than the rest of a period is: by the yes answers alone, the calendar, and
the totals in force. A total that was in force while the period lasts may be served. One that was
lowered before then, or was in force for other periods as the calendar was another one, does not
count, but what had left the pools of who opened intervals when the next one was known there: it is
a debt, and may be spent.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct, field

from vcap_es.events.chain import Stored
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.facts import (
    Definition,
    Fact,
    HoldingRecovered,
    HomeMoved,
    IntervalBounded,
    IntervalHeard,
    IntervalOpened,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    Returned,
    ToppedUp,
    TopupRecovered,
    TransferReceived,
    TransferSent,
    Version,
)
from vcap_es.events.periods import Window, window_at
from vcap_es.sim.environment.violations import Violation

DEFINED = MetaDefined | MetaChanged | MetaLearned


class Log(Protocol):
    """The acknowledged events of a data centre, and the facts in them."""

    entries: list[Stored]
    facts: list[Fact]


class ServedUnits(Struct, frozen=True):
    """So many units of an interval were served at an instant, in microseconds UTC."""

    at: int
    units: int
    number: int


class Opened(Struct):
    """An interval as it may be served, from `start` until `until`, and what left its pool.

    `moved` and `back` are running totals, by where it went to and came from.
    """

    start: int
    end: int
    until: int
    moved: dict[str, int] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)

    @property
    def out(self) -> int:
        """The units that are not in its pool any more."""
        return sum(self.moved.values()) - sum(self.back.values())


class Force(Struct):
    """From `since` on this was the total in force at a data centre, in microseconds UTC.

    `out` is what had left the pools of the intervals opened there by then, by number.
    """

    since: int
    calendar: tuple[str, str]
    total: int
    out: dict[int, int]


class View(Struct):
    """A cap as a data centre knows it: what was in force, and the intervals that it has opened."""

    definition: Definition | None = None
    forces: list[Force] = field(default_factory=list)
    opened: dict[int, Opened] = field(default_factory=dict)

    def changed(self, at: int, total: int) -> None:
        """From now on, this total is in force here."""
        out = {number: each.out for number, each in self.opened.items()}
        definition = self.definition
        calendar = (definition.interval, definition.timezone) if definition else ("", "")
        self.forces.append(Force(at, calendar, total, out))

    def most(self, period: Window) -> int:
        """The most units of a period that this data centre may have let others have.

        The totals that were in force when the period had begun, and what was out of the pools when
        one before that, or of another calendar, was left.
        """
        numbers = [
            number
            for number, each in self.opened.items()
            if each.start < period.end and period.start < each.until
        ]
        if not numbers:
            return 0
        most = self.forces[-1].total if self.forces else 0
        for force, following in zip(self.forces, self.forces[1:], strict=False):
            if following.since >= period.start:
                most = max(most, force.total)
            if following.since < period.start or following.calendar != force.calendar:
                most = max(most, sum(following.out.get(each, 0) for each in numbers))
        return most


class Edited(Struct):
    """The definitions that a cap has had, each since an instant, and what was served of it."""

    version: Version = Version(0, 0)
    definitions: list[tuple[int, Definition]] = field(default_factory=list)
    views: dict[int, View] = field(default_factory=dict)
    answers: dict[str, ServedUnits] = field(default_factory=dict)

    def view(self, place: int) -> View:
        """How a data centre knows the cap."""
        return self.views.setdefault(place, View())

    def instant(self, served: ServedUnits) -> int:
        """When units count as served: not before their interval begins."""
        views = (each.opened.get(served.number) for each in self.views.values())
        return max([served.at, *(each.start for each in views if each is not None)])


class Periods:
    """Checks every yes answer against the largest total that was in force in its period."""

    def __init__(
        self, logs: Callable[[], Sequence[Log]], spare: Callable[[str], int] = lambda _: 0
    ) -> None:
        """`logs` are those of all data centres; `spare` units of a cap may be served besides."""
        self._logs, self._spare = logs, spare
        self._read: dict[int, int] = {}
        self._caps: dict[str, Edited] = {}

    def hear(self) -> None:
        """Take in what was acknowledged since."""
        for place, log in enumerate(self._logs()):
            read = min(self._read.get(place, 0), len(log.facts))
            for entry, fact in zip(log.entries[read:], log.facts[read:], strict=True):
                self._take(place, entry.recorded_at, fact)
            self._read[place] = len(log.facts)

    def _take(self, place: int, at: int, fact: Fact) -> None:
        cap = getattr(fact, "cap", None)
        if not isinstance(cap, str):
            return
        edited = self._caps.setdefault(cap, Edited())
        view = edited.view(place)
        match fact:
            case MetaDefined() | MetaChanged() | MetaLearned():
                _define(edited, view, at, fact)
            case MetaPaused() | MetaRetired():
                view.changed(at, 0)
            case MetaResumed():
                view.changed(at, _total(view.definition))
            case HomeMoved():
                edited.version = max(edited.version, fact.version)
            case IntervalOpened():
                view.opened[fact.number] = Opened(fact.start, fact.end, fact.end)
            case _:
                number = getattr(fact, "number", None)
                if number in view.opened:
                    _follow(view.opened[number], fact)

    def forgive(self, cap: str, id_: str) -> None:
        """Somebody tries to undo this consume: it does not count any more."""
        if cap in self._caps:
            self._caps[cap].answers.pop(id_, None)

    def check(self, cap: str, id_: str, units: int, at: int) -> None:
        """So much was served at `at`: with all else in that period it is within a total of it.

        Where clocks are wrong, an interval is served before it begins: it counts as its first unit,
        by the bounds that it has now.
        """
        edited = self._caps.setdefault(cap, Edited())
        edited.answers[id_] = ServedUnits(at, units, parse_consume_id(id_).number)
        if not edited.definitions:
            return
        period = _period(edited.definitions, edited.instant(edited.answers[id_]))
        served = sum(
            each.units
            for each in edited.answers.values()
            if period.start <= edited.instant(each) < period.end
        )
        most = max(each.most(period) for each in edited.views.values()) + self._spare(cap)
        if served > most:
            raise Violation("C15", f"{cap}: {served} served of {most} in {period}")


def _define(edited: Edited, view: View, at: int, fact: DEFINED) -> None:
    """A data centre knows this definition from now on; the newest one says what a period is."""
    view.definition = fact.definition
    is_served = not (isinstance(fact, MetaLearned) and (fact.paused or fact.retired))
    view.changed(at, _total(fact.definition) if is_served else 0)
    if fact.version > edited.version:
        edited.version = fact.version
        edited.definitions.append((at, fact.definition))


def _total(definition: Definition | None) -> int:
    if definition is None:
        return 0
    return max(definition.total, definition.initial_total or 0)


def _follow(opened: Opened, fact: Fact) -> None:
    """What becomes of an interval where it was opened."""
    match fact:
        case IntervalBounded():
            opened.start, opened.end = fact.start, fact.end
            opened.until = max(opened.until, fact.end)
        case IntervalHeard():
            opened.until = max(opened.end, fact.at)
        case ToppedUp() | TopupRecovered():
            _raise(opened.moved, fact.incarnation, fact.moved)
        case HoldingRecovered():
            _raise(opened.moved, fact.incarnation, fact.moved)
            _raise(opened.back, fact.incarnation, fact.returned)
        case Returned():
            _raise(opened.back, fact.incarnation, fact.returned)
        case TransferSent():
            _raise(opened.moved, f"to {fact.to}", fact.moved)
        case TransferReceived():
            _raise(opened.back, f"from {fact.source}", fact.moved)


def _raise(totals: dict[str, int], place: str, total: int) -> None:
    totals[place] = max(totals.get(place, 0), total)


def _period(definitions: Iterable[tuple[int, Definition]], at: int) -> Window:
    """The whole period of the newest definition; a `single` begins with its start, or as one."""
    known = list(definitions)
    definition = known[-1][1]
    period = window_at(definition.interval, definition.timezone, at)
    if definition.interval != "single":
        return period
    since = at
    for defined_at, each in reversed(known):
        if each.interval != "single":
            break
        since = defined_at
    start = since if definition.start is None else definition.start
    return Window(min(start, at), period.end)


__all__ = ["Periods"]
