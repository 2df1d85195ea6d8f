"""Refunds of periods that end in years: they end by the age of what was consumed."""

from vcap_es.components.messages.client import Commit, Hold, Refund
from vcap_es.components.messages.outcomes import Consumed, Held, Refunded, Refused
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import world_of
from vcap_es.sim.world.world import World

YEAR_US = 365 * 86_400 * 1_000_000
AGE_MS = 16_000
LIMITS = Limits(refund_age_ms=AGE_MS, marks_max=6)


def years() -> World:
    """A cap of one long period, of which a refund age is sixteen seconds."""
    world = World(1, limits=LIMITS)
    end = NOON + 5 * YEAR_US
    world.define("c", 1000, interval="single", start=NOON - YEAR_US, end=end)
    return world


def consumed(world: World, amount: int) -> Consumed:
    """A consume that is served."""
    answer = world.consume(world.servers[0], "c", amount)
    assert isinstance(answer, Consumed), answer
    return answer


def refunded(world: World, answer: Consumed, amount: int) -> str:
    """What comes of a refund."""
    outcome = world.ask(world.servers[0], Refund(id=answer.id, amount=amount))
    assert isinstance(outcome, Refunded | Refused)
    return outcome.code if isinstance(outcome, Refused) else "refunded"


def test_a_refund_older_than_the_refund_age_is_ended() -> None:
    """What is younger is refunded; what is too old never again, also after a restart."""
    # Given
    world = years()
    old = consumed(world, 5)
    assert refunded(world, old, 1) == "refunded"
    # When
    world.run(15_000_000)
    young = consumed(world, 5)
    assert refunded(world, old, 1) == "refunded"
    world.run(4_000_000)
    # Then
    for _ in range(2):
        assert refunded(world, old, 1) == "ended"
        assert refunded(world, young, 1) == "refunded"
        world.servers[0].restart()
        world.run(200_000)
    world.servers[0].restart(same_boot=False)
    world.run(200_000)
    assert refunded(world, old, 1) == "ended"


def test_marks_of_what_is_too_old_make_room() -> None:
    """A period that lasts for years does not fill its shares once and for all."""
    # Given
    world = years()
    server = world.servers[0]
    codes = [refunded(world, consumed(world, 1), 1) for _ in range(8)]
    assert codes == ["refunded"] * 6 + ["share_full"] * 2
    # When
    world.run(19_000_000)
    # Then
    assert refunded(world, consumed(world, 1), 1) == "refunded"
    assert server.core.settlement.known_in_all == 1
    server.restart()
    assert server.core.settlement.known_in_all == 1
    journal = server.disk.read(same_boot=True)
    assert [len(each) for each in journal.marks.values()] == [1]


def test_an_open_hold_is_never_too_old() -> None:
    """It is committed or comes back, however long its server was kept from noting anything."""
    world = years()
    held = world.ask(world.servers[0], Hold(cap="c", amount=5, lifetime_ms=60_000))
    assert isinstance(held, Held)
    world.run(40_000_000)
    committed = world.ask(world.servers[0], Commit(id=held.id, amount=3))
    assert not isinstance(committed, Refused)


def test_a_shorter_period_ends_its_refunds_with_its_books() -> None:
    """A day is refunded to its end."""
    world = world_of(10, limits=LIMITS)
    first = consumed(world, 5)
    world.run(60_000_000)
    assert refunded(world, first, 1) == "refunded"
