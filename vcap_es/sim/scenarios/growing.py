"""Voters are let in: whoever dies or falls silent just then, somebody leads afterwards."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.primary_master.leadership import Leadership
from vcap_es.components.primary_master.outputs import Done
from vcap_es.sim.world.world import World

SECOND = 1_000_000
STEP_US, STEPS_MAX = 20, 100_000


def voters_are_let_in_at_once() -> None:
    """Given that all are there, they vote at the first heartbeat, though it takes three changes."""
    world = World(3, masters=2, witnesses=3, timings=Timings())
    world.run(SECOND * 3 // 20)
    config = _leadership(world).config
    assert (len(config.isr), len(config.voters), config.before) == (2, 5, ())


def a_leader_that_dies_while_it_lets_voters_in_leads_again() -> None:
    """Given new voters on its disk alone, when it starts again, they are able to vote for it."""
    world = _world_that_lets_in(3)
    first = world.leader
    assert first is not None
    world.cut.add(first.name)
    while first.ballots.writing is not None:
        world.run(STEP_US)
    first.kill()
    assert first.ballots.ballot.config is not None
    assert first.ballots.ballot.config.before, "the proposal is on the disk"
    world.cut.clear()
    first.start()
    world.run(5 * SECOND)
    assert world.leader is not None, "nobody leads"


def voters_that_fall_silent_before_they_are_let_in_are_given_up() -> None:
    """Given that the leader decides alone, it goes on alone, whoever was about to vote."""
    world = _world_that_lets_in(1)
    world.cut.update({"m1", "s0"})
    world.run(5 * SECOND)
    assert isinstance(world.define("c", 10), Done)
    leadership = _leadership(world)
    assert leadership.config.voters == leadership.config.isr
    # When they are there again, they vote
    world.cut.clear()
    world.run(5 * SECOND)
    assert len(_leadership(world).config.voters) == 3


def _world_that_lets_in(witnesses: int) -> World:
    """A data centre whose leader has just proposed that others vote too."""
    world = World(3, masters=2, witnesses=witnesses, timings=Timings())
    for _ in range(STEPS_MAX):
        world.run(STEP_US)
        proposal = _leadership(world).proposal if world.leader is not None else None
        if proposal is not None and proposal.before:
            return world
    raise AssertionError("no other voters were ever proposed")


def _leadership(world: World) -> Leadership:
    assert world.leader is not None
    assert world.leader.core is not None
    assert world.leader.core.leadership is not None
    return world.leader.core.leadership
