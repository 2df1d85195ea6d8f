"""Stamps never fall, and what was caused never stands before its cause."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.decisions.meta import Define
from vcap_es.components.hybrid_clock import AHEAD_US, HybridClock
from vcap_es.components.messages.client import Consume
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    Definition,
    MetaDefined,
    MetaLearned,
    TransferReceived,
    TransferSent,
)
from vcap_es.events.sealing import recorded
from vcap_es.projections.global_order import in_order, number_after, place_of
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres

NOW = 1_763_683_200_000_000


@given(st.lists(st.tuples(st.booleans(), st.integers(-AHEAD_US * 3, AHEAD_US * 3)), max_size=40))
def test_stamps_never_fall_and_are_never_far_ahead(steps: list[tuple[bool, int]]) -> None:
    """Whatever clocks do and others tell: at most five seconds ahead of the largest clock seen."""
    clock, now, largest = HybridClock(NOW), NOW, NOW
    for is_heard, delta in steps:
        before = clock.stamp
        if is_heard:
            clock.hear("far", now + delta, now)
            assert ("far" in clock.ahead) == (delta > AHEAD_US)
        else:
            now += delta
            clock.tick(now)
        largest = max(largest, now)
        assert before <= clock.stamp <= largest + AHEAD_US


def test_a_number_counts_what_comes_before() -> None:
    """Without what is from before a data centre took part."""
    assert number_after({"a": 5, "b": 12}, {"a": 0, "b": 10}) == 7
    assert number_after({}, {"a": 3}) == 0


def order(centres: SimulatedCentres) -> list[Recorded]:
    """All events in one order, up to the watermark that every data centre has passed."""
    logs = [[*map(recorded, world.oracle.entries)] for world in centres.worlds.values()]
    watermark = min(log[-1].recorded_at for log in logs)
    return [each for each in in_order(logs) if each.recorded_at < watermark]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_appears_below_a_watermark(seed: int) -> None:
    """Under loss and the deaths of masters, what was told stays as it was; causes stand first."""
    random = Random(seed)
    post = MailConditions(lost_percent=20, repeated_percent=20, delay_us=(500, 80_000))
    centres = SimulatedCentres(
        ("east", "north", "south"), seed=seed, masters=2, witnesses=1, post=post
    )
    told: list[tuple[int, str, int]] = []
    watermarks = set()
    for turn in range(40):
        world = random.choice(list(centres.worlds.values()))
        leader = world.leader
        if leader is not None and random.random() < 0.2:
            leader.kill()
            world.later(random.randrange(500_000), leader.start_unless_running)
        elif leader is not None and not leader.is_paused:
            definition = Definition(total=50, placement="even")
            world.order(Define(cap=f"c{turn % 7}", definition=definition))
            world.servers[0].submit(Consume(cap=f"c{turn % 7}", minimum=5, maximum=5))
        centres.run(random.randrange(400_000))
        found = [place_of(each) for each in order(centres)]
        assert found[: len(told)] == told
        told = found
        watermarks.add(len(found))
    assert len(watermarks) > 10
    _causes_stand_first(order(centres))


def _causes_stand_first(events: list[Recorded]) -> None:
    defined, sent = set(), dict[tuple[str, int, str, str], int]()
    for event in events:
        match event.fact:
            case MetaDefined(cap=cap):
                defined.add(cap)
            case MetaLearned(cap=cap):
                assert cap in defined
            case TransferSent(cap=cap, number=number, to=to, moved=moved):
                sent[cap, number, event.dc, to] = moved
            case TransferReceived(cap=cap, number=number, source=source, moved=moved):
                assert sent[cap, number, source, event.dc] >= moved
            case _:
                pass
    assert defined
    assert sent
