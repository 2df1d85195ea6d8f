"""What closed intervals of a cap have used: for as long as one of its periods may be changed.

A definition may be changed at any time, and to any calendar, so that the period that is open next
began long ago. What closed intervals have used since then counts against it. It is kept in few
records: two neighbours become one, those of the same hour first, then of the same day, month, year
(UTC), the oldest first. A record counts whole for each period that it overlaps, so that nothing is
ever forgotten, and at most too much counts.
"""

from msgspec import Struct

from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.instants import EPOCH, MICROSECOND
from vcap_es.events.units import SECOND_US

USAGES_MAX = 8
"""Records that are kept of a cap, at most; two of them become one where there would be more."""

HOUR_US, DAY_US = 3600 * SECOND_US, 24 * 3600 * SECOND_US


class Usage(Struct, frozen=True, order=True, array_like=True, gc=False):
    """Intervals within `[start, end)`, in microseconds UTC, may have spent `units` in all."""

    start: int
    end: int
    units: int

    def overlaps(self, start: int, end: int) -> bool:
        """Whether some of it may have been spent in the period `[start, end)`."""
        return self.start < end and start < self.end


def noted(usages: tuple[Usage, ...], usage: Usage) -> tuple[Usage, ...]:
    """The records with one more, ordered by their starts, `USAGES_MAX` at most."""
    kept = sorted((*usages, usage))
    if len(kept) > USAGES_MAX:
        at = min(range(len(kept) - 1), key=lambda each: _distance(kept[each], kept[each + 1]))
        one, other = kept[at], kept[at + 1]
        units = min(one.units + other.units, MAX_AMOUNT)
        kept[at : at + 2] = [Usage(one.start, max(one.end, other.end), units)]
    return tuple(kept)


def _distance(one: Usage, other: Usage) -> int:
    """How little two neighbours have in common: 0 where both are of the same hour."""
    first, last = one.start, max(one.end, other.end) - 1
    if first // HOUR_US == last // HOUR_US:
        return 0
    if first // DAY_US == last // DAY_US:
        return 1
    start, end = EPOCH + first * MICROSECOND, EPOCH + last * MICROSECOND
    if start.year == end.year:
        return 2 if start.month == end.month else 3
    return 4
