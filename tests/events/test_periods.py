"""Periods against a second opinion: `whenever`, which shares no code with zoneinfo."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

import pytest
import whenever
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from whenever import Instant, ZonedDateTime

from vcap_es.errors import InvalidDefinition, InvalidInput
from vcap_es.events.facts.meta import Definition, IntervalKind
from vcap_es.events.instants import LAST_INSTANT, format_instant, parse_instant
from vcap_es.events.periods import (
    Window,
    first_window,
    next_window,
    opening_total,
    start_of_day,
    window_at,
)
from vcap_es.events.zones import zone_names

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
LAST = parse_instant("2100-01-01T00:00:00Z")

Unit = Literal["minute", "hour", "day", "week_mon", "month"]
UNITS: dict[IntervalKind, Unit] = {
    "minute": "minute",
    "hour": "hour",
    "day": "day",
    "week": "week_mon",
    "month": "month",
}

zones = st.sampled_from(sorted(zone_names()))
instants = st.integers(0, LAST)
date_kinds = st.sampled_from(["day", "week", "month"])
clock_kinds = st.sampled_from(["minute", "hour"])
kinds = st.sampled_from(sorted(UNITS))


@pytest.fixture(autouse=True, scope="module")
def same_database() -> Iterator[None]:
    """The second opinion reads the same release of the time zone database."""
    path = whenever.get_tzpath()
    whenever.reset_tzpath(())
    whenever.clear_tzcache()
    yield
    whenever.reset_tzpath(path)
    whenever.clear_tzcache()


def local(instant: int, timezone: str) -> ZonedDateTime:
    """What the second opinion says a clock in the zone shows."""
    return Instant.from_timestamp(instant, unit="microsecond").to_tz(timezone)


def microseconds(moment: ZonedDateTime) -> int:
    """The instant of a moment of the second opinion."""
    return moment.timestamp(unit="nanosecond") // 1000


def expected(kind: IntervalKind, timezone: str, instant: int) -> Window:
    """The period as the second opinion sees it."""
    moment = local(instant, timezone)
    unit = UNITS[kind]
    return Window(
        microseconds(moment.start_of(unit)), microseconds(moment.end_of(unit).add(nanoseconds=1))
    )


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and an instant near one of the moments when its clock is set."""
    timezone = draw(zones)
    change = local(draw(instants), timezone).next_transition()
    assume(change is not None)
    assert change is not None
    around = draw(st.integers(-2 * DAY, 2 * DAY) | st.integers(-2 * HOUR, 2 * HOUR))
    return timezone, min(max(microseconds(change) + around, 0), LAST)


def hours(window: Window) -> float:
    """How long a window is."""
    return (window.end - window.start) / HOUR


def at(text: str) -> int:
    """The instant of a text."""
    return parse_instant(text)


def shown(window: Window | None) -> tuple[str, str]:
    """The bounds of a window that exists, as texts."""
    assert window is not None
    return format_instant(window.start), format_instant(window.end)


@given(date_kinds, zones, instants)
def test_days_weeks_and_months_agree_with_a_second_opinion(
    kind: IntervalKind, timezone: str, instant: int
) -> None:
    """In any zone and at any instant, both libraries see the same day, week and month."""
    assert window_at(kind, timezone, instant) == expected(kind, timezone, instant)


@settings(max_examples=400)
@given(date_kinds, near_changes())
def test_they_agree_where_the_clock_is_set(kind: IntervalKind, place: tuple[str, int]) -> None:
    """The same holds within two days of a change of the clock."""
    timezone, instant = place
    assert window_at(kind, timezone, instant) == expected(kind, timezone, instant)


@given(clock_kinds, zones, instants)
def test_minutes_and_hours_agree_with_a_second_opinion(
    kind: IntervalKind, timezone: str, instant: int
) -> None:
    """Unless the clock is set within it, both libraries see the same minute and hour."""
    window = window_at(kind, timezone, instant)
    change = local(window.start - SECOND, timezone).next_transition()
    assume(change is None or microseconds(change) > window.end)
    assert window == expected(kind, timezone, instant)


