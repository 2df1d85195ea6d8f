"""A restored log lacks what was granted after its backup: no period is served twice for that."""

from collections.abc import Callable

from vcap_es.components.decisions.restore import AcceptLoss
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.primary_master.outputs import Done
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.sim.scenarios.small_world import SECOND, idle, taken
from vcap_es.sim.world.restores import Restoring
from vcap_es.sim.world.world import World

MINUTE = 60 * SECOND
TOTAL = 100


def _begun(interval: str = "day", servers: int = 2) -> Restoring:
    """A world in which some of the cap `c` was taken, before the backup."""
    life = Restoring(servers)
    life.old.define("c", TOTAL, interval=interval)
    taken(life.old, life.old.servers[0], 30)
    life.old.run(SECOND)
    return life


def _restored(life: Restoring, *, served: int = 0) -> World:
    """The world of a backup after which the old servers served so many units more."""
    backup = life.backup()
    if served:
        taken(life.old, life.old.servers[1], served)
        life.old.run(SECOND)
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    new.run(3 * SECOND)
    return new


def what_may_have_been_granted_is_not_granted_again() -> None:
    """Whatever was available at the backup may be with a server that the log knows nothing of."""
    life = _begun()
    new = _restored(life, served=50)
    assert new.take_all("c") == 0
    assert new.pool("c").withheld == TOTAL - new.pool("c").places["s0-0002"].out


def the_next_period_is_withheld_and_later_ones_serve() -> None:
    """The generation before had the next period open as well, and the one after that never."""
    life = _begun("minute")
    backup = life.backup()
    life.old.run(MINUTE)  # it goes on, and opens another period
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    new.run(SECOND)
    assert new.take_all("c") == 0
    new.run(MINUTE)
    assert new.take_all("c") == 0
    new.run(MINUTE)
    assert new.take_all("c") == TOTAL


def a_cap_that_is_defined_again_is_withheld() -> None:
    """The log may not know the cap at all: its period may be served all the same."""
    life = _begun()
    backup = life.backup()
    life.old.define("late", TOTAL, interval="day")
    consumed = life.old.consume(life.old.servers[1], "late", 60)
    assert isinstance(consumed, Consumed)
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    new.run(SECOND)
    new.define("late", TOTAL, interval="day")
    assert new.take_all("late") == 0


def a_readmitted_server_gives_back_what_it_holds() -> None:
    """What it was given is known again as soon as it tells; what it returns can be granted."""
    life = _begun()
    backup = life.backup()
    idle(life.old, life.old.servers[1], 40)
    life.old.run(SECOND)
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    server = life.old.servers[1]
    assert isinstance(life.readmit(server), Done)
    new.run(3 * SECOND)
    held = new.pool("c").peek(server.core.incarnation)
    assert held.recovered
    assert held.out >= 40
    assert new.take_all("c", [new.servers[0]]) == held.out


def what_was_returned_to_the_generation_before_is_not_free() -> None:
    """It may have been granted to another one, of which nothing is known."""
    life = _begun(servers=3)
    _, idler, taker = life.old.servers
    idle(life.old, idler, 60)
    life.old.run(SECOND)
    backup = life.backup()
    served = life.old.take_all("c", [taker])
    assert served > 30, "the idle units came to the other one"
    life.old.run(SECOND)
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    assert isinstance(life.readmit(idler), Done)
    new.run(3 * SECOND)
    new.take_all("c")


def a_stranger_is_let_in_by_an_act_alone() -> None:
    """An old server that knocks is refused, and nothing that it tells is taken in."""
    life = _begun()
    new = _restored(life)
    stranger = life.old.servers[0]
    life.send_over(stranger)
    new.run(3 * SECOND)
    assert stranger.serves_from is None
    assert stranger.belonging.cluster != new.cluster
    assert not new.pool("c").peek(stranger.core.incarnation).recovered


def a_server_that_forgot_its_cluster_is_no_new_one() -> None:
    """Its journal says who it is: it was given something before the log was restored."""
    life = _begun()
    new = _restored(life)
    stranger = life.old.servers[0]
    stranger.belonging = Belonging("", lambda _: None)
    life.send_over(stranger)
    new.run(3 * SECOND)
    assert stranger.serves_from is None
    assert stranger.core.incarnation in life.knocking
    assert isinstance(life.admit(stranger), Done)
    new.run(3 * SECOND)
    assert stranger.serves_from is new.leader


