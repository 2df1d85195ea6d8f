"""Holds and refunds: what a consume took comes back at most once."""

from vcap_es.components.messages.client import Cancel, Commit, Hold, Refund
from vcap_es.components.messages.outcomes import Held, Refunded, Refused, Settled
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import taken, world_of
from vcap_es.sim.world.world import World


def a_hold_is_settled_once() -> None:
    """After a commit, neither a commit nor a cancel changes anything."""
    world = world_of(10)
    held = _hold(world, 5)
    world.ask(world.servers[0], Commit(id=held.id))
    for command in (Commit(id=held.id), Cancel(id=held.id)):
        again = world.ask(world.servers[0], command)
        assert isinstance(again, Refused)
        assert again.code == "settled"
    assert world.take_all("c") == 5


def a_commit_above_the_hold_takes_the_difference_or_says_short() -> None:
    """The difference is taken where it lies; where it does not, the hold is committed, short."""
    world = world_of(10)
    first, second = _hold(world, 3), _hold(world, 3)
    # Given two idle units beside the holds
    world.ask(world.servers[0], Cancel(id=_hold(world, 2).id))
    settled = world.ask(world.servers[0], Commit(id=first.id, amount=5))
    assert isinstance(settled, Settled)
    assert (settled.committed, settled.short) == (5, 0)
    settled = world.ask(world.servers[0], Commit(id=second.id, amount=9))
    assert isinstance(settled, Settled)
    assert (settled.committed, settled.short) == (3, 6)
    assert world.take_all("c") == 2


def a_cancelled_hold_does_not_expire_as_well() -> None:
    """What was given back by hand is not given back by the clock."""
    world = world_of(5)
    held = _hold(world, 5)
    assert isinstance(world.ask(world.servers[0], Cancel(id=held.id)), Settled)
    world.run(2_000_000)
    assert world.take_all("c") == 5


def refunds_of_a_consume_add_up_to_it_at_most() -> None:
    """Refunds of one consume add up to it at most; what came back is served again."""
    world = world_of(10)
    consumed = taken(world, world.servers[0], 10)
    server = world.servers[0]
    assert world.ask(server, Refund(id=consumed.id, amount=4)) == Refunded(
        id=consumed.id, cap="c", refunded=4, refunded_in_all=4
    )
    too_much = world.ask(server, Refund(id=consumed.id, amount=7))
    assert isinstance(too_much, Refused)
    rest = world.ask(server, Refund(id=consumed.id))
    assert isinstance(rest, Refunded)
    assert rest.refunded_in_all == 10
    again = world.ask(server, Refund(id=consumed.id))
    assert isinstance(again, Refused)
    assert again.code == "settled"
    assert world.take_all("c") == 10


def a_refund_is_known_wherever_its_units_are() -> None:
    """Whenever the machine is lost, a consume is refunded once: its mark is kept with the units."""
    for lost_after_us in range(0, 3000, 100):
        world = world_of(10, faults=Faults(delay_us_max=100, fsync_us_max=1000))
        server = world.servers[0]
        consumed = taken(world, server, 10)
        server.submit(Refund(id=consumed.id, amount=6))
        world.run(lost_after_us)
        server.restart(same_boot=False)
        world.run(200_000)
        again = world.ask(server, Refund(id=consumed.id, amount=6))
        assert isinstance(again, Refunded | Refused)
        world.run(2_000_000)
        [account] = world.pool("c").places.values()
        assert account.refunded == 6


def what_is_too_old_is_refunded_no_more() -> None:
    """In a period of years a mark goes only when its consume cannot be refunded any more."""
    world = World(1, limits=Limits(refund_age_ms=4000))
    end = NOON + 5 * 365 * 86_400 * 1_000_000
    world.define("c", 10, interval="single", start=NOON - 1, end=end)
    server = world.servers[0]
    consumed = taken(world, server, 5)
    assert isinstance(world.ask(server, Refund(id=consumed.id)), Refunded)
    for _ in range(8):
        world.run(1_000_000)
        assert isinstance(world.ask(server, Refund(id=consumed.id)), Refused)
    assert not next(iter(server.core.holdings.slices.values())).spans
    assert world.take_all("c") == 10


def _hold(world: World, amount: int) -> Held:
    held = world.ask(world.servers[0], Hold(cap="c", amount=amount, lifetime_ms=1000))
    assert isinstance(held, Held)
    return held
