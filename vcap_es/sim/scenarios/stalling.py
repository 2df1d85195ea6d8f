"""A follower hears and answers, and stores nothing: nobody waits for it for long."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.decisions.meta import Define
from vcap_es.components.primary_master.leadership import Leadership
from vcap_es.components.primary_master.outputs import Done
from vcap_es.events.facts import Definition
from vcap_es.sim.scenarios.small_world import until
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def a_follower_that_stores_nothing_falls_out_of_sync() -> None:
    """Given a full disk there, the leader goes on alone; with room again, both are in sync."""
    world = _world()
    world.run(3 * SECOND)
    assert len(_isr(world)) == 2
    world.masters[1].log.is_full = True
    token = world.order(Define(cap="c", definition=Definition(total=10)))
    world.run(4 * SECOND)
    assert isinstance(world.command_answers.get(token), Done)
    assert len(_isr(world)) == 1
    world.masters[1].log.is_full = False
    world.run(5 * SECOND)
    assert len(_isr(world)) == 2


def a_follower_that_stores_nothing_does_not_hold_up_who_leads_alone() -> None:
    """Given that it comes with a full disk, it is not waited for again and again."""
    world = _world()
    world.masters[1].log.is_full = True
    world.run(8 * SECOND)
    answered = 0
    for number in range(20):
        answered += isinstance(world.define(f"c{number}", 10), Done)
        world.run(SECOND // 2)
    assert answered == 20


def a_leader_whose_disk_hangs_leaves_it_to_the_other_master() -> None:
    """Given that it answers heartbeats all the while, nobody would depose it: it must go."""
    world = _world()
    world.run(3 * SECOND)
    world.masters[0].log.is_hung = True
    world.order(Define(cap="c", definition=Definition(total=10)))
    world.run(4 * SECOND)
    assert world.leader is world.masters[1]
    token = world.order(Define(cap="d", definition=Definition(total=10)))
    world.run(SECOND)
    assert isinstance(world.command_answers.get(token), Done)
    world.masters[0].log.is_hung = False
    world.run(5 * SECOND)
    assert len(_isr(world)) == 2


def who_is_let_in_holds_up_nothing_for_long() -> None:
    """Given a follower that stores nothing while it is let in, the leader soon goes on alone."""
    world = _world()
    world.masters[1].log.is_full = True
    until(world, lambda: _leadership(world).awaited)
    token = world.order(Define(cap="c", definition=Definition(total=10)))
    world.run(SECOND // 2)
    assert isinstance(world.command_answers.get(token), Done)


def _leadership(world: World) -> Leadership:
    assert world.leader is not None
    assert world.leader.core is not None
    assert world.leader.core.leadership is not None
    return world.leader.core.leadership


def _world() -> World:
    return World(1, masters=2, witnesses=1, timings=Timings())


def _isr(world: World) -> tuple[str, ...]:
    return _leadership(world).config.isr
