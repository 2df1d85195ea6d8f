"""Holds and refunds: what a consume took comes back at most once, and only to where it was."""

import pytest

from vcap_es.components.messages.client import Cancel, Commit, Consume, Hold, Refund
from vcap_es.components.messages.outcomes import Consumed, Held, Refunded, Refused, Settled
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.consume_ids import ConsumeId, find_consume_id
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import world_of
from vcap_es.sim.world.world import World


def hold(world: World, amount: int, lifetime_ms: int = 1000) -> Held:
    """A hold at the first server."""
    held = world.ask(world.servers[0], Hold(cap="c", amount=amount, lifetime_ms=lifetime_ms))
    assert isinstance(held, Held)
    return held


def consumed(world: World, amount: int) -> Consumed:
    """A consume at the first server."""
    answer = world.consume(world.servers[0], "c", amount)
    assert isinstance(answer, Consumed)
    return answer


def test_a_hold_is_a_spend_until_it_is_cancelled() -> None:
    """What is held nobody else gets; cancelled, all of it can be had anywhere."""
    world = world_of(10)
    held = hold(world, 10)
    assert isinstance(world.consume(world.servers[1], "c"), Refused)
    settled = world.ask(world.servers[0], Cancel(id=held.id))
    assert settled == Settled(id=held.id, cap="c", committed=0, refunded=10)
    assert world.take_all("c", [world.servers[1]]) == 10


def test_a_commit_keeps_its_part_and_returns_the_rest() -> None:
    """Of 10 held, 4 are committed and 6 come back."""
    world = world_of(10)
    settled = world.ask(world.servers[0], Commit(id=hold(world, 10).id, amount=4))
    assert isinstance(settled, Settled)
    assert (settled.committed, settled.refunded, settled.short) == (4, 6, 0)
    assert world.take_all("c") == 6


def test_an_expired_hold_comes_back_by_itself() -> None:
    """At the end of its life, and not before, a hold comes back; it cannot be committed then."""
    world = world_of(5)
    held = hold(world, 5, lifetime_ms=500)
    assert world.take_all("c") == 0
    world.run(600_000)
    late = world.ask(world.servers[0], Commit(id=held.id))
    assert isinstance(late, Refused)
    assert world.take_all("c") == 5


def test_an_open_hold_is_not_refunded() -> None:
    """A refund of an open hold is refused: it is committed or cancelled."""
    world = world_of(5)
    refusal = world.ask(world.servers[0], Refund(id=hold(world, 5).id))
    assert isinstance(refusal, Refused)
    assert refusal.code == "settled"


def test_two_refunds_at_once_give_back_once() -> None:
    """A second refund that comes while the first is being fsynced finds nothing left."""
    world = world_of(10)
    taken = consumed(world, 6)
    server = world.servers[0]
    tokens = [server.submit(Refund(id=taken.id)) for _ in range(2)]
    answers = [world.answer(server, token) for token in tokens]
    assert sorted(type(each).__name__ for each in answers) == ["Refunded", "Refused"]
    assert world.take_all("c") == 10


@pytest.mark.parametrize(
    "forge",
    [
        lambda id_: id_.replace("0-4", "0-5"),  # beyond what was spent
        lambda id_: id_.replace("0-4", "1-3"),  # cuts into a consume that is known
        lambda id_: id_.replace("0-4", "4-4"),  # nothing
        lambda id_: id_.replace("0-4", "-1-4"),
        lambda id_: id_.replace(".c.", ".d."),
        lambda id_: "x" + id_,  # another server's
        lambda id_: "",
        lambda id_: id_ + "0" * 20,
    ],
)
def test_a_forged_id_is_refunded_nothing(forge: object) -> None:
    """An id that no consume was given is refused, and nothing comes back."""
    world = world_of(10)
    taken = consumed(world, 4)
    server = world.servers[0]
    world.ask(server, Refund(id=taken.id, amount=1))
    refusal = world.ask(server, Refund(id=forge(taken.id)))  # type: ignore[operator]  # one of the above
    assert isinstance(refusal, Refused)
    assert refusal.code in ("unknown_id", "ended")
    assert world.take_all("c") == 7


