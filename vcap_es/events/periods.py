"""The calendar of a cap: which period an instant lies in, and which one comes next.

Days, weeks and months begin with a local date; minutes and hours begin whenever the local clock
shows second or minute 0. Both are found in the zone of the cap and turned into UTC once. Every
window is half-open, and the next one starts where the one before ends:

    Europe/Berlin, day:   [2026-10-24T22:00Z, 2026-10-25T23:00Z)   25 hours, one total

Caps that share a zone and a kind of interval share the windows too.
"""

from bisect import bisect_left
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from vcap_es.errors import InvalidDefinition
from vcap_es.events.facts.meta import Definition, IntervalKind
from vcap_es.events.instants import (
    EPOCH,
    LAST_INSTANT,
    check_instant,
)
from vcap_es.events.units import SECOND_US
from vcap_es.events.zones import zone

_DAY = timedelta(days=1)
_CACHED_WINDOWS = 8192


class Window(Struct, frozen=True, gc=False):
    """A period `[start, end)`, in microseconds UTC."""

    start: int
    end: int


_EVER = Window(0, LAST_INSTANT + 1)


def window_at(kind: IntervalKind, timezone: str, instant: int) -> Window:
    """The whole period of `kind` that contains `instant` (microseconds UTC).

    The period of `single` is all time; a definition clips it to its own start and end.

    Raises InvalidDefinition if there is no such zone, InvalidInput if the instant lies outside
    the years 1970 to 9998.
    """
    check_instant(instant)
    if kind == "single":
        return _EVER
    second = instant // SECOND_US
    local = datetime.fromtimestamp(second, zone(timezone))
    if kind == "minute":
        return _clock_window(timezone, 60, second - local.second, local.utcoffset())
    if kind == "hour":
        mark = second - local.second - 60 * local.minute
        return _clock_window(timezone, 3600, mark, local.utcoffset())
    window = _date_window(kind, timezone, local.date())
    # A clock set back over midnight shows the old date again, but the new day has begun.
    return window if instant < window.end else window_at(kind, timezone, window.end)


def start_of_day(timezone: str, day: date) -> int:
    """The first instant of the local date `day`, in microseconds UTC.

    Midnight if the clock shows it, its first pass if it does so twice; the first instant after it
    if the clock leaps over it.

    Raises InvalidDefinition if there is no such zone.
    """
    return _start_of_day(zone(timezone), day) * SECOND_US


def first_window(definition: Definition, not_before: int) -> Window | None:
    """The window of `definition` in which `not_before` lies, or its first one if that is later.

    It may have begun before `not_before`, but never before the definition's start; only a
    `single` without a start begins at `not_before` itself. None if the definition is over.

    Raises InvalidDefinition if the zone is unknown, or a `single` has no end.
    """
    check_single_has_end(definition)
    instant = not_before if definition.start is None else max(definition.start, not_before)
    if _is_over(definition, instant):
        return None
    lower = definition.start
    if lower is None and definition.interval == "single":
        lower = not_before
    return _clip(period_of(definition, instant), lower, definition.end)


def next_window(definition: Definition, previous_end: int) -> Window | None:
    """The window of `definition` that follows one that ended at `previous_end`.

    It starts right there, or at a definition's start that lies later. After a change of calendar
    that may be in the middle of a period; the window is then the rest of it. None if the
    definition is over.

    Raises InvalidDefinition if the zone is unknown, or a `single` has no end.
    """
    check_single_has_end(definition)
    start = previous_end if definition.start is None else max(definition.start, previous_end)
    if _is_over(definition, start):
        return None
    return _clip(period_of(definition, start), start, definition.end)


def opening_total(definition: Definition, window: Window) -> int:
    """The units that the period of `window` has.

    The initial total, if there is one and the definition's start cuts the period short; else the
    total. A `single` begins with its start, so that nothing of it is cut.
    """
    if definition.initial_total is None or definition.interval == "single":
        return definition.total
    period = period_of(definition, window.start)
    is_short = definition.start is not None and period.start < definition.start < period.end
    return definition.initial_total if is_short else definition.total


