"""From one interval to the next, and the closing of the books."""

from typing import Any

import pytest

from vcap_es.components import interval_handler
from vcap_es.components.decisions.meta import Retire
from vcap_es.components.interval_handler import IntervalHandler
from vcap_es.components.messages.client import Consume, Hold
from vcap_es.components.messages.outcomes import Consumed, Held, Refused
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.errors import InvalidDefinition
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaDefined,
    Version,
)
from vcap_es.projections.states.data_centre import Fold
from vcap_es.projections.states.meta import Meta
from vcap_es.sim.environment.oracle import equation_holds
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.world import World

SECOND = 1_000_000
HOUR = 3600 * SECOND
BOUNDARY = NOON + 60 * SECOND


def world_before(seconds: int, total: int = 10, **limits: int) -> World:
    """Two servers and a cap by the minute, so many seconds before its boundary."""
    world = World(
        2, now=BOUNDARY - seconds * SECOND, limits=Limits(refund_window_ms=1000, **limits)
    )
    watch(world)
    world.define("c", total, interval="minute")
    return world


def until(world: World, instant: int, *, skip: bool = False) -> None:
    """Let time pass until then; with `skip`, only the last moments of it."""
    if skip:
        world.now_us = max(world.now_us, instant - SECOND)
    world.run(instant - world.now_us)


def test_each_interval_has_the_whole_total_and_no_more() -> None:
    """Nothing carries over: unspent units expire, and the next interval has its own."""
    world = world_before(10)
    assert isinstance(world.consume(world.servers[0], "c", 4), Consumed)
    until(world, BOUNDARY + SECOND)
    assert world.take_all("c") == 10
    until(world, BOUNDARY + 30 * SECOND)
    assert world.state.interval("c", 0) is None


def test_a_consume_in_the_gap_waits_for_the_next_interval() -> None:
    """Between what is surely the old interval and surely the new one, a consume waits."""
    world = world_before(10)
    server = world.servers[0]
    world.consume(server, "c")
    until(world, BOUNDARY - 5_000)
    answers = []
    for _ in range(20):
        answers.append(world.consume(server, "c"))
        world.run(500)
    taken = [each for each in answers if isinstance(each, Consumed)]
    numbers = {each.id.split(".")[1] for each in taken}
    assert numbers == {"0", "1"}
    assert not [each for each in answers if isinstance(each, Refused) and each.code != "capped"]
    assert len([each for each in taken if each.id.split(".")[1] == "0"]) <= 9


def test_no_server_serves_an_interval_outside_its_bounds() -> None:
    """By the true time, no consume is answered from an interval before its start or at its end."""
    world = world_before(3, total=1000)
    spent: list[int] = []

    def step() -> None:
        found = world.servers[0].core.holdings.slices.get(("c", 0))
        if found is not None and world.now_us >= BOUNDARY:
            spent.append(found.spent(world.servers[0].disk.cells))

    world.steps.append(step)
    numbers = set()
    for _ in range(1200):
        server = world.servers[0]
        now = server.core.consume_now("c", 1, server.now_ns)
        answer = world.consume(server, "c") if now is None else now
        if isinstance(answer, Consumed):
            numbers.add(answer.id.split(".")[1])
            if "1" in numbers:
                assert world.now_us >= BOUNDARY
        world.run(4000)
    assert world.now_us > BOUNDARY + SECOND
    assert numbers == {"0", "1"}
    assert len(set(spent)) == 1


def test_a_slice_of_the_next_interval_is_there_when_the_master_is_cut_off() -> None:
    """A cap in use, however slowly, is served on through the boundary without a master."""
    world = world_before(30, total=20)
    server = world.servers[0]
    assert isinstance(world.consume(server, "c"), Consumed)
    until(world, BOUNDARY - SECOND)
    world.kill_master()
    until(world, BOUNDARY + SECOND)
    assert isinstance(world.consume(server, "c"), Consumed)


def test_the_books_close_with_nothing_unreported_when_all_have_told() -> None:
    """After the refund window of the last holder an interval closes, and everybody forgets it."""
    world = world_before(10)
    for server in world.servers:
        world.consume(server, "c", 2)
    until(world, BOUNDARY + 500_000)
    # Given the refund window is not over
    assert world.state.interval("c", 0) is not None
    until(world, BOUNDARY + 5 * SECOND)
    assert world.facts(IntervalClosed) == [IntervalClosed(cap="c", number=0, unreported=0)]
    assert all(("c", 0) not in server.core.holdings.slices for server in world.servers)


def test_an_open_hold_keeps_the_books_open() -> None:
    """While a hold is open its interval is not closed; its expiry expires the units."""
    world = world_before(10)
    held = world.ask(world.servers[0], Hold(cap="c", amount=5, lifetime_ms=20_000))
    assert isinstance(held, Held)
    until(world, BOUNDARY + 5 * SECOND)
    assert world.pool("c", 0).held == 0
    assert not world.facts(IntervalClosed)
    until(world, BOUNDARY + 15 * SECOND)
    assert world.facts(IntervalClosed) == [IntervalClosed(cap="c", number=0, unreported=0)]


