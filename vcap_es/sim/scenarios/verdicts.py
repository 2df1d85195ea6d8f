"""When `capped` may be said: by a verdict that is true still, and never by guess."""

from vcap_es.components.decisions.meta import Define
from vcap_es.components.messages.client import Refund
from vcap_es.components.messages.outcomes import Refunded
from vcap_es.events.facts import Definition
from vcap_es.sim.scenarios.small_world import (
    SECOND,
    idle,
    refused,
    submit,
    taken,
    until,
    world_of,
)
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World


def what_is_left_is_served_after_a_refusal() -> None:
    """A refusal of five says nothing against the three that there are."""
    world = world_of(3)
    server = world.servers[0]
    assert refused(world, server, 5) == "capped"
    taken(world, server, 3)


def a_refund_makes_verdicts_void() -> None:
    """Who was told that nothing is left is served when something came back elsewhere."""
    world = world_of(5)
    one, other = world.servers
    spent = taken(world, one, 5)
    assert refused(world, other, 4) == "capped"
    assert isinstance(world.ask(one, Refund(id=spent.id)), Refunded)
    world.run(100_000)
    taken(world, other, 4)


def a_raised_total_makes_verdicts_void() -> None:
    """Who was told that nothing is left is served when there is more."""
    world = world_of(5)
    one, other = world.servers
    taken(world, one, 5)
    assert refused(world, other, 4) == "capped"
    world.define("c", 10)
    world.run(100_000)
    taken(world, other, 4)


def a_server_that_comes_with_units_makes_verdicts_void() -> None:
    """Who was told that nothing is left is served from a server that was out of reach."""
    world = world_of(5)
    one, other = world.servers
    idle(world, one, 5)
    world.cut.add("s0")
    one.disconnect()
    world.run(100_000)
    assert refused(world, other, 4) == "capped"
    world.cut.clear()
    until(world, lambda: one.connection)
    world.run(100_000)
    taken(world, other, 4)


def nobody_is_capped_by_an_old_verdict() -> None:
    """A server without contact does not know what is left, and does not say that nothing is."""
    world = world_of(5)
    one, other = world.servers
    taken(world, one, 5)
    assert refused(world, other, 1) == "capped"
    world.cut.add("s1")
    other.disconnect()
    world.define("c", 10)
    world.run(2 * SECOND)
    assert refused(world, other, 1) == "unavailable"


def a_deposed_master_refuses_nobody() -> None:
    """A master that another one has replaced without its knowing says nothing any more."""
    # Given two masters in sync with a witness, and a cap of which all is spent
    world = World(3, masters=2, witnesses=1)
    watch(world)
    world.run(3 * SECOND)
    leader, partner = world.masters
    assert world.leader is leader
    assert leader.core is not None
    assert leader.core.leadership is not None
    assert len(leader.core.leadership.config.isr) == 2
    witness, lonely, other = world.servers
    world.define("c", 5)
    taken(world, lonely, 1)
    taken(world, other, 4)
    world.run(3 * SECOND)  # all is told and committed
    # When the leader is left with one server alone
    for one, another in ((leader, partner), (leader, witness), (leader, other), (partner, lonely)):
        world.network.cut(one.name, another.name)
        world.network.cut(another.name, one.name)
        world.network.reset(one, another)
    until(world, lambda: world.leader is partner)
    # And its successor acknowledges that there is more
    raised = world.order(Define(cap="c", definition=Definition(total=10)))
    until(world, lambda: raised in world.command_answers)
    # Then nobody is told that there is nothing
    assert leader.core.leadership is not None, "it knows that it is deposed"
    token = submit(lonely, 6)
    world.run(60_000)
    assert lonely.answers[token].code == "unavailable"  # type: ignore[attr-defined]  # it is refused
