"""Idempotency keys: whoever asks again with the same key is given the same answer, once."""

from vcap_es.components.messages.client import (
    Command,
    Consume,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import Consumed, Refunded, Refused
from vcap_es.components.volumecap_server.idempotency import key_digest
from vcap_es.components.volumecap_server.keys.ledger import BUCKET_WEIGHT, records_of
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import idle, taken, world_of
from vcap_es.sim.world.world import World


def ask(world: World, key: str, command: Command) -> object:
    """What a keyed call at the first server is answered."""
    idempotency = Idempotency(key=key, fingerprint=repr(command).encode())
    return world.ask(world.servers[0], command, idempotency)


def take(amount: int) -> Consume:
    """A consume of exactly this amount."""
    return Consume(cap="c", minimum=amount, maximum=amount)


def the_same_key_gives_the_same_answer() -> None:
    """A repeated call takes nothing again."""
    world = world_of(10)
    first = ask(world, "k", take(4))
    assert isinstance(first, Consumed)
    assert ask(world, "k", take(4)) == first
    assert world.take_all("c") == 6


def an_answer_that_holds_the_digest_of_a_key_is_not_that_keys() -> None:
    """A client may try keys until one has a digest that is a text, as `STBSSgjGpITk`."""
    # Given an answer that names a cap so
    world = world_of(10)
    named = Consume(cap="STBSSgjGpITk", minimum=1, maximum=1)
    ask(world, "batch", ConsumeEach(items=[take(1), named]))
    # When the key of that digest is used for the first time, then it is served
    assert isinstance(ask(world, "67076577", take(4)), Consumed)


def keys_chosen_by_a_client_share_no_bucket() -> None:
    """A client tries keys until they have digests alike: they are found as fast as others."""
    # Given keys whose digests begin with the same bits
    world = world_of(1000)
    server = world.servers[0]
    chosen = [each for each in map(str, range(8000)) if key_digest(each)[0] & 31 == 0]
    # When all of them are used
    for each in chosen:
        server.submit(take(1), Idempotency(key=each, fingerprint=b"same"), "me")
    world.run(100_000)
    # Then no bucket has many of them, also after a start
    for _ in range(2):
        share = server.core.keys.ledger.shares["me"]
        buckets = [bucket for each in share.segments for bucket in each.pieces(1)]
        counts = [sum(1 for _ in records_of(bucket)) for bucket in buckets]
        assert sum(counts) == len(chosen)
        assert max(counts) <= 5 * BUCKET_WEIGHT
        server.restart()


def a_capped_key_stays_capped() -> None:
    """The verdict sticks to the key though the total is raised; a new key is served."""
    world = world_of(3)
    refused = ask(world, "k", take(4))
    assert isinstance(refused, Refused)
    world.define("c", 10)
    world.run(1_000_000)
    assert ask(world, "k", take(4)) == refused
    assert isinstance(ask(world, "l", take(4)), Consumed)


def an_unavailable_key_may_try_again() -> None:
    """What could not be known does not stick to the key."""
    world = world_of(10)
    taken(world, world.servers[0], 1)
    world.kill_master()
    refused = ask(world, "k", take(4))
    assert isinstance(refused, Refused)
    assert refused.code == "unavailable"
    world.start_master()
    world.run(100_000)
    assert isinstance(ask(world, "k", take(4)), Consumed)


def a_waiting_key_gets_the_first_calls_answer() -> None:
    """Calls that come while the first one waits are answered with it, and take nothing."""
    world = world_of(10)
    server = world.servers[0]
    key = Idempotency(key="k", fingerprint=b"same")
    tokens = [server.submit(take(4), key) for _ in range(3)]
    answers = [world.answer(server, token) for token in tokens]
    assert isinstance(answers[0], Consumed)
    assert answers == [answers[0]] * 3
    assert world.take_all("c") == 6


def who_waits_is_never_evicted() -> None:
    """However many keys come meanwhile: a call whose key waits gets the first call's answer."""
    world = world_of(1000, limits=Limits(keys_max=4))
    server = world.servers[0]
    ask(world, "before", take(1))
    # Given a call that waits for a topup
    key = Idempotency(key="k", fingerprint=b"same")
    first = server.submit(take(500), key)
    assert first not in server.answers
    # When others fill the room many times over
    for each in range(40):
        server.submit(take(1), Idempotency(key=f"flood{each}", fingerprint=b""), "flood")
    second = server.submit(take(500), key)
    # Then
    answer = world.answer(server, first)
    assert isinstance(answer, Consumed)
    assert world.answer(server, second) == answer
    world.run(200_000)
    assert world.take_all("c") == 1000 - 500 - 1 - 40


def a_flood_evicts_its_own_answers() -> None:
    """Who has few answers keeps them, however many another caller has."""
    world = world_of(1000, limits=Limits(keys_max=8))
    server = world.servers[0]
    key = Idempotency(key="k", fingerprint=b"same")
    first = world.answer(server, server.submit(take(4), key, "few"))
    for each in range(40):
        flood = Idempotency(key=f"flood{each}", fingerprint=b"")
        world.answer(server, server.submit(take(1), flood, "many"))
    assert world.answer(server, server.submit(take(4), key, "few")) == first


def a_full_share_forgets_no_refund() -> None:
    """Where there is no room for another mark, the new refund is refused and the old ones stand."""
    world = world_of(10, limits=Limits(marks_max=3))
    server = world.servers[0]
    consumed = [taken(world, server, 1) for _ in range(5)]
    answers = [world.ask(server, Refund(id=each.id)) for each in consumed]
    kinds = [type(each) for each in answers]
    assert kinds == [Refunded] * 3 + [Refused] * 2
    refusals = [world.ask(server, Refund(id=each.id)) for each in consumed]
    codes = [each.code for each in refusals if isinstance(each, Refused)]
    assert codes == ["settled"] * 3 + ["share_full"] * 2
    hold = world.ask(server, Hold(cap="c", amount=1, lifetime_ms=1000))
    assert isinstance(hold, Refused)
    assert world.take_all("c") == 10 - 5 + 3


def answers_outlive_a_rewriting_that_is_cut_short() -> None:
    """The old key files go when the new one is durable: a process may die at any moment of it."""
    for dies_after_us in range(0, 4000, 250):
        limits = Limits(keys_max=16, key_file_bytes_max=300)
        world = world_of(1000, limits=limits, faults=Faults(fsync_us_max=2000))
        server = world.servers[0]
        idle(world, server, 100)
        key = Idempotency(key="k", fingerprint=b"same")
        first = world.answer(server, server.submit(take(4), key, "few"))
        for each in range(60):
            flood = Idempotency(key=f"flood{each}", fingerprint=b"")
            server.submit(take(1), flood, "many")
        world.run(dies_after_us)
        server.restart()
        world.run(200_000)
        assert world.answer(server, server.submit(take(4), key, "few")) == first
