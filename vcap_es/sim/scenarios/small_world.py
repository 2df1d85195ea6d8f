"""A small data centre for scenarios, every step of which is checked."""

from collections.abc import Callable

from vcap_es.components.messages.client import Cancel, Consume, Hold
from vcap_es.components.messages.outcomes import Consumed, Held, Refused, Settled
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def world_of(
    total: int, servers: int = 2, *, limits: Limits | None = None, faults: Faults | None = None
) -> World:
    """Some servers, and the cap `c`."""
    world = World(servers, limits=limits, faults=faults)
    watch(world)
    world.define("c", total)
    return world


def idle(world: World, server: ServerProcess, amount: int, cap: str = "c") -> None:
    """Let a server hold so many units that it does not need."""
    held = world.ask(server, Hold(cap=cap, amount=amount, lifetime_ms=1000))
    assert isinstance(held, Held)
    assert isinstance(world.ask(server, Cancel(id=held.id)), Settled)


def taken(world: World, server: ServerProcess, amount: int) -> Consumed:
    """A consume that is served."""
    answer = world.consume(server, "c", amount)
    assert isinstance(answer, Consumed), answer
    return answer


def refused(world: World, server: ServerProcess, amount: int) -> str:
    """Why a consume is refused."""
    answer = world.consume(server, "c", amount)
    assert isinstance(answer, Refused), answer
    return answer.code


def submit(server: ServerProcess, amount: int) -> int:
    """Ask for a consume without waiting for its answer, which has this token."""
    return server.submit(Consume(cap="c", minimum=amount, maximum=amount))


def until(world: World, holds: Callable[[], object]) -> None:
    """Let time pass until it holds, a second at most."""
    for _ in range(10_000):
        if holds():
            return
        world.run(100)
    raise AssertionError("it has not come about within a second")
