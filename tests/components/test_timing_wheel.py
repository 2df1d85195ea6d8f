"""Alarms ring in order, never early, late by a tick at most, and cost the same however many."""

from bisect import insort
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vcap_es.components import timing_wheel
from vcap_es.components.timing_wheel import STEPS_MAX, TICK_NS, Alarm, TimingWheel

MS, SECOND, HOUR = 10**6, 10**9, 3600 * 10**9
BOOTED = 10**12

LEVELS = 5
"""So many levels hold alarms that are less than two weeks ahead."""

delays = st.one_of(st.integers(-5 * MS, 5 * MS), st.integers(0, HOUR), st.integers(0, 2**62))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), delays),
        st.tuples(st.just("call off"), st.integers(0, 50)),
        st.tuples(st.just("pass"), delays),
    ),
    max_size=60,
)


class Book:
    """What a wheel should do, worked out from a sorted list."""

    def __init__(self) -> None:
        self.now_ns = self.count = 0
        self.due: list[tuple[int, int]] = []
        self.at_ns: dict[int, int] = {}

    def set(self, at_ns: int) -> int:
        """The number of one more alarm."""
        self.count += 1
        tick = max(-(-at_ns // TICK_NS), self.now_ns // TICK_NS)
        insort(self.due, (tick, self.count))
        self.at_ns[self.count] = at_ns
        return self.count

    def pass_until(self, now_ns: int) -> list[int]:
        """The numbers of the alarms that ring, in order."""
        self.now_ns = max(self.now_ns, now_ns)
        rung = [number for tick, number in self.due if tick <= self.now_ns // TICK_NS]
        del self.due[: len(rung)]
        return rung


def noting(rung: list[int], number: int) -> Callable[[int], None]:
    """A ring that writes its number down."""
    return lambda _: rung.append(number)


def ring_all(wheel: TimingWheel, now_ns: int) -> None:
    """Call the wheel until nothing is due at this moment."""
    wheel.ring(now_ns)
    while wheel.next_ns is not None and wheel.next_ns <= now_ns:
        wheel.ring(now_ns)


@pytest.mark.parametrize("steps", [1, 3, STEPS_MAX])
@given(operations=operations)
@example(operations=[("pass", SECOND), ("set", -MS), ("set", -5 * MS), ("pass", 0)])
def test_alarms_ring_by_tick_and_then_as_they_were_set(
    steps: int, operations: list[tuple[str, int]]
) -> None:
    """Whatever is set, called off and let pass, the wheel does what a sorted list would do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing_wheel, "STEPS_MAX", steps)
        wheel, book = TimingWheel(), Book()
        alarms: dict[int, Alarm] = {}
        rung: list[int] = []
        for what, value in operations:
            if what == "set":
                number = book.set(book.now_ns + value)
                alarms[number] = wheel.at(book.now_ns + value, noting(rung, number))
            elif what == "call off" and value in alarms:
                wheel.call_off(alarms[value])
                book.due = [each for each in book.due if each[1] != value]
            elif what == "pass":
                rung.clear()
                expected = book.pass_until(book.now_ns + value)
                ring_all(wheel, book.now_ns)
                assert rung == expected
                for number in rung:
                    assert book.at_ns[number] <= book.now_ns, "early"
            assert len(wheel) == len(book.due)
            assert (wheel.next_ns is None) == (not book.due)
            if wheel.next_ns is not None:
                assert wheel.next_ns <= book.due[0][0] * TICK_NS


def test_an_alarm_is_late_by_less_than_a_tick() -> None:
    """Who calls when the wheel wants it rings every alarm within a tick, and calls rarely."""
    random, wheel = Random(1), TimingWheel()
    wheel.ring(BOOTED)
    late: list[int] = []

    def note(at_ns: int) -> Callable[[int], None]:
        return lambda now_ns: late.append(now_ns - at_ns)

    for _ in range(2000):
        at_ns = BOOTED + random.randrange(10 ** random.randrange(1, 16))
        wheel.at(at_ns, note(at_ns))
    calls = 0
    while (next_ns := wheel.next_ns) is not None:
        wheel.ring(next_ns)
        calls += 1
    assert len(late) == 2000
    assert min(late) >= 0
    assert max(late) < TICK_NS
    assert calls <= 2000 * LEVELS


def test_what_is_set_or_called_off_while_others_ring() -> None:
    """An alarm may set another one that is due at once, and call off one that would be next."""
    wheel, rung = TimingWheel(), list[int]()
    third = wheel.at(3 * TICK_NS, noting(rung, 3))

    def first(now_ns: int) -> None:
        rung.append(1)
        wheel.call_off(third)
        wheel.at(now_ns, noting(rung, 4))
        wheel.at(2 * TICK_NS, noting(rung, 2))

    wheel.at(2 * TICK_NS, first)
    wheel.at(9 * TICK_NS, noting(rung, 9))
    wheel.ring(5 * TICK_NS)
    # Number 4 was set for tick 5, after number 2 was due.
    assert rung == [1, 2, 4]
    wheel.call_off(third)
    assert len(wheel) == 1


def test_no_call_does_more_than_its_share() -> None:
    """Of many alarms that are due at once each call rings so many, and says that it is not done."""
    wheel, rung = TimingWheel(), list[int]()
    at_ns = BOOTED + 100 * SECOND
    wheel.ring(BOOTED)
    for number in range(5 * STEPS_MAX):
        wheel.at(at_ns, noting(rung, number))
    sizes: list[int] = []
    while wheel.next_ns is not None:
        before = len(rung) + wheel.alarms_moved
        wheel.ring(at_ns + TICK_NS)
        sizes.append(len(rung) + wheel.alarms_moved - before)
        if len(sizes) == 2:  # one that is set in between rings after those that fall still
            wheel.at(at_ns, noting(rung, 5 * STEPS_MAX))
    assert max(sizes) == STEPS_MAX
    assert rung == list(range(5 * STEPS_MAX + 1))


def test_a_jump_of_the_clock_visits_no_empty_slot() -> None:
    """Ten years ahead, with an alarm a year: no more slots are entered than lead to an alarm."""
    wheel, rung = TimingWheel(), list[int]()
    wheel.ring(BOOTED)
    year = 365 * 24 * HOUR
    for number in range(10):
        wheel.at(BOOTED + number * year, noting(rung, number))
    ring_all(wheel, BOOTED + 10 * year)
    assert rung == list(range(10))
    levels = 7  # a year is 2**54.8 ns: of six bits each, above the bits of a tick
    assert wheel.slots_entered <= 10 * levels
    # And with nothing to do there is nothing to enter.
    wheel.ring(BOOTED + 20 * year)
    assert wheel.slots_entered <= 10 * levels
    assert wheel.next_ns is None


def test_alarms_called_off_leave_nothing_behind() -> None:
    """Consumes that were served at once leave no alarms, no work and no reason to wake up."""
    wheel = TimingWheel()
    wheel.ring(BOOTED)
    for delay_ns in range(0, HOUR, HOUR // 10_000):
        alarm = wheel.at(BOOTED + delay_ns, lambda _: None)
        wheel.call_off(alarm)
        wheel.call_off(alarm)
        assert len(wheel) == 0
        assert wheel.next_ns is None
    wheel.ring(BOOTED + 2 * HOUR)
    assert (wheel.slots_entered, wheel.alarms_moved) == (0, 0)


def work_of_a_second(wheel: TimingWheel, now_ns: int) -> tuple[int, int]:
    """Slots entered and alarms moved in a second in which something waits now and then."""
    before = (wheel.slots_entered, wheel.alarms_moved)
    for at_ns in range(now_ns, now_ns + SECOND, MS):
        if at_ns % (50 * MS) == 0:
            wheel.at(at_ns + 20 * MS, lambda _: None)
        wheel.ring(at_ns)
        assert wheel.next_ns is not None
    return wheel.slots_entered - before[0], wheel.alarms_moved - before[1]


def test_a_million_alarms_cost_each_what_ten_cost() -> None:
    """None is looked at before its time, and each moves down at most once a level."""
    # Given ten alarms in one wheel and a million in the other, all between one and two hours ahead
    wheels, counts = (TimingWheel(), TimingWheel()), (10, 1_000_000)
    rung = 0

    def ring(_: int) -> None:
        nonlocal rung
        rung += 1

    for wheel, count in zip(wheels, counts, strict=True):
        wheel.ring(BOOTED)
        for each in range(count):
            wheel.at(BOOTED + HOUR + each * HOUR // count, ring)
    # When a second passes in which they do not matter
    few, many = (work_of_a_second(wheel, BOOTED) for wheel in wheels)
    # Then it costs the same in both
    assert few == many
    # And when they are due, one of a million costs no more than one of ten
    for wheel in wheels:
        while wheel.next_ns is not None:
            wheel.ring(wheel.next_ns)
    assert rung == sum(counts)
    few_done, many_done = (each.slots_entered + each.alarms_moved for each in wheels)
    assert many_done * counts[0] <= few_done * counts[1]
    assert wheels[1].alarms_moved <= LEVELS * counts[1]
