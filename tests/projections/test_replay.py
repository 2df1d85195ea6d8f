"""Projections driven from a log: equal to a fold, verified on the way, and loud when they stop."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from tests.projections.test_balances import OPENED, state_of
from tests.support.lives import NOON, SECOND, drafts, lives, recorded
from vcap_es.errors import LogDamaged, ProjectionStopped
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact, IntervalEnded, ToppedUp
from vcap_es.events.log import Head
from vcap_es.events.logs.memory import MemoryLog
from vcap_es.events.subscription import Subscription
from vcap_es.projections.balances import encode
from vcap_es.projections.replay import Lag, Runner, link_at, recover, replay
from vcap_es.projections.snapshots import take
from vcap_es.projections.states.data_centre import Fold

IMPOSSIBLE = ToppedUp(cap="c", number=0, incarnation="s", moved=1000)


class Batches:
    """A source that ends after the given batches."""

    def __init__(self, *batches: Sequence[Recorded]) -> None:
        self._batches = batches

    async def __aiter__(self) -> AsyncIterator[Sequence[Recorded]]:
        for batch in self._batches:
            yield batch


async def log_of(facts: Sequence[Fact]) -> MemoryLog:
    """A log with these facts."""
    log = MemoryLog()
    await log.append(drafts(facts), 1)
    return log


@settings(deadline=None)  # encoding a life takes as long as it takes
@given(lives(longest=30))
def test_a_replay_gives_what_the_log_says(facts: list[Fact]) -> None:
    """Replaying a log folds every event once and ends at its head."""

    async def play() -> None:
        log, fold = await log_of(facts), Fold()
        assert await replay(log, fold) == await log.head()
        assert encode(fold.state) == encode(state_of(facts))

    asyncio.run(play())


def test_a_replay_goes_on_from_a_head() -> None:
    """With a head to begin with, only what is behind it is folded, and it joins the chain."""

    async def play() -> None:
        log, fold = await log_of(OPENED), Fold()
        middle = await replay(await log_of(OPENED[:3]), fold)
        assert middle.position == 3
        assert await replay(log, fold, middle) == await log.head()
        assert encode(fold.state) == encode(state_of(OPENED))

    asyncio.run(play())


def test_a_replay_stops_where_the_chain_breaks() -> None:
    """A log on which an event was changed is not believed."""

    class Tampered(MemoryLog):
        async def read_stored(self, after: int = 0, *, limit: int = 1000) -> list[Stored]:
            found = await super().read_stored(after, limit=limit)
            return [replace(e, actor="somebody else") if e.position == 4 else e for e in found]

    async def play() -> None:
        log = Tampered()
        await log.append(drafts(OPENED), 1)
        with pytest.raises(LogDamaged, match="position 4"):
            await replay(log, Fold())

    asyncio.run(play())


def test_a_replay_stops_at_a_fact_that_cannot_be_true() -> None:
    """The error names the position, the kind and the cause."""

    async def play() -> None:
        log = await log_of([*OPENED, IMPOSSIBLE])
        with pytest.raises(ProjectionStopped, match=r"ToppedUp at position 6 .*cannot move 960"):
            await replay(log, Fold())

    asyncio.run(play())


def test_a_runner_follows_a_subscription() -> None:
    """What is appended while it runs is folded too, in order."""
    facts = [*OPENED, IntervalEnded(cap="c", number=0)]
    is_ended = asyncio.Event()

    class Watched(Fold):
        def evolve(self, fact: Fact) -> None:
            super().evolve(fact)
            if isinstance(fact, IntervalEnded):
                is_ended.set()

    async def play() -> None:
        log, fold = await log_of(OPENED), Watched()
        runner = Runner(fold, Subscription(log, limit=2))
        running = asyncio.create_task(runner.run())
        await log.append(drafts(facts), 1)
        await asyncio.wait_for(is_ended.wait(), timeout=60)
        assert encode(fold.state) == encode(state_of(facts))
        running.cancel()

    asyncio.run(play())


def test_a_bad_fact_stops_the_runner_at_the_position_before_it() -> None:
    """The state stays what it was, nothing after is folded, and `failed` says why, for good."""
    # Given a fact that cannot be true between two that can
    fold = Fold()
    events = recorded([*OPENED, IMPOSSIBLE, IntervalEnded(cap="c", number=0)])
    runner = Runner(fold, Batches(events[:4], events[4:]))
    # When it is run
    with pytest.raises(ProjectionStopped, match="position 6"):
        asyncio.run(runner.run())
    # Then it stands before that fact
    assert runner.position == 5
    assert "the ToppedUp at position 6 cannot be folded" in runner.failed
    assert encode(fold.state) == encode(state_of(OPENED))
    # And it does not start again
    with pytest.raises(ProjectionStopped, match="position 6"):
        asyncio.run(runner.run())
    assert runner.position == 5


def test_the_lag_counts_events_and_time() -> None:
    """A runner that is current has no lag, however long nothing happens; else it grows."""
    runner = Runner(Fold(), Batches(recorded(OPENED)))
    asyncio.run(runner.run())
    later = NOON + 60 * SECOND
    # The last event folded is 5 seconds after noon, and there are two more
    assert runner.lag(Head(position=7), later) == Lag(events=2, age_us=55 * SECOND)
    # Caught up a minute after noon, it lags from then on when there is more
    assert runner.lag(Head(position=5), later) == Lag(events=0, age_us=0)
    assert runner.lag(Head(position=6), later + SECOND) == Lag(events=1, age_us=SECOND)


def test_recovery_without_a_snapshot_replays_the_whole_log() -> None:
    """No snapshot is no trouble."""

    async def play() -> None:
        log = await log_of(OPENED)
        recovered = await recover(log)
        assert (recovered.replayed_after, recovered.discarded) == (0, "")
        assert recovered.head == await log.head()
        assert encode(recovered.fold.state) == encode(state_of(OPENED))

    asyncio.run(play())


@pytest.mark.parametrize("count", range(len(OPENED) + 1))
def test_recovery_from_a_snapshot_replays_the_rest(count: int) -> None:
    """From a snapshot at any position the state comes out the same."""

    async def play() -> None:
        fold = Fold()
        snapshot = take(fold.state, await replay(await log_of(OPENED[:count]), fold))
        snapshot = take(fold.state, Head()) if count == 0 else snapshot
        log = await log_of(OPENED)
        recovered = await recover(log, snapshot)
        assert (recovered.replayed_after, recovered.discarded) == (count, "")
        assert recovered.head == await log.head()
        assert encode(recovered.fold.state) == encode(state_of(OPENED))

    asyncio.run(play())


def test_recovery_discards_a_snapshot_that_does_not_fit() -> None:
    """Damaged, ahead of the log, or of another log: it is replayed from the beginning, and said."""

    async def play() -> None:
        log = await log_of(OPENED)
        head = await log.head()
        good = take(state_of(OPENED), head)
        for snapshot, reason in (
            (b"", "no snapshot"),
            (good[:-1], "damaged"),
            (take(state_of(OPENED), replace(head, position=9)), "no event at position 9"),
            (take(state_of(OPENED), replace(head, link=bytes(32))), "another event"),
        ):
            recovered = await recover(log, snapshot)
            assert reason in recovered.discarded
            assert recovered.replayed_after == 0
            assert encode(recovered.fold.state) == encode(state_of(OPENED))

    asyncio.run(play())


def test_the_link_at_a_position_is_that_of_its_event() -> None:
    """Before the first event it is the genesis; where there is no event, there is none."""

    async def play() -> None:
        log = await log_of(OPENED)
        events = await log.read()
        assert await link_at(log, 0) == Head().link
        assert await link_at(log, 3) == events[2].link
        assert await link_at(log, 6) is None

    asyncio.run(play())
