"""Servers that die, journals that are copied, and what is known after a start."""

import copy

from vcap_es.components.messages.client import Hold
from vcap_es.components.messages.outcomes import Consumed, Held
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.facts import IntervalClosed, ToppedUp
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import (
    SECOND,
    idle,
    submit,
    taken,
    until,
    world_of,
)
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World


def a_journal_that_is_an_old_copy_is_abandoned() -> None:
    """A server whose journal is older than what the master has seen stops, and spends none."""
    world = world_of(10)
    server = world.servers[0]
    idle(world, server, 5)
    old = copy.deepcopy(server.disk)
    for _ in range(4):
        taken(world, server, 1)
    world.run(2 * SECOND)
    server.kill()
    server.disk = old
    world.may_abandon = True
    before = len(server.answers)
    server.start(same_boot=True)
    submit(server, 1)
    world.run(SECOND)
    assert not [each for each in list(server.answers.values())[before:] if _is_yes(each)]
    assert "old copy" in server.abandoned
    # When it starts anew, what the old incarnation held stays held
    server.start_anew()
    world.run(SECOND)
    assert world.take_all("c") == 5
    assert world.pool("c").held == 1


def _is_yes(answer: object) -> bool:
    return isinstance(answer, Consumed)


def two_copies_of_a_journal_do_not_serve_side_by_side() -> None:
    """The second session of one incarnation is not let in while the first is connected.

    Others hear nothing of it, wherever it says that it is reached.
    """
    world = world_of(10)
    server = world.servers[0]
    idle(world, server, 5)
    twin = ServerProcess(world, "twin", Limits())
    twin.kill()
    twin.disk = copy.deepcopy(server.disk)
    twin.start(same_boot=True)
    world.run(100_000)
    assert any("copied" in reason for reason in world.closings)
    assert not isinstance(world.consume(twin, "c"), Consumed)
    taken(world, server, 1)
    assert world.state.nodes[server.core.incarnation].name == server.name


def an_open_hold_counts_as_committed_when_the_machine_was_lost() -> None:
    """After the loss of the machine a hold never comes back by itself, also after more restarts."""
    world = world_of(10)
    server = world.servers[0]
    held = world.ask(server, Hold(cap="c", amount=5, lifetime_ms=1000))
    assert isinstance(held, Held)
    taken(world, server, 5)  # with an fsync, so that the hold outlives the machine
    server.restart(same_boot=False)
    world.run(2 * SECOND)
    server.restart()
    world.run(2 * SECOND)
    assert world.take_all("c") == 0


def a_grant_that_was_never_heard_of_is_found_again() -> None:
    """A server that dies before a grant comes is reminded: the books close with nothing lost."""
    # Given units on their way to a server that dies, and is away until the interval is over
    world = World(1, limits=Limits(refund_window_ms=100), now=NOON + 55 * SECOND)
    watch(world)
    world.define("c", 10, interval="minute")
    server = world.servers[0]
    world.network.clog("m0", "s0", 40)
    submit(server, 5)
    until(world, lambda: world.facts(ToppedUp))
    server.kill()
    world.network.clog("m0", "s0", 0)
    world.run(10 * SECOND)
    assert not world.facts(IntervalClosed)
    # When it comes back
    server.start(same_boot=True)
    world.run(5 * SECOND)
    # Then it gives back what it never knew of
    assert [each.unreported for each in world.facts(IntervalClosed)] == [0]


def a_server_that_starts_again_is_heard() -> None:
    """What it needs after a start is newer than all that it said before."""
    world = world_of(100)
    server = world.servers[0]
    for _ in range(20):
        taken(world, server, 1)
    server.restart()
    world.run(100_000)
    taken(world, server, 50)
