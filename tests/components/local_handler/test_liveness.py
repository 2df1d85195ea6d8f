"""A dead server shows as lost within a minute; whoever speaks or comes back is alive."""

import pytest

from vcap_es.components.local_handler import liveness
from vcap_es.components.local_handler.liveness import (
    FORGOTTEN_AFTER_US,
    LOST_AFTER_US,
    Liveness,
    Sighting,
)
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.messages.server import PROTOCOL, Hello, Report
from vcap_es.components.primary_master.outputs import Close
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.events.facts import Returned
from vcap_es.events.units import SECOND_US
from vcap_es.projections.states.data_centre import Fold
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

MINUTE_US = 60 * SECOND_US


def world_of(servers: int) -> World:
    """Servers that have spent a few units each of one cap, and hold more."""
    world = World(servers)
    watch(world)
    world.define("c", 10_000)
    for server in world.servers:
        assert isinstance(world.consume(server, "c", 5), Consumed)
    world.run(2 * SECOND_US)
    return world


def sighting(world: World, server: ServerProcess) -> Sighting:
    """How the leading master last saw a server."""
    assert world.master is not None
    return world.master.locals.sightings[server.core.incarnation]


def is_connected(world: World, server: ServerProcess) -> bool:
    """Whether the leading master has a connection of this server."""
    assert world.master is not None
    return server.core.incarnation in world.master.locals.servers


def closed(master: PrimaryMaster) -> list[int]:
    """The connections that a master wants closed with its next round."""
    started = master.begin_round(NOON)
    assert started is not None
    return [each.connection for each in started.outputs if isinstance(each, Close)]


def test_a_killed_server_shows_as_lost_within_a_minute() -> None:
    """It is lost since some instant in that minute, the others are not, and it keeps its units."""
    world = world_of(3)
    dead, *others = world.servers
    held = world.pool("c").peek(dead.core.incarnation).held
    assert held > 0
    returned = len(world.facts(Returned))
    dead.kill()
    killed_at = world.now_us
    world.run(LOST_AFTER_US - SECOND_US)
    assert sighting(world, dead).lost_at is None
    world.run(MINUTE_US - (LOST_AFTER_US - SECOND_US))
    seen = sighting(world, dead)
    assert (seen.name, seen.incarnation) == (dead.name, dead.core.incarnation)
    assert seen.lost_at is not None
    assert killed_at + LOST_AFTER_US <= seen.lost_at <= killed_at + MINUTE_US
    assert all(sighting(world, each).lost_at is None for each in others)
    assert world.pool("c").peek(dead.core.incarnation).held == held
    assert len(world.facts(Returned)) == returned


