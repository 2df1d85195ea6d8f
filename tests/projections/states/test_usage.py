"""What closed intervals have used: in few records, and never too little."""

from hypothesis import given
from hypothesis import strategies as st

from vcap_es.projections.states.usage import HOUR_US, USAGES_MAX, Usage, noted

MINUTE_US = HOUR_US // 60
USED = st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 50)), max_size=60)


@given(USED, st.integers(0, 100_000), st.integers(1, 50_000))
def test_no_period_counts_less_than_was_used_in_it(
    used: list[tuple[int, int]], first: int, minutes: int
) -> None:
    """However much is put together, each period counts at least all that overlaps it."""
    usages: tuple[Usage, ...] = ()
    every = [Usage(at * MINUTE_US, (at + 1) * MINUTE_US, units) for at, units in used]
    for each in every:
        usages = noted(usages, each)
    assert len(usages) <= USAGES_MAX
    start, end = first * MINUTE_US, (first + minutes) * MINUTE_US
    least = sum(each.units for each in every if each.overlaps(start, end))
    assert sum(each.units for each in usages if each.overlaps(start, end)) >= least


def test_minutes_of_an_hour_become_one_before_hours_do() -> None:
    """After a day of minutes, the hour that is open is still told from the one before."""
    usages: tuple[Usage, ...] = ()
    for minute in range(6 * 60):
        usages = noted(usages, Usage(minute * MINUTE_US, (minute + 1) * MINUTE_US, 1))
    last = 5 * HOUR_US
    assert sum(each.units for each in usages if each.overlaps(last, last + HOUR_US)) == 60
