"""What was served in each local period of a cap, over all intervals that were ever opened for it.

Computed by other means than the rest of a period is: by the yes answers alone, and the calendar.
"""

from collections.abc import Callable

from msgspec import Struct, field

from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalBounded,
    IntervalOpened,
    MetaChanged,
    MetaDefined,
)
from vcap_es.events.periods import Window, window_at
from vcap_es.sim.environment.violations import Violation


class ServedUnits(Struct, frozen=True):
    """So many units were served at an instant, in microseconds UTC."""

    at: int
    units: int


class Edited(Struct):
    """The definitions that a cap has had, each since an instant, and what was served of it."""

    definitions: list[tuple[int, Definition]] = field(default_factory=list)
    answers: dict[str, ServedUnits] = field(default_factory=dict)


class Periods:
    """Checks every yes answer against the largest total that was in force in its period."""

    def __init__(self, facts: Callable[[], list[Fact]], spare: Callable[[str], int]) -> None:
        """`facts` are all that is acknowledged; `spare` units of a cap may be served besides."""
        self._facts, self._spare, self._read = facts, spare, 0
        self._caps: dict[str, Edited] = {}
        self._starts: dict[tuple[str, int], int] = {}

    def hear(self, now: int) -> None:
        """Take in the definitions that were acknowledged since."""
        facts = self._facts()
        self._read = min(self._read, len(facts))
        for fact in facts[self._read :]:
            if isinstance(fact, MetaDefined | MetaChanged):
                edited = self._caps.setdefault(fact.cap, Edited())
                edited.definitions.append((now, fact.definition))
            elif isinstance(fact, IntervalOpened | IntervalBounded):
                self._starts[fact.cap, fact.number] = fact.start
        self._read = len(facts)

    def forgive(self, cap: str, id_: str) -> None:
        """Somebody tries to undo this consume: it does not count any more."""
        if cap in self._caps:
            self._caps[cap].answers.pop(id_, None)

    def check(self, cap: str, id_: str, units: int, at: int) -> None:
        """So much was served at `at`: with all else in that period it is within a total of it.

        Where clocks are wrong, an interval is served before it begins: it counts as its first unit.
        """
        edited = self._caps.setdefault(cap, Edited())
        at = max(at, self._starts.get((cap, parse_consume_id(id_).number), at))
        edited.answers[id_] = ServedUnits(at, units)
        if not edited.definitions:
            return
        period = _period(edited.definitions, at)
        served = sum(
            each.units for each in edited.answers.values() if period.start <= each.at < period.end
        )
        most = edited.definitions[-1][1].total
        # What a server has ahead was moved there by the total that was in force a period before.
        since = period.start - (period.end - period.start)
        for (_, definition), (until, _) in zip(
            edited.definitions, edited.definitions[1:], strict=False
        ):
            if until >= since:
                most = max(most, definition.total)
        most += self._spare(cap)
        if served > most:
            raise Violation("C15", f"{cap}: {served} served of {most} in {period}")


def _period(definitions: list[tuple[int, Definition]], at: int) -> Window:
    """The whole period of the newest definition; a `single` begins with its start, or as one."""
    definition = definitions[-1][1]
    period = window_at(definition.interval, definition.timezone, at)
    if definition.interval != "single":
        return period
    since = at
    for defined_at, each in reversed(definitions):
        if each.interval != "single":
            break
        since = defined_at
    start = since if definition.start is None else definition.start
    return Window(min(start, at), period.end)