def test_a_server_that_comes_back_is_alive() -> None:
    """Back in time it never was lost; back later it is lost no more."""
    world = world_of(2)
    early, late = world.servers
    for server in (early, late):
        server.kill()
    world.run(LOST_AFTER_US // 2)
    early.restart()
    world.run(MINUTE_US)
    assert sighting(world, early).lost_at is None
    assert sighting(world, late).lost_at is not None
    late.restart()
    world.run(SECOND_US)
    assert sighting(world, late).lost_at is None
    world.run(2 * MINUTE_US)
    assert sighting(world, late).lost_at is None


def test_an_idle_server_gives_signs_of_life() -> None:
    """Who has nothing to tell is not taken for dead, and its connection stays."""
    world = world_of(2)
    connections = [each.connection for each in world.servers]
    world.run(5 * MINUTE_US)
    for server in world.servers:
        seen = sighting(world, server)
        assert seen.lost_at is None
        assert world.now_us - seen.seen_at < LOST_AFTER_US // 3
    assert [each.connection for each in world.servers] == connections


def test_a_hung_server_is_lost_and_its_connection_closed() -> None:
    """Nobody waits for a holder that says nothing; when it goes on, it connects anew."""
    world = world_of(2)
    hung = world.servers[0]
    hung.pause()
    seen_at = sighting(world, hung).seen_at
    world.run(LOST_AFTER_US // 2)
    assert is_connected(world, hung)
    world.run(MINUTE_US - LOST_AFTER_US // 2)
    assert not is_connected(world, hung)
    seen = sighting(world, hung)
    assert seen.lost_at is not None
    # It was seen when it spoke last, not when it was given up.
    assert seen_at <= seen.seen_at <= seen.lost_at - LOST_AFTER_US
    hung.go_on()
    world.run(SECOND_US)
    assert is_connected(world, hung)
    assert sighting(world, hung).lost_at is None


def test_a_silent_connection_is_given_up_at_once() -> None:
    """It is to be closed, and nothing waits until it is; who speaks on it still is not heard."""
    # Given a master with one server
    master = PrimaryMaster(Fold(), dc="dc1", name="m1", epoch=1, now=NOON)
    hello = Hello(protocol=PROTOCOL, incarnation="i", session="s", name="s1", address="")
    master.received(7, hello, NOON)
    # When it says nothing
    for now in range(NOON, NOON + MINUTE_US, SECOND_US):
        master.tick(now)
    # Then it is not there any more, whether or not its connection can be closed
    assert not master.locals.servers
    assert closed(master) == [7]
    # And what it says now is too late
    report = Report(incarnation="i", order=(1, 1), sent_ns=1, holdings=[])
    master.received(7, report, NOON + MINUTE_US)
    assert closed(master) == [7]
    assert master.locals.sightings["i"].lost_at is not None


def test_a_new_leader_misses_those_who_hold_something() -> None:
    """A server that died together with the master is known from the log, and lost in a minute."""
    world = world_of(2)
    dead, other = world.servers
    dead.kill()
    world.kill_master()
    world.run(SECOND_US)
    world.start_master()
    world.run(5 * SECOND_US)
    assert sighting(world, dead).connected_at is None
    world.run(MINUTE_US)
    seen = sighting(world, dead)
    assert seen.lost_at is not None
    assert seen.name == dead.name
    assert sighting(world, other).lost_at is None


def test_a_master_that_was_stopped_takes_nobody_for_lost() -> None:
    """What it did not hear while it could not listen tells nothing of the others."""
    world = world_of(2)
    connections = [each.connection for each in world.servers]
    leader = world.leader
    assert leader is not None
    leader.pause()
    world.run(5 * MINUTE_US)
    leader.go_on()
    for _ in range(60):
        world.run(SECOND_US)
        assert all(sighting(world, each).lost_at is None for each in world.servers)
    assert [each.connection for each in world.servers] == connections


def pass_until(known: Liveness, now: int, until: int) -> list[str]:
    """Who is lost while a master hears the time every second."""
    return [each for at in range(now, until + 1, SECOND_US) for each in known.step(at)]


def test_who_is_lost_is_forgotten_after_a_week() -> None:
    """Nobody is remembered for ever, but whoever is connected, or back in time."""
    known = Liveness(NOON)
    for name in "abc":
        known.came(name, name, "", NOON)
        known.left(name, NOON)
    assert pass_until(known, NOON, NOON + MINUTE_US) == ["a", "b", "c"]
    week = NOON + LOST_AFTER_US + FORGOTTEN_AFTER_US
    known.came("b", "b", "", week - MINUTE_US)
    known.step(week - SECOND_US)
    assert sorted(known.sightings) == ["a", "b", "c"]
    known.step(week + MINUTE_US)
    assert list(known.sightings) == ["b"]


def test_no_more_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the servers that are gone, that which went first is forgotten first; no other is."""
    monkeypatch.setattr(liveness, "GONE_MAX", 3)
    known = Liveness(NOON)
    for name in "abcdefg":
        known.came(name, name, "", NOON)
    for name in "bacde":
        known.left(name, NOON)
    known.came("e", "e", "", NOON)
    known.left("g", NOON)
    assert sorted(known.sightings) == ["c", "d", "e", "f", "g"]
    assert sorted(pass_until(known, NOON, NOON + MINUTE_US)) == ["c", "d", "e", "f", "g"]