def period_of(definition: Definition, instant: int) -> Window:
    """The whole period of the definition's calendar that contains `instant`, clipped by nothing.

    Raises InvalidDefinition if the zone is unknown.
    """
    return window_at(definition.interval, definition.timezone, instant)


def check_single_has_end(definition: Definition) -> None:
    """Raise InvalidDefinition if `definition` is one interval that would never end."""
    if definition.interval == "single" and definition.end is None:
        raise InvalidDefinition("an interval of kind single needs an end")


def _is_over(definition: Definition, instant: int) -> bool:
    return definition.end is not None and instant >= definition.end


def _clip(period: Window, lower: int | None, upper: int | None) -> Window:
    start = period.start if lower is None else max(period.start, lower)
    end = period.end if upper is None else min(period.end, upper)
    # A period that needs no clipping is passed on, not copied: a million caps share it.
    return period if (start, end) == (period.start, period.end) else Window(start, end)


@lru_cache(maxsize=_CACHED_WINDOWS)
def _date_window(kind: IntervalKind, timezone: str, day: date) -> Window:
    first, following = _dates_of(kind, day)
    return Window(start_of_day(timezone, first), start_of_day(timezone, following))


def _dates_of(kind: IntervalKind, day: date) -> tuple[date, date]:
    """The first date of the period that `day` lies in, and of the one that follows."""
    if kind == "month":
        first = day.replace(day=1)
        return first, (first + 31 * _DAY).replace(day=1)
    if kind == "week":
        monday = day - day.weekday() * _DAY
        return monday, monday + 7 * _DAY
    return day, day + _DAY


def _start_of_day(tz: ZoneInfo, day: date) -> int:
    midnight = datetime(day.year, day.month, day.day)
    second = _second_of(midnight.replace(tzinfo=tz))
    if _local(tz, second) == midnight:
        return second
    # The clock leaps over midnight. With the offset after the leap, the same reading lies before
    # it; the first second between the two that shows the new date is where the clock lands.
    before = _second_of(midnight.replace(tzinfo=tz, fold=1))
    return _first_second(before, second, lambda at: _local(tz, at) >= midnight)


@lru_cache(maxsize=_CACHED_WINDOWS)
def _clock_window(timezone: str, unit: int, mark: int, offset: timedelta | None) -> Window:
    """The minute or hour (`unit` in seconds) of an instant at which `offset` is in force.

    `mark` is the second at which the clock would have shown a whole unit, had it had that offset
    all the time since.
    """
    tz = zone(timezone)
    if _offset(tz, mark) == offset:
        start = inside = mark
    else:
        # The clock was set after the mark, so the unit began by the offset before that.
        inside = _first_second(mark, mark + unit, lambda at: _offset(tz, at) == offset)
        start = inside - 1 - _shown_of(tz, unit, inside - 1)
    return Window(start * SECOND_US, _next_mark(tz, unit, inside) * SECOND_US)


def _next_mark(tz: ZoneInfo, unit: int, second: int) -> int:
    """The first second after this one at which the clock shows a whole unit."""
    offset = _offset(tz, second)
    mark = second + unit - _shown_of(tz, unit, second)
    if _offset(tz, mark) == offset:
        return mark
    change = _first_second(second, mark, lambda at: _offset(tz, at) != offset)
    return change if _shown_of(tz, unit, change) == 0 else _next_mark(tz, unit, change)


def _shown_of(tz: ZoneInfo, unit: int, second: int) -> int:
    """How many seconds of the unit the clock shows."""
    local = _local(tz, second)
    return (local.minute * 60 + local.second) % unit


def _offset(tz: ZoneInfo, second: int) -> timedelta | None:
    return datetime.fromtimestamp(second, tz).utcoffset()


def _first_second(start: int, end: int, holds: Callable[[int], bool]) -> int:
    """The first second of `[start, end)` from which on `holds` is true, or `end`."""
    return start + bisect_left(range(start, end), True, key=holds)


def _second_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


def _local(tz: ZoneInfo, second: int) -> datetime:
    return datetime.fromtimestamp(second, tz).replace(tzinfo=None, fold=0)