def test_a_refund_outlives_the_machine_only_when_it_was_answered() -> None:
    """A refund that was answered is kept by the machine; what was refunded is served once."""
    world = world_of(10)
    server = world.servers[0]
    taken = consumed(world, 10)
    world.ask(server, Refund(id=taken.id, amount=6))
    server.restart(same_boot=False)
    world.run(200_000)
    again = world.ask(server, Refund(id=taken.id, amount=5))
    assert isinstance(again, Refused)
    # The ceiling may have covered what came back: that is not served, and never twice.
    assert world.take_all("c") <= 6
    rest = world.ask(server, Refund(id=taken.id, amount=4))
    assert isinstance(rest, Refunded)
    assert world.take_all("c") == 4


def test_an_open_hold_outlives_the_process_and_then_expires() -> None:
    """A process that dies finds its holds again, and they expire when they should."""
    world = world_of(5)
    hold(world, 5, lifetime_ms=1000)
    world.servers[0].restart()
    world.run(200_000)
    assert world.take_all("c") == 0
    world.run(1_000_000)
    assert world.take_all("c") == 5


def test_a_settlement_is_whole_or_not_at_all() -> None:
    """A process that dies before a cancel is written finds the hold open, and it still expires."""
    world = world_of(5)
    server = world.servers[0]
    held = hold(world, 5, lifetime_ms=500)
    # Given a record on its way, so that the next one has to wait
    world.faults = Faults(fsync_us_max=100_000)
    server.core.holdings.journal_writer.keep(next(iter(server.core.holdings.slices.values())))
    server.flush()
    server.submit(Cancel(id=held.id))
    server.restart()
    world.faults = Faults()
    world.run(1_000_000)
    assert world.take_all("c") == 5


def test_holds_and_refunds_are_bounded_and_room_comes_back() -> None:
    """When no more can be kept they are refused; when an interval is closed there is room again."""
    limits = Limits(marks_max=2, refund_window_ms=100)
    world = World(1, limits=limits, now=1_767_268_855_000_000)
    world.define("c", 100, interval="minute")
    server = world.servers[0]
    taken = [consumed(world, 1) for _ in range(3)]
    assert isinstance(world.ask(server, Refund(id=taken[0].id)), Refunded)
    hold(world, 1)
    for command in (Refund(id=taken[1].id), Hold(cap="c", amount=1, lifetime_ms=10)):
        refusal = world.ask(server, command)
        assert isinstance(refusal, Refused)
        assert refusal.code == "share_full"
    world.run(10_000_000)
    hold(world, 1)


def test_one_api_key_fills_only_its_share_of_holds_and_refunds() -> None:
    """Where one has as many as are left for all, it is refused more, by name; another is not."""
    # Given
    world = world_of(1000, limits=Limits(marks_max=100))
    server = world.servers[0]

    def held(owner: str) -> object:
        command = Hold(cap="c", amount=1, lifetime_ms=1)
        return world.answer(server, server.submit(command, None, owner))

    # When
    answers = [held("evil") for _ in range(100)]
    world.run(100_000)
    # Then
    kinds = [each.code if isinstance(each, Refused) else "held" for each in answers]
    assert kinds == ["held"] * 50 + ["share_full"] * 50
    assert isinstance(held("good"), Held)
    taken = consumed(world, 1)
    refund = world.answer(server, server.submit(Refund(id=taken.id), None, "good"))
    assert isinstance(refund, Refunded)


