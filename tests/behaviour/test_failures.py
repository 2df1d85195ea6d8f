"""Processes, machines and masters that die, journals that are copied, and servers that stop."""

import pytest

from vcap_es.components.messages import server as messages
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.components.primary_master.outputs import Close
from vcap_es.events.facts import EpochStarted, Returned, ToppedUp
from vcap_es.sim.environment.disks import Disk
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import SECOND, idle, world_of
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World


def test_a_process_that_dies_goes_on_exactly_where_it_was() -> None:
    """Nothing is lost and nothing is served twice over ten deaths of the process."""
    world = world_of(100)
    server = world.servers[0]
    taken = 0
    for _ in range(10):
        for _ in range(3):
            assert isinstance(world.consume(server, "c"), Consumed)
            taken += 1
        server.restart()
        world.run(200_000)
    assert taken + world.take_all("c") == 100


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_machine_never_spends_twice(seed: int) -> None:
    """Frames not synced and the cells are lost at any moment: what was answered stays spent."""
    world = World(2, seed=seed, faults=Faults(fsync_us_max=5000))
    watch(world)
    world.define("c", 1000)
    server = world.servers[0]
    for _ in range(5):
        for _ in range(world.random.randrange(40)):
            server.submit(Consume(cap="c", minimum=1, maximum=1))
            world.run(world.random.randrange(3000))
        server.restart(same_boot=False)
        world.run(200_000)
    served = sum(isinstance(each, Consumed) for each in server.answers.values())
    taken = served + world.take_all("c")
    assert 1000 - 5 * server.limits.ceiling_step_min <= taken <= 1000
    world.run(2 * SECOND)
    assert (world.pool("c").available, world.pool("c").held) == (0, 0)


def test_a_server_serves_nothing_after_a_start_before_the_master_has_spoken() -> None:
    """A journal may be an old copy: until the master has told what it knows, nothing is spent."""
    world = world_of(10)
    server = world.servers[0]
    idle(world, server, 5)
    world.cut.add(server.name)
    server.restart()
    world.run(100_000)
    refusal = world.consume(server, "c")
    assert isinstance(refusal, Refused)
    assert refusal.code == "unavailable"


def test_a_new_journal_is_another_incarnation() -> None:
    """A server that lost its journal holds nothing of the old incarnation, and serves anew."""
    world = world_of(10)
    server = world.servers[0]
    idle(world, server, 5)
    server.kill()
    server.disk = Disk()
    server.start(same_boot=False)
    world.run(SECOND)
    assert world.take_all("c") == 5
    assert world.pool("c").held == 5


@pytest.mark.parametrize("seed", range(10))
def test_nothing_leaves_a_master_that_is_not_durable(seed: int) -> None:
    """Masters die within their commit rounds: what servers have is on the log of the next one."""
    world = World(3, seed=seed, faults=Faults(fsync_us_max=3000))
    watch(world)
    world.define("c", 300)
    for index in range(120):
        world.random.choice(world.servers).submit(Consume(cap="c", minimum=1, maximum=3))
        world.run(world.random.randrange(4000))
        if index % 20 == 19:
            world.kill_master()
            world.run(world.random.randrange(50_000))
            world.start_master()
            world.run(100_000)
    assert len(world.facts(EpochStarted)) == 7
    served = sum(
        each.consumed
        for server in world.servers
        for each in server.answers.values()
        if isinstance(each, Consumed)
    )
    assert served + world.take_all("c") == 300


def test_an_orderly_stop_returns_everything() -> None:
    """A server that stops gives all back, also what was on its way when it stopped."""
    world = world_of(100)
    server, other = world.servers
    idle(world, server, 20)
    token = server.submit(Consume(cap="c", minimum=50, maximum=50))
    world.run(150)
    server.core.stop(server.now_ns)
    server.flush()
    assert isinstance(world.answer(server, token), Refused)
    for _ in range(1000):
        if server.core.holdings.is_empty():
            break
        world.run(1000)
    assert server.core.holdings.is_empty()
    server.kill()
    assert world.pool("c").held == 0
    assert world.take_all("c", [other]) == 100


