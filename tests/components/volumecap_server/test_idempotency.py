"""Idempotency keys: the same key gives the same answer, for a retention time."""

from vcap_es.components.messages.client import (
    Command,
    Consume,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import Consumed, ConsumedEach, Held, Refunded, Refused
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.scenarios.small_world import world_of
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World


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


def test_beyond_the_bound_the_oldest_answers_are_evicted_and_nobody_is_refused() -> None:
    """A full store forgets the answer that was given first; the newest are still known."""
    # Given
    world = world_of(100, limits=Limits(keys_max=8))
    answers = [ask(world, f"k{each}", take(1)) for each in range(30)]
    # When
    again = [ask(world, f"k{each}", take(1)) for each in (29, 28, 27)]
    oldest = ask(world, "k0", take(1))
    # Then
    assert all(isinstance(each, Consumed) for each in answers)
    assert again == [answers[29], answers[28], answers[27]]
    assert isinstance(oldest, Consumed)
    assert oldest != answers[0]
    assert world.servers[0].core.keys.ledger.evicted > 0


def test_one_caller_pushes_nobody_elses_answers_out() -> None:
    """Whoever has the most loses the oldest; who has less than an equal part loses none."""
    # Given
    world = world_of(1000, limits=Limits(keys_max=16))
    key = Idempotency(key="mine", fingerprint=b"x")
    server = world.servers[0]
    first = world.answer(server, server.submit(take(1), key, "small"))
    # When
    for each in range(200):
        flood = Idempotency(key=f"{each}", fingerprint=b"x")
        assert isinstance(world.answer(server, server.submit(take(1), flood, "large")), Consumed)
    # Then
    assert world.answer(server, server.submit(take(1), key, "small")) == first


def test_the_same_key_of_two_callers_is_two_keys() -> None:
    """Nobody is given another one's answer."""
    world = world_of(10)
    server, key = world.servers[0], Idempotency(key="k", fingerprint=b"x")
    answers = [
        world.answer(server, server.submit(take(1), key, owner)) for owner in ("a", "b", "a")
    ]
    assert answers[0] == answers[2] != answers[1]


def test_an_answer_is_forgotten_after_the_retention_time() -> None:
    """Until then it is the same, also after a restart; some time later it is another consume."""
    # Given
    world = world_of(10, limits=Limits(key_retention_ms=10_000))
    first = ask(world, "k", take(1))
    # When
    world.run(4_000_000)
    world.servers[0].restart()
    world.run(5_900_000)
    within = ask(world, "k", take(1))
    world.run(4_000_000)
    after = ask(world, "k", take(1))
    # Then
    assert within == first
    assert isinstance(after, Consumed)
    assert after != first


def test_a_capped_key_is_not_capped_in_the_next_period() -> None:
    """The verdict was about a period that is over."""
    # Given a minute of which five seconds are left
    world = World(1, now=1_767_268_855_000_000)
    world.define("c", 5, interval="minute")
    refused = ask(world, "k", take(6))
    assert isinstance(refused, Refused)
    assert ask(world, "k", take(6)) == refused
    # When
    world.run(6_000_000)
    world.define("c", 100, interval="minute")
    world.run(100_000)
    # Then
    assert isinstance(ask(world, "k", take(6)), Consumed)


def test_key_files_are_dropped_whole_and_stay_few() -> None:
    """After many retention times the journal has the files of one."""
    # Given
    limits = Limits(key_retention_ms=4_000)
    world = world_of(1000, limits=limits)
    # When
    for each in range(100):
        ask(world, f"k{each}", take(1))
        world.run(500_000)
    # Then
    files = world.servers[0].disk.key_files
    assert len(files) <= 8
    assert sum(len(each.frames) for each in files.values()) < 60


def test_files_of_evicted_answers_are_written_anew() -> None:
    """A flood that evicts its own answers does not fill the disk, and takes nobody else's along."""
    # Given
    limits = Limits(keys_max=16, key_file_bytes_max=2_000)
    world = world_of(100_000, limits=limits)
    server, key = world.servers[0], Idempotency(key="mine", fingerprint=b"x")
    first = world.answer(server, server.submit(take(1), key, "small"))
    # When
    for each in range(1000):
        server.submit(take(1), Idempotency(key=f"{each}", fingerprint=b"x"), "large")
        world.run(2_000)
    world.run(1_000_000)
    size = sum(len(frame) for file in server.disk.key_files.values() for frame in file.frames)
    server.restart()
    world.run(200_000)
    # Then
    assert size < 10_000
    assert world.answer(server, server.submit(take(1), key, "small")) == first


def test_keys_of_closed_intervals_are_forgotten_in_the_journal_too() -> None:
    """Nothing keeps the name of an interval that is closed, nor its totals."""
    world = World(1, limits=Limits(refund_window_ms=100), now=1_767_268_855_000_000)
    world.define("c", 100, interval="minute")
    ask(world, "a", take(1))
    ask(world, "b", take(1000))
    world.run(10_000_000)
    world.servers[0].restart()
    journal = world.servers[0].disk.read(same_boot=True)
    assert not world.servers[0].core.keys.ledger.names
    assert ("c", 0) not in journal.kept


def test_a_large_answer_counts_as_many_keys() -> None:
    """What is bounded is memory: a batch of a hundred has the room of many keys."""
    world = world_of(1000)
    batch = ConsumeEach(items=[take(1)] * 100)
    answer = ask(world, "batch", batch)
    assert isinstance(answer, ConsumedEach)
    assert ask(world, "batch", batch) == answer
    ledger = world.servers[0].core.keys.ledger
    assert ledger.count == 1
    assert ledger.weight > 10


def test_a_batch_outlives_the_close_of_one_of_its_intervals() -> None:
    """It would take the units of the other one again."""
    # Given a minute cap of whose minute five seconds are left, and a day cap
    limits = Limits(refund_window_ms=100)
    world = World(1, limits=limits, now=1_767_268_855_000_000)
    world.define("minute", 100, interval="minute")
    world.define("day", 100)
    batch = ConsumeEach(items=[take(1, "minute"), take(1, "day")])
    answer = ask(world, "k", batch)
    # When
    world.run(10_000_000)
    assert ("minute", 0) not in world.servers[0].core.holdings.slices
    # Then
    assert ask(world, "k", batch) == answer