def two_operators_release_what_is_withheld() -> None:
    """One alone changes nothing; with the second it is available, and told with their names."""
    life = _begun()
    new = _restored(life)
    withheld = new.pool("c").withheld
    _accept(new, "ada")
    assert new.pool("c").withheld == withheld
    _accept(new, "bob")
    assert new.pool("c").withheld == 0
    assert new.take_all("c") == withheld
    new.define("d", TOTAL, interval="day")
    assert new.take_all("d") == TOTAL


def _accept(world: World, operator: str) -> None:
    world.order(AcceptLoss(), operator)
    world.run(SECOND)


def a_raised_total_is_withheld_too() -> None:
    """The generation before may have been told of it, and have granted all of it."""
    life = _begun()
    backup = life.backup()
    life.old.define("c", 2 * TOTAL, interval="day")
    life.old.run(SECOND)
    taken(life.old, life.old.servers[1], 150)
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    new.run(SECOND)
    new.define("c", 2 * TOTAL, interval="day")
    new.run(SECOND)
    assert new.take_all("c") == 0


def a_readmitted_server_speaks_first() -> None:
    """What it has settled with the generation before it has forgotten: it is not held to that."""
    life = _begun("minute")
    backup = life.backup()
    server = life.old.servers[0]
    life.old.run(3 * MINUTE)  # its books of the first period are closed
    assert ("c", 0) not in server.core.holdings.slices
    life.old.kill_master()
    new = life.restore(backup, servers=1)
    new.run(SECOND)
    assert isinstance(life.readmit(server), Done)
    new.run(3 * SECOND)
    assert server.serves_from is new.leader


def a_number_is_of_one_period() -> None:
    """Both generations open periods after the backup; they do not give them the same numbers."""
    life = _begun("minute")
    backup = life.backup()
    other, server = life.old.servers
    life.old.run(2 * MINUTE)
    idle(life.old, server, 40)
    life.old.cut.add(server.name)  # it does not hear that the third period has ended
    life.old.run(2 * MINUTE)
    assert life.old.take_all("c", [other]) == TOTAL
    life.old.kill_master()
    new = life.restore(backup, servers=1)  # it opens the fifth period as its own third one
    new.run(100_000)
    assert isinstance(life.readmit(server), Done)
    new.run(SECOND)
    assert new.take_all("c") == 0


def an_old_log_put_back_is_noticed_by_who_was_given_more() -> None:
    """Without a restore, the first server that tells of more than the log knows stops its pool."""
    life = _begun()
    world = life.old
    back = _kept(world)
    first, second = world.servers
    taken(world, second, 50)
    world.run(SECOND)
    first.kill()
    back()
    assert world.master is not None
    assert "and this log knows of" in world.master.locals.doubt
    assert world.pool("c").withheld + world.pool("c").held + 80 == TOTAL
    first.start(same_boot=True)
    world.run(SECOND)
    assert world.take_all("c") <= 20
    assert world.pool("c").available <= 0


def an_old_log_put_back_is_noticed_by_what_it_never_opened() -> None:
    """A server has units of an interval that the log knows nothing of."""
    world = World(2)
    world.define("c", TOTAL, interval="day")
    world.run(SECOND)
    back = _kept(world)
    world.define("late", TOTAL, interval="day")
    assert isinstance(world.consume(world.servers[0], "late", 5), Consumed)
    world.run(SECOND)
    back()
    assert world.master is not None
    assert "which this log has never opened" in world.master.locals.doubt


def _kept(world: World) -> Callable[[], None]:
    """Keep what the master's disk has now; the call puts it back under the running servers."""
    (master,) = world.masters
    ballot, entries = master.ballots.ballot, list(master.log.entries)

    def put_back() -> None:
        master.kill()
        master.ballots.ballot = ballot
        master.log.entries[:], master.log.committed = entries, 0
        world.oracle.give_up(master)
        master.start()
        world.run(3 * SECOND)

    return put_back


def a_master_that_starts_from_an_older_directory_is_refused() -> None:
    """It has forgotten what it promised since: its ballot counts fewer starts than were seen."""
    world = World(1, masters=2, witnesses=1)
    world.run(3 * SECOND)
    leader = world.leader
    follower = next(each for each in world.masters if each is not leader)
    old = follower.ballots.ballot
    for _ in range(2):
        follower.kill()
        follower.start()
        world.run(3 * SECOND)
    follower.kill()
    follower.ballots.ballot = old
    follower.start()
    world.run(SECOND)
    assert any("older copy" in each for each in world.closings)
    assert leader is not None
    assert leader.core is not None
    assert not leader.core.is_linked(follower.node)