@settings(max_examples=60)
@given(clock_kinds, near_changes())
def test_minutes_and_hours_begin_where_the_clock_shows_zero(
    kind: IntervalKind, place: tuple[str, int]
) -> None:
    """Watching the clock second by second, a unit begins at each zero and nowhere else."""
    # Given an instant within reach of a change
    timezone, instant = place

    def shows_zero(second: int) -> bool:
        moment = local(second * SECOND, timezone)
        return moment.second == 0 and (kind == "minute" or moment.minute == 0)

    # When somebody watches the clock from there, back to a zero and on to the next
    second = instant // SECOND
    start = next(at for at in range(second, second - 3 * 86_400, -1) if shows_zero(at))
    end = next(at for at in range(second + 1, second + 3 * 86_400) if shows_zero(at))

    # Then that is the window
    assert window_at(kind, timezone, instant) == Window(start * SECOND, end * SECOND)


@given(kinds, st.one_of(near_changes(), st.tuples(zones, instants)))
def test_each_instant_lies_in_exactly_one_period(
    kind: IntervalKind, place: tuple[str, int]
) -> None:
    """A period contains its instants, and its neighbours begin and end where it does."""
    timezone, instant = place
    assume(instant > 40 * DAY)
    window = window_at(kind, timezone, instant)
    assert window.start <= instant < window.end
    assert window_at(kind, timezone, window.start) == window
    assert window_at(kind, timezone, window.end - 1) == window
    assert window_at(kind, timezone, window.end).start == window.end
    assert window_at(kind, timezone, window.start - 1).end == window.start


@settings(max_examples=40)
@given(kinds, st.one_of(near_changes(), st.tuples(zones, instants)))
def test_a_walk_of_400_periods_has_no_gap_and_no_overlap(
    kind: IntervalKind, place: tuple[str, int]
) -> None:
    """Each next window starts where the one before ended, and is a whole period."""
    timezone, instant = place
    definition = Definition(total=1, interval=kind, timezone=timezone)
    walk = [first_window(definition, instant)]
    for _ in range(400):
        assert walk[-1] is not None
        walk.append(next_window(definition, walk[-1].end))
    for before, after in pairwise(walk):
        assert before is not None
        assert after is not None
        assert before.start < before.end == after.start < after.end
        assert after == window_at(kind, timezone, after.end - 1)


# When the day begins and ends in UTC, its hours, and why.
DAYS = """
Europe/Berlin        2026-03-28T23:00:00Z  2026-03-29T22:00:00Z  23    short
Europe/Berlin        2026-10-24T22:00:00Z  2026-10-25T23:00:00Z  25    long
America/New_York     2026-03-08T05:00:00Z  2026-03-09T04:00:00Z  23    short
America/New_York     2026-11-01T04:00:00Z  2026-11-02T05:00:00Z  25    long
Africa/Cairo         2026-04-23T22:00:00Z  2026-04-24T21:00:00Z  23    no midnight: begins at 01:00
America/Sao_Paulo    2017-10-15T03:00:00Z  2017-10-16T02:00:00Z  23    no midnight: begins at 01:00
America/Havana       2024-11-03T04:00:00Z  2024-11-04T05:00:00Z  25    midnight twice: the first
Atlantic/Azores      2026-10-25T00:00:00Z  2026-10-26T01:00:00Z  25    midnight twice: the first
America/St_Johns     2006-10-29T02:30:00Z  2006-10-30T03:30:00Z  25    at 00:01 it is 23:01 again
Australia/Lord_Howe  2026-10-03T13:30:00Z  2026-10-04T13:00:00Z  23.5  half an hour less
"""


@pytest.mark.parametrize("line", DAYS.strip().splitlines())
def test_days_on_which_the_clock_is_set(line: str) -> None:
    """Short and long days, and days with no midnight or two, begin at their first instant."""
    timezone, start, end, length, _ = line.split(maxsplit=4)
    day = Window(at(start), at(end))
    for instant in (day.start, day.start + 90 * SECOND, day.start + 12 * HOUR, day.end - 1):
        assert window_at("day", timezone, instant) == day
    assert hours(day) == float(length)


def test_a_date_that_a_zone_skipped_has_no_period() -> None:
    """Samoa had no 30 December 2011: the 31st follows the 29th, 24 hours long each."""
    thursday = window_at("day", "Pacific/Apia", at("2011-12-29T12:00:00Z"))
    saturday = window_at("day", "Pacific/Apia", thursday.end)
    assert shown(thursday) == ("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z")
    assert shown(saturday) == ("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z")
    assert start_of_day("Pacific/Apia", date(2011, 12, 30)) == saturday.start
    assert start_of_day("Pacific/Apia", date(2011, 12, 31)) == saturday.start


