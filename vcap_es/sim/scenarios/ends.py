"""The end of an interval: what is not spent by then is spent by nobody."""

from vcap_es.sim.invariants import watch
from vcap_es.sim.scenarios.small_world import SECOND, idle, refused, world_of
from vcap_es.sim.site import NOON
from vcap_es.sim.world import World


def nothing_is_spent_after_the_end_without_contact() -> None:
    """A server that cannot hear of the end knows by its own clock when it is surely not yet."""
    world = World(1, now=NOON + 50 * SECOND)
    watch(world)
    world.define("c", 10, interval="minute")
    server = world.servers[0]
    idle(world, server, 5)
    world.cut.add("s0")
    server.disconnect()
    world.run(20 * SECOND)
    assert refused(world, server, 5) == "unavailable"


def a_lowered_total_is_called_back() -> None:
    """Units that a server holds idle when the total falls below them are not spent any more."""
    world = world_of(100)
    server = world.servers[0]
    idle(world, server, 50)
    world.define("c", 40)
    world.run(2 * SECOND)
    assert world.take_all("c", [server]) == 40
