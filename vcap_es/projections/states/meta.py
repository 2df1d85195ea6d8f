"""The state of a meta: its definition register, and the intervals that are not closed."""

from msgspec import Struct

from vcap_es.events.facts import (
    Definition,
    HomeMoved,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    Version,
)
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.usage import Usage

MetaChange = MetaChanged | MetaPaused | MetaResumed | MetaRetired | HomeMoved


class Meta(Struct, gc=False):
    """A cap's definition in force. `home` is the data centre that decides it, "" for this one.

    `next_number` is the number that the next interval gets; a cap keeps its numbers for ever.
    `opened_until` is the end of the last period that was ever open, in microseconds UTC;
    `single_number` is the last one that was opened as a `single`, -1 for none, and `single_start`
    the start of the first one. Every interval below `ended_before` is over, and of other data
    centres every one below `closed_before` is closed. `usages` are what closed ones have used;
    those that were opened here and are over ended at `ended_until` at the latest.
    `intervals` are those not closed yet, oldest first. `moved` is how this data centre gave the cap
    away, until it hears of a later change; below `taken_at` and before `taken_until`, earlier homes
    have opened intervals.
    `inherited` is the lost home that it was taken from by force, until it is moved again.
    """

    cap: str
    version: Version
    definition: Definition
    paused: bool = False
    retired: bool = False
    ended_before: int = 0
    next_number: int = 0
    opened_until: int = 0
    single_number: int = -1
    intervals: tuple[Interval, ...] = ()
    home: str = ""
    closed_before: int = 0
    moved: HomeMoved | None = None
    taken_at: int = 0
    inherited: str = ""
    taken_until: int = 0
    ended_until: int = 0
    single_start: int = -1
    usages: tuple[Usage, ...] = ()

    @property
    def total(self) -> int:
        """The total in force for an interval that is open now, in units."""
        return 0 if self.paused else self.definition.total

    def interval(self, number: int) -> Interval | None:
        """The interval of that number, if it is open or ended but not closed."""
        for each in self.intervals:  # a loop: a generator costs a replay a tenth
            if each.number == number:
                return each
        return None

    def at(self, now: int) -> Interval | None:
        """The interval whose period contains the instant `now`; one that has not ended first."""
        found = [each for each in self.intervals if each.start <= now < each.end]
        return min(found, key=lambda each: each.pool.ended, default=None)


def defined(fact: MetaDefined, before: Meta | None, first_number: int = 0) -> Meta:
    """The meta as it is when it has just been defined, or defined again after it was retired.

    A new one numbers its intervals from `first_number` on.
    """
    if before is None:
        return Meta(fact.cap, fact.version, fact.definition, next_number=first_number)
    assert fact.version > before.version, f"{fact} is not newer than {before.version}"
    before.version, before.definition = fact.version, fact.definition
    before.retired = before.paused = False
    return before


def learned(fact: MetaLearned, before: Meta | None) -> Meta:
    """The meta as its home has it."""
    meta = before or Meta(fact.cap, fact.version, fact.definition)
    assert before is None or fact.version > before.version, f"{fact} is not newer than {before}"
    meta.home, meta.version, meta.definition = fact.home, fact.version, fact.definition
    meta.paused, meta.retired = fact.paused, fact.retired
    meta.ended_before = max(meta.ended_before, fact.ended_before)
    meta.opened_until = max(meta.opened_until, fact.opened_until)
    meta.moved, meta.inherited = None, ""
    return meta


def evolve(meta: Meta, fact: MetaChange) -> None:
    """The meta has changed by `fact`."""
    assert fact.version > meta.version, f"{fact} is not newer than {meta.version}"
    meta.version = fact.version
    match fact:
        case MetaChanged():
            meta.definition = fact.definition
        case MetaPaused():
            meta.paused = True
        case MetaResumed():
            meta.paused = False
        case MetaRetired():
            meta.retired = True
            meta.ended_before = max(meta.ended_before, fact.ended_before)
        case HomeMoved():
            _move(meta, fact)


def _move(meta: Meta, fact: HomeMoved) -> None:
    """Whoever gives it away opens nothing more; who gets it opens nothing that was opened."""
    is_forced = fact.version.number == 0
    meta.inherited = (meta.home or meta.inherited) if is_forced else ""
    meta.home, meta.moved = fact.home, fact if fact.home else None
    if not fact.home:
        meta.next_number = max(meta.next_number, fact.next_number)
        meta.taken_at = meta.next_number
        meta.taken_until = max(meta.taken_until, fact.opened_until)
        meta.opened_until = max(meta.opened_until, fact.opened_until)
        meta.single_number = max(meta.single_number, fact.single_number)
