"""A switchover that comes to nothing: what servers told meanwhile is not lost."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.master.outputs import Elsewhere
from vcap_es.components.messages.client import Consume
from vcap_es.sim.scenarios.small_world import until
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def who_asked_for_a_switchover_is_answered_though_nobody_leads() -> None:
    """Given that the other master and the witness die as the leader steps down, it says so."""
    world = World(1, masters=2, witnesses=1, timings=Timings())
    world.run(3 * SECOND)
    leader, token = world.leader, next(world.tokens)
    assert leader is not None
    assert leader.core is not None
    leader.core.switch_over(token, "operator", leader.moment)
    leader.flush()
    core = leader.core
    until(world, lambda: core.leadership is None)
    assert token not in world.command_answers
    world.masters[1].kill()
    world.servers[0].kill()
    world.run(3 * SECOND)
    assert world.command_answers[token] == Elsewhere(leader="", address="")


def what_servers_tell_while_a_switchover_fails_is_heard_later() -> None:
    """Given that the other master cannot be reached, the leader leads on, and knows of all."""
    world = World(1, masters=2, witnesses=1, timings=Timings())
    world.run(3 * SECOND)
    world.define("c", 100_000)
    server = world.servers[0]
    world.consume(server, "c")
    world.run(SECOND)
    world.network.cut("m0", "m1")
    leader = world.leader
    assert leader is not None
    assert leader.core is not None
    leader.core.switch_over(next(world.tokens), "operator", leader.moment)
    leader.flush()
    # When units are spent while it waits for the other one
    for _ in range(5):
        server.submit(Consume(cap="c", minimum=1, maximum=1))
        world.run(SECOND // 5)
    world.run(6 * SECOND)
    # Then
    assert world.leader is leader
    assert world.pool("c").peek(server.core.incarnation).spent == 6
