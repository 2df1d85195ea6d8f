"""How far ahead a data centre asks for more."""

from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.remote_handler.spend_rate import SpendRate

SECOND = 1_000_000


def paced(per_second: int, seconds: int, round_trip_us: int) -> SpendRate:
    """What is known after some time of a steady pace, with wishes that took so long."""
    pace = SpendRate()
    for tenth in range(10 * seconds + 1):
        pace.note(tenth * per_second // 10, SECOND + tenth * SECOND // 10)
        pace.met(round_trip_us)
    return pace


def test_the_lead_is_what_leaves_in_two_round_trips() -> None:
    """1,000 a second and 160 ms: 320 units; nothing where nothing leaves."""
    assert abs(paced(1_000, 3, 160_000).lead - 320) <= 2
    assert paced(0, 3, 160_000).lead == 0
    assert SpendRate().lead == 0


def test_a_pace_that_ends_is_forgotten() -> None:
    """A second later nothing is asked for ahead."""
    pace = paced(1_000, 3, 160_000)
    for tenth in range(1, 12):
        pace.note(3_000, 4 * SECOND + tenth * SECOND // 10)
    assert pace.lead <= 1


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 10 * SECOND)), max_size=30))
def test_no_reading_leads_astray(readings: list[tuple[int, int]]) -> None:
    """What comes back, jumps, and times that are absurd: the lead stays a number from 0 on."""
    pace, now = SpendRate(), SECOND
    for left, step in readings:
        now += step
        pace.note(left, now)
        pace.met(step - SECOND)
        assert pace.lead >= 0
