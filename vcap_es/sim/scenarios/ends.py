"""The end of an interval: what is not spent by then is spent by nobody."""

from vcap_es.components.decisions.meta import Retire
from vcap_es.components.messages.client import Hold, Refund
from vcap_es.components.messages.outcomes import Held, Refunded, Refused
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import SECOND, idle, refused, taken, world_of
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World


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


def refunds_end_with_the_books_of_the_interval() -> None:
    """In the refund window after the end a refund is taken; after the last report it is not."""
    limits = Limits(refund_window_ms=1000)
    world = World(2, limits=limits, now=NOON + 55 * SECOND)
    world.define("c", 10, interval="minute")
    server = world.servers[0]
    first, second = taken(world, server, 3), taken(world, server, 3)
    # Given that another server keeps the interval from closing
    other = world.ask(world.servers[1], Hold(cap="c", amount=1, lifetime_ms=3_600_000))
    assert isinstance(other, Held)
    world.run(5_500_000)
    assert isinstance(world.ask(server, Refund(id=first.id)), Refunded)
    world.run(2_000_000)
    late = world.ask(server, Refund(id=second.id))
    assert isinstance(late, Refused)
    assert late.code == "ended"
    assert world.state.interval("c", 0) is not None
    # When the process dies, it forgets that it has told everything; the master has not
    server.restart()
    early = world.ask(server, Refund(id=second.id))
    assert isinstance(early, Refused)
    assert early.code == "unavailable"
    world.run(1_000_000)
    late = world.ask(server, Refund(id=second.id))
    assert isinstance(late, Refused)
    assert late.code == "ended"


def refunds_do_not_begin_again_after_a_last_word() -> None:
    """A server that starts anew does not know when an interval was ended early; the master does."""
    world = world_of(10, limits=Limits(refund_window_ms=1000))
    server, other = world.servers
    consumed = taken(world, server, 3)
    # Given that another server keeps the interval from closing
    held = world.ask(other, Hold(cap="c", amount=1, lifetime_ms=3_600_000))
    assert isinstance(held, Held)
    world.command(Retire(cap="c"))
    world.run(3 * SECOND)
    assert world.pool("c").peek(server.core.incarnation).final
    # When the process dies
    server.restart()
    world.run(100_000)
    # Then
    late = world.ask(server, Refund(id=consumed.id))
    assert isinstance(late, Refused), late
    assert late.code == "ended"