def test_shares_outlive_the_process() -> None:
    """After a restart it is known who has how many holds and refunds, expired ones included."""
    world = world_of(1000)
    server = world.servers[0]
    for owner, lifetime_ms in (("a", 1), ("a", 5000), ("b", 5000)):
        hold_ = Hold(cap="c", amount=1, lifetime_ms=lifetime_ms)
        world.answer(server, server.submit(hold_, None, owner))
    taken = consumed(world, 3)
    world.answer(server, server.submit(Refund(id=taken.id, amount=1), None, "c"))
    world.run(100_000)
    before = dict(server.core.settlement.known)
    server.restart()
    assert before == {"a": 2, "b": 1, "c": 1}
    assert server.core.settlement.known == before


def test_ids_are_read_as_they_are_written() -> None:
    """An id names its server, interval, cap and range, also where the cap's id has dots."""
    world = World(1)
    world.define("a.b-c.d", 10)
    answer = world.consume(world.servers[0], "a.b-c.d", 3)
    assert isinstance(answer, Consumed)
    incarnation = world.servers[0].core.incarnation
    assert find_consume_id(answer.id) == ConsumeId(incarnation, 0, "a.b-c.d", 0, 3)


def test_a_hold_of_more_than_there_is_is_capped() -> None:
    """A hold takes all or nothing."""
    world = world_of(5)
    refusal = world.ask(world.servers[0], Hold(cap="c", amount=6, lifetime_ms=10))
    assert isinstance(refusal, Refused)
    assert refusal.code == "capped"
    assert isinstance(world.ask(world.servers[0], Consume(cap="c", minimum=5, maximum=5)), Consumed)


def test_a_refund_whose_interval_closes_meanwhile_is_answered() -> None:
    """Its record is not needed any more, but whoever asked still waits for it."""
    world = world_of(10)
    answer = consumed(world, 3)
    server = world.servers[0]
    # Given a refund that is decided and not written
    token = next(world.tokens)
    server.core.submit(token, Refund(id=answer.id), None, server.now_ns)
    # When the slice goes before that
    holdings = server.core.holdings
    found = holdings.slices["c", 0]
    slot = found.slot
    holdings._drop(found)
    server.flush()
    world.run(10_000)
    # Then
    assert token in server.answers
    assert found.slot != slot, "it reads no cell that another slice may have"


def test_a_commit_above_the_hold_is_in_the_share_of_the_holds_owner() -> None:
    """What it takes is known by itself, after a restart too."""
    world = world_of(100, limits=Limits(marks_max=4))
    server = world.servers[0]

    def held() -> Held:
        token = server.submit(Hold(cap="c", amount=1, lifetime_ms=1000), None, "me")
        answer = world.answer(server, token)
        assert isinstance(answer, Held)
        return answer

    first = held()
    assert isinstance(world.ask(server, Commit(id=first.id, amount=2)), Settled)
    assert server.core.settlement.known == {"me": 2}
    server.restart()
    world.run(200_000)
    assert server.core.settlement.known == {"me": 2}


def test_a_commit_that_finds_its_share_full_leaves_the_hold_open() -> None:
    """It is refused by name, and may be committed up to what was held."""
    world = world_of(100, limits=Limits(marks_max=2))
    server = world.servers[0]
    command = Hold(cap="c", amount=1, lifetime_ms=1000)
    held = world.answer(server, server.submit(command, None, "me"))
    assert isinstance(held, Held)
    refusal = world.ask(server, Commit(id=held.id, amount=2))
    assert isinstance(refusal, Refused)
    assert refusal.code == "share_full"
    settled = world.ask(server, Commit(id=held.id))
    assert settled == Settled(id=held.id, cap="c", committed=1, refunded=0)


def test_a_hold_without_more_in_an_interval_that_closes_meanwhile_is_answered() -> None:
    """A commit that waits when the books close is told so, and nobody waits for ever."""
    world = world_of(10)
    server = world.servers[0]
    held = hold(world, 3)
    world.cut.add(server.name)
    server.disconnect()
    token = server.submit(Commit(id=held.id, amount=9))
    server.core.holdings._drop(server.core.holdings.slices["c", 0])
    server.flush()
    world.run(100_000)
    refusal = server.answers[token]
    assert isinstance(refusal, Refused)
    assert refusal.code == "ended"
