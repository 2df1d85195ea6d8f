"""Amounts at their bounds: the cap is refused by its name, and everything else goes on."""

from vcap_es.components.messages.client import Consume, Refund
from vcap_es.components.messages.outcomes import Consumed, Refunded, Refused
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.sim.lives.bounds import no_number_ends_a_process
from vcap_es.sim.scenarios.small_world import SECOND, world_of
from vcap_es.sim.world.centres import SimulatedCentres
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World


def what_a_server_cannot_count_is_refused_by_its_name() -> None:
    """Taken and refunded again and again: first the server cannot count it, then nobody can."""
    with no_number_ends_a_process():
        world = world_of(MAX_AMOUNT)
        world.define("beside", 5)
        for server in world.servers:
            _take_and_refund(world, server)
            world.run(SECOND)
        refused = world.consume(world.servers[0], "c")
        assert isinstance(refused, Refused), refused
        assert (refused.code, refused.cap) == ("counted_out", "c")
        assert "interval 0" in refused.detail
        for server in world.servers:
            assert isinstance(world.consume(server, "beside"), Consumed)
            server.restart()
        world.kill_master()
        world.start_master()
        world.run(SECOND)
        assert isinstance(world.consume(world.servers[1], "beside"), Consumed)


def what_cannot_be_moved_between_data_centres_stays_where_it_is() -> None:
    """All of it goes there, comes back, and can go there no more: it is served where it lies."""
    with no_number_ends_a_process():
        centres = SimulatedCentres(("a", "b"))
        centres.define("a", "c", MAX_AMOUNT, placement="even")
        centres.define("a", "beside", 10, placement="even")
        centres.run(2 * SECOND)
        for name in ("b", "a", "b"):
            world = centres[name]
            _take_and_refund(world, world.servers[0], tries=40)
            centres.run(SECOND)
        sent = centres["a"].pool("c").sent["b"]
        assert sent.moved <= MAX_AMOUNT
        for name in ("a", "b"):
            assert centres.consume(name, "beside", tries=20)


def _take_and_refund(world: World, server: ServerProcess, tries: int = 1) -> None:
    """Take as much as there is, and give it back."""
    for _ in range(tries):
        taken = world.ask(server, Consume(cap="c", minimum=1, maximum=MAX_AMOUNT))
        if isinstance(taken, Consumed):
            assert isinstance(world.ask(server, Refund(id=taken.id)), Refunded)
            if taken.consumed == MAX_AMOUNT:
                return
        world.run(SECOND // 5)
