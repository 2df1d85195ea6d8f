"""The fold of primacy: what was decided last, and how often the rest came to pass."""

import pytest

from vcap_es.events.facts import (
    ClusterCreated,
    ConfigDecided,
    DivergenceTruncated,
    EpochStarted,
    Fact,
    PromotionForced,
    SecondarySpawned,
    SwitchoverStarted,
)
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.projections.states.primacy import FORCED_MAX, Primacy

CREATED = ClusterCreated(cluster="c1" * 16, dc="north", master="m0-a")
ALONE = ConfigDecided(epoch=2, version=1, isr=["m0-a"], voters=["m0-a"])
BOTH = ConfigDecided(epoch=2, version=2, isr=["m0-a", "m1-b"], voters=["m0-a"])


def folded(facts: list[Fact]) -> DataCentre:
    """The state after the facts."""
    fold = Fold()
    for fact in facts:
        fold.evolve(fact)
    return fold.state


def forced(committed: int) -> PromotionForced:
    """Two operators let a master lead."""
    return PromotionForced(
        leader="m1-b", approved_by=["key-1", "key-2"], isr=["m0-a"], committed=committed
    )


def test_the_life_of_a_cluster_is_folded() -> None:
    """The newest of each kind is kept, and the rest is counted."""
    spawns = [SecondarySpawned(slot=1, spawn=spawn, host="h") for spawn in ("5a", "5b")]
    switchovers = [SwitchoverStarted(to=node) for node in ("m1-b", "m0-a", "m1-b")]
    diverged = DivergenceTruncated(node="m0-a", after=9, count=2, link=bytes(32))
    started = EpochStarted(epoch=2, leader="m0")
    state = folded(
        [CREATED, started, ALONE, *spawns, BOTH, *switchovers, diverged, forced(7)],
    )
    assert (state.epoch, state.leader) == (2, "m0")
    assert state.primacy == Primacy(
        cluster="c1" * 16,
        config=BOTH,
        spawned=2,
        spawn=spawns[1],
        switchovers=3,
        switchover=switchovers[2],
        divergences=1,
        forced=[forced(7)],
    )


def test_a_log_that_began_without_a_founding_is_valid() -> None:
    """Its cluster has no id, and everything else is as ever."""
    state = folded([EpochStarted(epoch=1, leader="m0"), ALONE])
    assert (state.primacy.cluster, state.primacy.config) == ("", ALONE)


def test_a_cluster_is_created_once() -> None:
    """A second founding cannot be folded."""
    with pytest.raises(AssertionError, match="once"):
        folded([CREATED, CREATED])


def test_forced_promotions_are_bounded() -> None:
    """The last ones are remembered, oldest first."""
    state = folded([forced(number) for number in range(FORCED_MAX + 3)])
    assert [each.committed for each in state.primacy.forced] == [*range(3, FORCED_MAX + 3)]


def test_a_state_is_not_shared() -> None:
    """What one fold takes in is not in a fresh one."""
    folded([forced(1), CREATED])
    assert Fold().state.primacy == Primacy()
