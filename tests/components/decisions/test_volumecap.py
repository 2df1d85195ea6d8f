"""How much is granted: never past the pool, never ahead of the release."""

from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.decisions.volumecap import free, released, released_at, share
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.places import Pool

AMOUNTS = st.integers(0, 2**63 - 1)
START = 1_767_268_800_000_000


def interval_of(minted: int, available: int, length: int) -> Interval:
    """An interval with this much minted, and this much available."""
    return Interval(0, START, START + length, Pool(minted=minted, available=available))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 1000))
def test_a_share_is_within_what_there_is(available: int, active: int) -> None:
    """The shares of all active servers together take at most half of what there is."""
    assert 0 <= share(available, active) * max(1, active) <= max(0, available) // 2


@given(AMOUNTS, st.integers(1, 10**12), st.lists(st.integers(-(10**12), 2 * 10**12), min_size=2))
def test_the_release_grows_to_the_whole_total(minted: int, length: int, ats: list[int]) -> None:
    """Nothing before the start, all at the end, and never less than before."""
    interval = interval_of(minted, minted, length)
    amounts = [released(interval, START + at) for at in sorted(ats)]
    assert amounts == sorted(amounts)
    assert released(interval, START) == 0
    assert released(interval, START + length) == minted


@given(st.data(), st.integers(1, 2**62), st.integers(1, 10**12))
def test_what_is_missing_is_free_exactly_when_it_is_said(
    data: st.DataObject, minted: int, length: int
) -> None:
    """At the instant named so much is released, and a microsecond before it is not."""
    available = data.draw(st.integers(1, minted))
    missing = data.draw(st.integers(1, available))
    interval = interval_of(minted, available, length)
    instant = released_at(interval, missing)
    assert START < instant <= START + length
    assert free(interval, instant) >= missing
    assert free(interval, instant - 1) < missing