def test_what_a_dead_server_held_is_unreported_after_a_day_and_not_before() -> None:
    """Nothing is reclaimed on silence; after 24 hours it counts as spent, for ever."""
    world = World(2)
    world.define("c", 10, interval="hour", end=NOON + 2 * HOUR)
    dead = world.servers[0]
    held = world.ask(dead, Hold(cap="c", amount=4, lifetime_ms=1000))
    assert isinstance(held, Held)
    world.run(3 * SECOND)
    assert world.pool("c").held == 4
    dead.kill()
    # The others only pass the time, so it may pass quickly
    world.servers[1].kill()
    until(world, NOON + 25 * HOUR - SECOND, skip=True)
    assert not [fact for fact in world.facts(IntervalClosed) if fact.number == 0]
    until(world, NOON + 25 * HOUR + SECOND, skip=True)
    assert IntervalClosed(cap="c", number=0, unreported=4) in world.facts(IntervalClosed)
    # When it comes back, its old slice is dropped and changes nothing
    dead.start(same_boot=True)
    world.run(SECOND)
    assert ("c", 0) not in dead.core.holdings.slices


def test_a_cap_defined_again_serves_the_rest_of_its_period_and_then_the_next() -> None:
    """Retired and defined again, what was spent is not minted twice, and nothing waits."""
    world = world_before(30)
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)
    world.command(Retire(cap="c"))
    world.define("c", 7, interval="minute")
    assert world.take_all("c") == 6
    until(world, BOUNDARY + SECOND)
    assert world.take_all("c") == 7


def test_a_master_that_was_down_for_days_opens_today_and_tomorrow_only() -> None:
    """What was missed is not opened afterwards; what was open is ended and closed."""
    world = World(1)
    world.define("c", 10)
    world.servers[0].kill()
    world.kill_master()
    world.now_us += 5 * 24 * HOUR
    world.start_master()
    world.run(SECOND)
    opened = [(fact.number, fact.start) for fact in world.facts(IntervalOpened)]
    midnight = NOON - 12 * HOUR
    days = [(start - midnight) // (24 * HOUR) for _, start in opened]
    assert days == [0, 1, 5, 6]
    assert [number for number, _ in opened] == [0, 1, 2, 3]
    assert [fact.number for fact in world.facts(IntervalEnded)] == [0, 1]
    assert [fact.number for fact in world.facts(IntervalClosed)] == [0, 1]
    equation_holds(world.state)


def test_a_consume_of_a_range_at_the_deadline_takes_what_is_here() -> None:
    """Cut off from the master, a consume of 1 to 10 takes what the slice has."""
    world = World(1)
    world.define("c", 10)
    server = world.servers[0]
    held = world.ask(server, Consume(cap="c", minimum=1, maximum=1))
    assert isinstance(held, Consumed)
    world.kill_master()
    found = server.core.holdings.slice_at("c")
    assert found is not None
    here = found.balance(server.disk.cells)
    answer = world.ask(server, Consume(cap="c", minimum=1, maximum=10))
    if here:
        assert isinstance(answer, Consumed)
        assert answer.consumed == here
    else:
        assert isinstance(answer, Refused)


@pytest.mark.parametrize("seconds", [1, 5, 59])
def test_caps_are_ended_and_opened_at_the_boundary(seconds: int) -> None:
    """At the boundary the old interval ends and the one after the next is opened."""
    world = world_before(seconds)
    until(world, BOUNDARY + 100_000)
    assert [fact.number for fact in world.facts(IntervalOpened)] == [0, 1, 2]
    assert [fact.number for fact in world.facts(IntervalEnded)] == [0]


def test_a_cap_without_a_calendar_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """When new time zone data has a zone no more, its caps stand still until it is there again."""
    # Given
    world = World(1)
    for cap in ("lost", "fine"):
        world.define(cap, 10, interval="minute")
    master = world.master
    assert master is not None
    real = interval_handler.due

    def due(meta: Meta, *rest: Any) -> list[Fact]:
        if meta.cap == "lost":
            raise InvalidDefinition("timezone: no zone Atlantis")
        return real(meta, *rest)

    # When
    monkeypatch.setattr(interval_handler, "due", due)
    world.run(90_000_000)
    # Then
    assert "Atlantis" in master.intervals.troubled["lost"]
    assert master.state.metas["fine"].at(world.now_us) is not None
    # And when the zone is there again
    monkeypatch.setattr(interval_handler, "due", real)
    world.run(90_000_000)
    assert not master.intervals.troubled
    assert master.state.metas["lost"].at(world.now_us) is not None


def test_on_demand_only_what_is_asked_for_is_opened() -> None:
    """Time alone ends intervals and opens none but the first; who asks later opens another."""
    # Given a cap whose intervals are opened on demand
    fold = Fold()
    handler = IntervalHandler(fold.state, fold.evolve, NOON, on_demand=True)
    definition = Definition(total=10, interval="hour")
    fold.evolve(MetaDefined(cap="c", version=Version(0, 1), definition=definition))
    handler.look_at("c", NOON)
    meta = fold.state.metas["c"]
    (first,) = meta.intervals
    # When days pass
    for _ in range(10):
        at = handler.next_due(NOON)
        if at is None:
            break
        handler.step(at)
    # Then the first interval has ended, and nothing is due any more
    assert not meta.intervals
    assert handler.next_due(NOON) is None
    # And the hour in which somebody asks is opened, alone
    later = first.end + 50 * 3_600_000_000 + 1
    handler.open("c", later)
    (found,) = meta.intervals
    assert found.start <= later < found.end
    assert (found.number, found.pool.minted) == (1, 10)
    handler.open("c", later)
    assert list(meta.intervals) == [found]