def test_a_server_that_stops_while_units_are_on_their_way_waits_for_them() -> None:
    """A grant that is decided when the server stops comes, and goes back, before it is done."""
    world = World(2, faults=Faults(delay_us_max=40_000))
    world.define("c", 100)
    server = world.servers[0]
    world.run(SECOND)
    world.consume(server, "c")
    while not world.pool("c").held:
        server.submit(Consume(cap="c", minimum=30, maximum=30))
        world.run(5000)
    server.core.stop(server.now_ns)
    server.flush()
    while not server.core.holdings.is_empty():
        world.run(1000)
    server.kill()
    assert world.pool("c").held == 0


def test_waiting_consumes_are_refused_when_a_server_stops() -> None:
    """Also those that wait for a cap of which nothing is known yet, and those set aside."""
    world = world_of(10)
    server = world.servers[0]
    world.cut.add(server.name)
    server.disconnect()
    token = server.submit(Consume(cap="new", minimum=1, maximum=1))
    server.core.stop(server.now_ns)
    server.flush()
    assert isinstance(server.answers[token], Refused)


def test_a_message_of_a_replaced_connection_is_refused() -> None:
    """When a server connects anew, what still comes on its old connection is not listened to."""
    world = world_of(10)
    server = world.servers[0]
    world.consume(server, "c")
    assert world.master is not None
    hello = messages.Hello(
        protocol=messages.PROTOCOL,
        incarnation=server.core.incarnation,
        session="session1",
        name="s0",
        address="",
    )
    old, new = server.connection, 999
    world.master.received(new, hello, world.now_us)
    report = messages.Report(
        incarnation=server.core.incarnation, order=(9, 9), sent_ns=1, holdings=[]
    )
    world.master.received(old, report, world.now_us)
    started = world.master.begin_round(world.now_us)
    assert started is not None
    closed = [each.connection for each in started.outputs if isinstance(each, Close)]
    assert closed == [old, old]


def test_a_server_that_tells_the_impossible_is_not_listened_to() -> None:
    """A report of more spent than it says to have closes the connection and records nothing."""
    world = world_of(10)
    server = world.servers[0]
    world.consume(server, "c")
    world.run(2 * SECOND)
    assert world.master is not None
    before = len(world.log)
    holding = messages.Holding("c", 0, 1, 0, 99, 0, 0, 0, 0, False, (0, 0))
    report = messages.Report(
        incarnation=server.core.incarnation, order=(99, 1), sent_ns=1, holdings=[holding]
    )
    world.master.received(server.connection, report, world.now_us)
    started = world.master.begin_round(world.now_us)
    assert started is not None
    assert not started.drafts
    assert [each.connection for each in started.outputs if isinstance(each, Close)] == [
        server.connection
    ]
    assert len(world.log) == before


def test_a_unit_refunded_and_returned_at_once_is_recorded_in_that_order() -> None:
    """The log never says that a server returned what it had not."""
    world = world_of(10)
    idle(world, world.servers[0], 10)
    assert world.take_all("c", [world.servers[1]]) == 10
    assert world.facts(Returned)
    assert world.facts(ToppedUp)
    assert world.replay().state == world.state


def test_a_fact_that_cannot_be_folded_never_comes_to_the_log() -> None:
    """A master that decides nonsense stops there: its log can still be replayed."""
    master = world_of(10).master
    assert master is not None
    master.begin_round(0)
    wrong = ToppedUp(cap="c", number=0, incarnation="i", moved=11)
    with pytest.raises(AssertionError, match="cannot move 11 of 10"):
        master._record(wrong)
    assert not master.backlog


def test_one_connection_is_one_server() -> None:
    """Who says hello as another one is let go, and leaves nobody behind who seems connected."""
    world = world_of(10, servers=1)
    world.run(SECOND)
    master, [server] = world.master, world.servers
    assert master is not None
    other = messages.Hello(
        protocol=messages.PROTOCOL, incarnation="other", session="s", name="s", address=""
    )
    master.received(server.connection, other, world.now_us)
    committed = master.begin_round(world.now_us)
    assert committed is not None
    closed = [each for each in committed.outputs if isinstance(each, Close)]
    assert [each.connection for each in closed] == [server.connection]
    assert list(master.locals.servers) == [server.core.incarnation]
