"""Holds and refunds: what a consume took comes back at most once."""

from vcap_es.components.messages.client import (
    Cancel,
    Commit,
    Consume,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedEach,
    Held,
    Refunded,
    Refused,
    Settled,
)
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.small_world import SECOND, idle, taken, world_of
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
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


def a_commit_above_the_hold_takes_what_there_is() -> None:
    """What lies here, in the pool and idle elsewhere is committed above the hold; no more."""
    # Given two holds of 3, 2 idle units at the other server, and 4 in the pool
    world = world_of(12)
    server = world.servers[0]
    first, second = _hold(world, 3), _hold(world, 3)
    idle(world, world.servers[1], 2)
    # Then the first grows by what is asked, and the second by what is left
    settled = _committed(world, server, first, 5)
    assert (settled.committed, settled.short) == (5, 0)
    settled = _committed(world, server, second, 9)
    assert (settled.committed, settled.short) == (7, 2)
    assert world.take_all("c") == 0


def a_commit_above_the_hold_is_refunded_by_its_id() -> None:
    """All that was committed comes back by the id of the hold, in parts, after a restart; once."""
    for same_boot in (True, False):
        world = world_of(20)
        server = world.servers[0]
        held = _hold(world, 4)
        settled = _committed(world, server, held, 7)
        assert (settled.committed, settled.short) == (7, 0)
        first = world.ask(server, Refund(id=held.id, amount=5))
        assert isinstance(first, Refunded), first
        assert (first.refunded, first.refunded_in_all) == (5, 5)
        server.restart(same_boot=same_boot)
        world.run(200_000)
        rest = world.ask(server, Refund(id=held.id))
        assert isinstance(rest, Refunded), rest
        assert (rest.refunded, rest.refunded_in_all) == (2, 7)
        for id_ in (held.id, settled.above):
            again = world.ask(server, Refund(id=id_))
            assert isinstance(again, Refused)
            assert again.code == "settled"
        world.run(2_000_000)
        assert sum(each.refunded for each in world.pool("c").places.values()) == 7
        # What was above the spend when the machine was lost stays spent; all else is there again
        assert not same_boot or world.take_all("c") == 20


def a_commit_that_waits_is_one_settlement() -> None:
    """While a commit waits for more, its hold does not expire and nothing else settles it."""
    # Given a hold that is about to expire, and a server that hears nothing from the master
    world = world_of(10)
    server = world.servers[0]
    held = _hold(world, 3, lifetime_ms=20)
    world.cut.add(server.name)
    server.disconnect()
    # When a commit above it waits, is repeated with its key, and others want to settle the hold
    command, key = Commit(id=held.id, amount=5), Idempotency(key="k", fingerprint=b"k")
    tokens = [server.submit(command, key) for _ in range(2)]
    others = [server.submit(each) for each in (command, Cancel(id=held.id), Refund(id=held.id))]
    world.run(200_000)
    # Then it is settled once, by what was held
    expected = Settled(id=held.id, cap="c", committed=3, refunded=0, short=2)
    assert [server.answers[token] for token in tokens] == [expected, expected]
    for token in others:
        refusal = server.answers[token]
        assert isinstance(refusal, Refused)
        assert refusal.code == "settled"
    assert world.ask(server, command, key) == expected
    world.cut.clear()
    world.run(2_000_000)
    assert world.take_all("c") == 7


def a_commit_that_never_was_answered_did_not_settle() -> None:
    """A process that dies while a commit waits finds the hold open; its key settles it then."""
    world = world_of(10)
    server = world.servers[0]
    held = _hold(world, 3, lifetime_ms=60_000)
    world.cut.add(server.name)
    server.disconnect()
    command, key = Commit(id=held.id, amount=5), Idempotency(key="k", fingerprint=b"k")
    server.submit(command, key)
    server.restart()
    world.cut.clear()
    world.run(200_000)
    settled = world.ask(server, command, key)
    assert isinstance(settled, Settled)
    assert (settled.committed, settled.short) == (5, 0)
    assert world.ask(server, command, key) == settled
    assert world.take_all("c") == 5


