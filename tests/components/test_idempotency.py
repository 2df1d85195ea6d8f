"""Idempotency keys: the same key gives the same answer, until the interval ends."""

from vcap_es.components.commands import Command, Consume, ConsumeEach, Hold, Idempotency, Refund
from vcap_es.components.limits import Limits
from vcap_es.components.outcomes import Consumed, ConsumedEach, Held, Refunded, Refused
from vcap_es.sim.scenarios.small_world import world_of
from vcap_es.sim.servers import ServerProcess
from vcap_es.sim.world import World


def ask(world: World, key: str, command: Command, server: ServerProcess | None = None) -> object:
    """What a keyed call is answered."""
    idempotency = Idempotency(key=key, fingerprint=repr(command).encode())
    return world.ask(server or world.servers[0], command, idempotency)


def take(amount: int, cap: str = "c") -> Consume:
    """A consume of exactly this amount."""
    return Consume(cap=cap, minimum=amount, maximum=amount)


def test_the_same_key_with_another_request_is_refused() -> None:
    """A key belongs to one request."""
    world = world_of(10)
    ask(world, "k", take(4))
    refusal = ask(world, "k", take(5))
    assert isinstance(refusal, Refused)
    assert refusal.code == "key_reused"


def test_keys_outlive_the_process() -> None:
    """After a restart the answers are the same, also of holds, refunds, refusals and batches."""
    world = world_of(20)
    taken = ask(world, "consume", take(4))
    assert isinstance(taken, Consumed)
    calls: list[tuple[str, Command]] = [
        ("consume", take(4)),
        ("hold", Hold(cap="c", amount=2, lifetime_ms=5000)),
        ("refund", Refund(id=taken.id, amount=1)),
        ("refused", take(100)),
        ("batch", ConsumeEach(items=[take(1), take(90)])),
    ]
    before = [ask(world, key, command) for key, command in calls]
    kinds = [Consumed, Held, Refunded, Refused, ConsumedEach]
    assert [type(each) for each in before] == kinds
    world.servers[0].restart()
    world.run(200_000)
    assert [ask(world, key, command) for key, command in calls] == before


def test_a_capped_key_outlives_the_process_where_no_unit_ever_was() -> None:
    """A server that never had a unit of the interval keeps its capped keys all the same."""
    world = world_of(0)
    refused = ask(world, "k", take(1))
    assert isinstance(refused, Refused)
    world.run(10_000)
    world.servers[0].restart()
    world.define("c", 5)
    world.run(200_000)
    assert ask(world, "k", take(1)) == refused


def test_an_answered_refund_is_not_done_again_after_the_machine_was_lost() -> None:
    """A refund and its key are kept in one record: repeated after a crash it gives back once."""
    world = world_of(10)
    taken = ask(world, "c", take(10))
    assert isinstance(taken, Consumed)
    refund = Refund(id=taken.id, amount=3)
    first = ask(world, "r", refund)
    assert isinstance(first, Refunded)
    world.servers[0].restart(same_boot=False)
    world.run(200_000)
    assert ask(world, "r", refund) == first
    rest = world.ask(world.servers[0], Refund(id=taken.id))
    assert isinstance(rest, Refunded)
    assert rest.refunded_in_all == 10


def test_keys_are_bounded_until_an_interval_is_closed() -> None:
    """When no more keys fit, keyed calls are refused; the close of an interval makes room."""
    limits = Limits(keys_max=2, refund_window_ms=100)
    world = World(1, limits=limits, now=1_767_268_855_000_000)
    world.define("c", 100, interval="minute")
    assert isinstance(ask(world, "a", take(1)), Consumed)
    assert isinstance(ask(world, "b", take(1)), Consumed)
    full = ask(world, "c", take(1))
    assert isinstance(full, Refused)
    assert full.code == "keys_full"
    assert isinstance(world.consume(world.servers[0], "c"), Consumed)
    world.run(10_000_000)
    assert isinstance(ask(world, "c", take(1)), Consumed)


def test_keys_of_closed_intervals_are_forgotten_in_the_journal_too() -> None:
    """A journal does not grow by the keys and totals of intervals that are closed."""
    world = World(1, limits=Limits(refund_window_ms=100), now=1_767_268_855_000_000)
    world.define("c", 100, interval="minute")
    ask(world, "a", take(1))
    ask(world, "b", take(1000))
    world.run(10_000_000)
    journal = world.servers[0].disk.read(same_boot=True)
    assert not journal.keyed
    assert ("c", 0) not in journal.kept


def test_a_batch_counts_as_many_answers() -> None:
    """What is bounded is what is kept: one key with three answers takes the room of three."""
    # Given
    world = world_of(10, limits=Limits(keys_max=3))
    batch = ConsumeEach(items=[take(1), take(1), take(1)])
    # When
    assert isinstance(ask(world, "batch", batch), ConsumedEach)
    full = ask(world, "next", take(1))
    # Then
    assert isinstance(full, Refused)
    assert full.code == "keys_full"
    assert ask(world, "batch", batch) == ask(world, "batch", batch)
