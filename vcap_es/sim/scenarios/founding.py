"""A cluster that is founded beside another one, by mistake: neither obeys or believes the other."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.primary_master.outputs import Done
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.world import World

SECOND = 1_000_000
STARTS = 10
"""How many times the foreign master is restarted alone, so that its epoch is the higher one."""


def a_foreign_leader_is_not_obeyed() -> None:
    """Given a higher epoch and an empty log, the healthy master leads on with what it has."""
    world = _world_with_a_foreign_master()
    healthy = world.masters[1]
    assert healthy.core is not None
    must(healthy.core.role == "leading", "F1", "the healthy master obeys a foreign one")
    must("c" in healthy.core.state.metas, "F1", "the caps are gone")


def a_server_does_not_serve_from_a_foreign_leader() -> None:
    """Given that one with a higher epoch speaks to it, it serves what its own masters gave."""
    world = _world_with_a_foreign_master()
    server = world.servers[0]
    must(server.serves_from is world.masters[1], "F1", "a server follows a foreign master")
    answer = world.consume(server, "c", 1)
    must(isinstance(answer, Consumed), "F1", f"a server of the healthy cluster says {answer}")


def an_empty_store_stays_in_the_cluster_that_it_joined() -> None:
    """Given a foreign leader that comes later, the copy goes on with its own."""
    world = _world_of_two()
    copy = world.masters[1]
    copy.kill()
    copy.lose_disk()
    copy.start()
    _until_in_sync(world)
    must(copy.ballots.ballot.cluster == world.cluster, "F1", "it has joined no cluster")
    _meet_a_foreign_master(world)
    must(copy.ballots.ballot.cluster == world.cluster, "F1", "it has joined another one")
    must("c" in copy.core.state.metas if copy.core else False, "F1", "the caps are gone")


def _world_of_two() -> World:
    """Two masters in sync, a witness, and the cap `c` of which something is spent."""
    world = World(2, masters=2, witnesses=1, timings=Timings())
    _until_in_sync(world)
    must(isinstance(world.define("c", 100), Done), "F1", "nothing can be defined")
    must(isinstance(world.consume(world.servers[0], "c", 7), Consumed), "F1", "nothing is served")
    return world


def _world_with_a_foreign_master() -> World:
    """The first master has died for good, and one of another cluster is where it was."""
    world = _world_of_two()
    world.masters[0].kill()
    world.run(2 * SECOND)
    _meet_a_foreign_master(world)
    return world


def _meet_a_foreign_master(world: World) -> None:
    other = World(0, cluster="foreign", scheduler=world.scheduler)
    other.network = world.network
    foreign = other.masters[0]
    for _ in range(STARTS):
        world.run(SECOND)
        foreign.kill()
        foreign.start()
    # Everybody is told where it is, as by a setting or an old address book
    other.master_parties.append(world.masters[1])
    world.master_parties.append(foreign)
    foreign.kill()
    foreign.start()
    for server in world.servers:
        server.restart()
    world.run(5 * SECOND)


def _until_in_sync(world: World) -> None:
    for _ in range(1000):
        world.run(10_000)
        leader = world.leader
        core = leader.core if leader is not None else None
        config = core.config if core is not None else None
        if config is not None and _is_whole(config):
            return
    raise AssertionError("the two masters are never in sync, with a witness that votes")


def _is_whole(config: Config) -> bool:
    return (len(config.isr), len(config.voters), len(config.before)) == (2, 3, 0)