def test_the_first_instant_of_a_date_that_begins_late() -> None:
    """A leap over midnight that begins before it ends the old date early: 23:30 is 00:30."""
    assert format_instant(start_of_day("America/Toronto", date(1919, 3, 31))) == (
        "1919-03-31T04:30:00Z"
    )


@pytest.mark.parametrize(
    ("instant", "start", "end"),
    [
        # Set forward from 02:00 to 02:30: no clock shows 02:00, so the hour of 01:00 goes on.
        ("2026-10-03T15:45:00Z", "2026-10-03T14:30:00Z", "2026-10-03T16:00:00Z"),
        # Set back from 02:00 to 01:30: the hour of 01:00 shows its second half twice.
        ("2026-04-04T15:10:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"),
    ],
)
def test_an_hour_over_a_shift_of_30_minutes_is_longer(instant: str, start: str, end: str) -> None:
    """On Lord Howe an hour over the change lasts 90 minutes, as no other zero is shown."""
    assert shown(window_at("hour", "Australia/Lord_Howe", at(instant))) == (start, end)


def test_an_hour_that_is_shown_twice_is_two_hours() -> None:
    """When the clock goes from 03:00 to 02:00, each hour called 02 has a total of its own."""
    first = window_at("hour", "Europe/Berlin", at("2026-10-25T00:30:00Z"))
    second = window_at("hour", "Europe/Berlin", at("2026-10-25T01:30:00Z"))
    assert first.end == second.start
    assert hours(first) == hours(second) == 1


def test_weeks_start_on_monday() -> None:
    """A Sunday belongs to the week before; over a change of the clock a week has 167 hours."""
    sunday = window_at("week", "Europe/Berlin", at("2026-03-29T12:00:00Z"))
    assert shown(sunday) == ("2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z")
    assert hours(sunday) == 167


@pytest.mark.parametrize(("year", "days"), [(2024, 29), (2026, 28), (2000, 29), (2100, 28)])
def test_february_has_its_leap_day(year: int, days: int) -> None:
    """February is as long as the Gregorian calendar says."""
    assert hours(window_at("month", "UTC", at(f"{year}-02-10T00:00:00Z"))) == days * 24


def test_december_ends_with_the_year() -> None:
    """The month after December is the January of the next year."""
    december = window_at("month", "Asia/Tokyo", at("2026-12-31T14:59:59Z"))
    assert shown(december) == ("2026-11-30T15:00:00Z", "2026-12-31T15:00:00Z")


@pytest.mark.parametrize("kind", sorted(UNITS))
def test_the_first_and_the_last_instant_have_periods(kind: IntervalKind) -> None:
    """The calendar reaches as far as instants do, in the zones farthest from UTC."""
    for timezone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        for instant in (0, LAST_INSTANT):
            window = window_at(kind, timezone, instant)
            assert window.start <= instant < window.end


@pytest.mark.parametrize("instant", [-1, LAST_INSTANT + 1])
def test_an_instant_out_of_reach_is_refused(instant: int) -> None:
    """Outside the years 1970 to 9998 nothing is computed."""
    with pytest.raises(InvalidInput, match="1970 to 9998"):
        window_at("day", "UTC", instant)


def test_an_unknown_zone_is_refused() -> None:
    """A definition in a zone that this node does not know opens nothing."""
    with pytest.raises(InvalidDefinition, match="did you mean Europe/Berlin"):
        first_window(Definition(total=1, timezone="Europe/Berln"), 0)


def test_caps_of_one_zone_share_their_windows() -> None:
    """Whoever asks for the same period gets the same object, also through a definition."""
    noon = at("2026-11-21T12:00:00Z")
    window = window_at("day", "Europe/Berlin", noon)
    caps = [Definition(total=total, timezone="Europe/Berlin") for total in (1, 2)]
    assert all(first_window(cap, noon + HOUR) is window for cap in caps)
    assert all(next_window(cap, window.start) is window for cap in caps)


# Clipping: a cap from Wednesday 15:00 to Friday 09:00, in Berlin winter time.
CLIPPED = Definition(
    total=100,
    initial_total=40,
    timezone="Europe/Berlin",
    start=at("2026-11-18T14:00:00Z"),
    end=at("2026-11-20T08:00:00Z"),
)