def a_commit_that_waits_is_answered_by_an_orderly_stop() -> None:
    """A server that stops commits what was held, and says short."""
    world = world_of(10)
    server = world.servers[0]
    held = _hold(world, 3)
    world.cut.add(server.name)
    server.disconnect()
    token = server.submit(Commit(id=held.id, amount=5))
    server.core.stop(server.now_ns)
    server.flush()
    world.run(10_000)
    expected = Settled(id=held.id, cap="c", committed=3, refunded=0, short=2)
    assert server.answers[token] == expected


def a_late_commit_takes_nothing_of_the_next_period() -> None:
    """A hold grows within the period that it was taken from, and in no other."""
    world = World(1, now=NOON + 55 * SECOND)
    watch(world)
    world.define("c", 10, interval="minute")
    server = world.servers[0]
    held = _hold(world, 3, lifetime_ms=60_000)
    world.run(6 * SECOND)
    settled = _committed(world, server, held, 5)
    assert (settled.committed, settled.short) == (3, 2)
    assert world.take_all("c") == 10


def a_shadow_hold_gives_nothing_back() -> None:
    """A shadow cap says yes over its total too; what it did not take cannot come back."""
    world = World(1)
    watch(world)
    world.define("c", 5, mode="shadow")
    server = world.servers[0]
    real, over = _hold(world, 3), _hold(world, 9)
    assert (real.shadow, over.held, over.shadow) == (None, 9, "capped")
    # A commit above the real one takes what there is, and says yes to the rest
    settled = _committed(world, server, real, 9)
    assert (settled.committed, settled.short, settled.shadow) == (9, 0, "capped")
    # What was not taken is committed, cancelled and refunded as nothing
    committed = _committed(world, server, over, 4)
    assert (committed.committed, committed.refunded) == (4, 0)
    cancelled = world.ask(server, Cancel(id=over.id))
    assert isinstance(cancelled, Settled)
    assert (cancelled.committed, cancelled.refunded) == (0, 0)
    batch = world.ask(server, ConsumeEach(items=[Consume(cap="c", minimum=2, maximum=2)]))
    assert isinstance(batch, ConsumedEach)
    [each] = batch.items
    assert isinstance(each, Consumed)
    assert (each.consumed, each.shadow) == (2, "capped")
    for id_ in (over.id, each.id):
        refunded = world.ask(server, Refund(id=id_))
        assert isinstance(refunded, Refunded)
        assert refunded.refunded == 0
    # And of what was taken all comes back: 5 of the 9
    refunded = world.ask(server, Refund(id=real.id))
    assert isinstance(refunded, Refunded)
    assert refunded.refunded == 5


def a_shadow_yes_sticks_to_its_key() -> None:
    """A call that was said yes to takes nothing later, when it is repeated."""
    world = World(1)
    watch(world)
    world.define("c", 5, mode="shadow")
    server = world.servers[0]
    held = _hold(world, 5)
    command, key = Consume(cap="c", minimum=2, maximum=2), Idempotency(key="k", fingerprint=b"k")
    first = world.ask(server, command, key)
    world.ask(server, Cancel(id=held.id))
    assert world.ask(server, command, key) == first
    server.restart()
    world.run(200_000)
    assert world.ask(server, command, key) == first


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


def _hold(world: World, amount: int, lifetime_ms: int = 1000) -> Held:
    command = Hold(cap="c", amount=amount, lifetime_ms=lifetime_ms)
    held = world.ask(world.servers[0], command)
    assert isinstance(held, Held), held
    return held


def _committed(world: World, server: ServerProcess, held: Held, amount: int) -> Settled:
    settled = world.ask(server, Commit(id=held.id, amount=amount))
    assert isinstance(settled, Settled), settled
    return settled