def test_the_first_and_last_periods_are_clipped() -> None:
    """A cap has the rest of its first day, whole days between, and the morning of its last."""
    first = first_window(CLIPPED, 0)
    assert first is not None
    second = next_window(CLIPPED, first.end)
    assert second is not None
    third = next_window(CLIPPED, second.end)
    assert third is not None
    assert shown(first) == ("2026-11-18T14:00:00Z", "2026-11-18T23:00:00Z")
    assert shown(second) == ("2026-11-18T23:00:00Z", "2026-11-19T23:00:00Z")
    assert shown(third) == ("2026-11-19T23:00:00Z", "2026-11-20T08:00:00Z")
    assert next_window(CLIPPED, third.end) is None
    assert [opening_total(CLIPPED, window) for window in (first, second, third)] == [40, 100, 100]


def test_a_cap_that_is_over_has_no_first_window() -> None:
    """From its end on, a definition opens nothing; just before, the rest of the last day."""
    assert CLIPPED.end is not None
    assert first_window(CLIPPED, CLIPPED.end) is None
    assert shown(first_window(CLIPPED, CLIPPED.end - 1))[1] == "2026-11-20T08:00:00Z"


def test_without_a_start_the_running_period_is_whole() -> None:
    """A cap defined at noon has that whole day, with its whole total."""
    definition = Definition(total=100, initial_total=40)
    window = first_window(definition, at("2026-11-18T12:00:00Z"))
    assert shown(window) == ("2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z")
    assert window is not None
    assert opening_total(definition, window) == 100


def test_a_start_on_the_boundary_cuts_nothing() -> None:
    """A first period that begins with its day has the whole total."""
    start = start_of_day("Europe/Berlin", date(2026, 11, 18))
    definition = Definition(total=100, initial_total=40, timezone="Europe/Berlin", start=start)
    window = first_window(definition, 0)
    assert window is not None
    assert window.start == start
    assert opening_total(definition, window) == 100


def test_a_new_calendar_takes_over_in_the_middle_of_a_period() -> None:
    """After a change from Berlin days to UTC days, the next window is the rest of the UTC day."""
    berlin = window_at("day", "Europe/Berlin", at("2026-11-18T12:00:00Z"))
    window = next_window(Definition(total=100, initial_total=40, timezone="UTC"), berlin.end)
    assert shown(window) == ("2026-11-18T23:00:00Z", "2026-11-19T00:00:00Z")


def test_a_start_that_was_moved_later_leaves_a_pause() -> None:
    """A next window never begins before the definition does."""
    window = next_window(CLIPPED, at("2026-11-16T23:00:00Z"))
    assert shown(window) == ("2026-11-18T14:00:00Z", "2026-11-18T23:00:00Z")
    assert window is not None
    assert opening_total(CLIPPED, window) == 40


def test_a_single_interval_is_all_of_start_to_end() -> None:
    """A single has one window, from start to end, with the total, and none after it."""
    single = Definition(total=7, initial_total=3, interval="single", start=10, end=90)
    window = first_window(single, 50)
    assert window == Window(10, 90)
    assert opening_total(single, window) == 7
    assert next_window(single, 90) is None


def test_a_single_without_a_start_begins_when_asked() -> None:
    """Without a start a single begins at the instant that is given."""
    assert first_window(Definition(total=7, interval="single", end=90), 50) == Window(50, 90)


def test_a_single_that_was_prolonged_goes_on() -> None:
    """When the end moves, the next window is what was added."""
    assert next_window(Definition(total=7, interval="single", start=10, end=95), 90) == Window(
        90, 95
    )


def test_a_single_without_an_end_is_refused() -> None:
    """One interval that never ends cannot be opened."""
    endless = Definition(total=7, interval="single")
    with pytest.raises(InvalidDefinition, match="needs an end"):
        first_window(endless, 0)
    with pytest.raises(InvalidDefinition, match="needs an end"):
        next_window(endless, 0)


@given(
    kinds,
    st.one_of(near_changes(), st.tuples(zones, instants)),
    st.timedeltas(timedelta(microseconds=1), timedelta(days=3)),
)
def test_clipped_windows_tile_the_definition(
    kind: IntervalKind, place: tuple[str, int], length: timedelta
) -> None:
    """From the first window on, the windows cover start to end without gap or overlap."""
    timezone, start = place
    end = start + min(length // timedelta(microseconds=1), 200 * HOUR if kind != "minute" else HOUR)
    definition = Definition(total=1, interval=kind, timezone=timezone, start=start, end=end)
    window = first_window(definition, 0)
    reached = start
    while window is not None:
        assert window.start == reached
        assert window.end > reached
        reached = window.end
        window = next_window(definition, reached)
    assert reached == end
