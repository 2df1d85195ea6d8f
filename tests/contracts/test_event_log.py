"""What every log promises, shown for every adapter."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.support.adapters import Opener, Run, opened
from tests.support.drafts import draft, drafts, epoch_started, spend_reported, topped_up
from vcap_es.errors import EpochRefused, InvalidFact, InvalidInput, LogClosed
from vcap_es.events.chain import GENESIS, verify
from vcap_es.events.envelope import Recorded
from vcap_es.events.log import BATCH_EVENTS_MAX, EventLog, Head


def test_an_empty_log_has_the_empty_head(run: Run) -> None:
    """Before the first event the position is 0 and the link is that of the beginning."""

    async def scenario(log: EventLog) -> None:
        assert await log.head() == Head(position=0, epoch=0, link=GENESIS)
        assert await log.read() == []

    run(scenario)


def test_a_batch_is_recorded_in_order(run: Run) -> None:
    """Positions start at 1 and have no holes, and every field is read back as it was given."""

    async def scenario(log: EventLog) -> None:
        batch = [draft(), draft(spend_reported("ads:1", "ads:2")), draft(epoch_started(3))]
        answer = await log.append(batch, epoch=3)
        assert [event.position for event in answer] == [1, 2, 3]
        assert await log.read() == answer
        for given, event in zip(batch, answer, strict=True):
            assert event.epoch == 3
            for name in given.__struct_fields__:
                assert getattr(event, name) == getattr(given, name)

    run(scenario)


def test_the_head_is_the_last_event(run: Run) -> None:
    """After an append the head has the position, epoch and link of the last event."""

    async def scenario(log: EventLog) -> None:
        last = (await log.append(drafts(3), epoch=2))[-1]
        assert await log.head() == Head(position=3, epoch=2, link=last.link)

    run(scenario)


def test_the_chain_covers_everything(run: Run) -> None:
    """What is stored verifies from the beginning to the head, also in pieces."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(5), epoch=1)
        await log.append(drafts(4), epoch=2)
        stored = await log.read_stored()
        assert verify(stored) == (await log.head()).link
        middle = verify(await log.read_stored(limit=4))
        assert verify(await log.read_stored(4), middle) == (await log.head()).link

    run(scenario)


def test_racing_writers_lose_nothing(run: Run) -> None:
    """Many tasks append at once: each batch stays together, and all have their place."""

    async def scenario(log: EventLog) -> None:
        async def writer() -> list[list[Recorded]]:
            return [await log.append(drafts(size), epoch=1) for size in (1, 3, 2)]

        answers = [
            batch for each in await asyncio.gather(*(writer() for _ in range(20))) for batch in each
        ]
        for batch in answers:
            positions = [event.position for event in batch]
            assert positions == list(range(positions[0], positions[0] + len(batch)))
        assert [event.position for event in await log.read()] == list(range(1, 121))
        assert {event.event_id for batch in answers for event in batch} == {
            event.event_id for event in await log.read()
        }
        assert verify(await log.read_stored()) == (await log.head()).link

    run(scenario)


def test_one_task_appends_in_its_own_order(run: Run) -> None:
    """Appends that were started one after the other are recorded so, also without waiting."""

    async def scenario(log: EventLog) -> None:
        batches = [drafts(2) for _ in range(50)]
        answers = await asyncio.gather(*(log.append(batch, epoch=1) for batch in batches))
        assert [event for batch in answers for event in batch] == await log.read()

    run(scenario)


def test_an_id_is_recorded_once(run: Run) -> None:
    """A repeated append gives the events that are there, even if the fact differs."""

    async def scenario(log: EventLog) -> None:
        first = await log.append([draft(event_id=71), draft(event_id=72)], epoch=1)
        again = await log.append(
            [draft(event_id=72), draft(event_id=73), draft(spend_reported("x"), event_id=71)],
            epoch=2,
        )
        assert [again[0], again[2]] == [first[1], first[0]]
        assert (again[1].position, again[1].epoch) == (3, 2)
        assert await log.read() == [*first, again[1]]

    run(scenario)


def test_an_id_twice_in_one_batch_is_recorded_once(run: Run) -> None:
    """Both places of the answer have the same event."""

    async def scenario(log: EventLog) -> None:
        answer = await log.append([draft(event_id=71), draft(), draft(event_id=71)], epoch=1)
        assert answer[0] == answer[2]
        assert await log.read() == answer[:2]

    run(scenario)


def test_an_id_in_two_racing_batches_is_recorded_once(run: Run) -> None:
    """Two writers with one id get the same event, and their other events are kept."""

    async def scenario(log: EventLog) -> None:
        one, two = await asyncio.gather(
            log.append([draft(event_id=71), draft()], epoch=1),
            log.append([draft(), draft(event_id=71)], epoch=1),
        )
        assert one[0] == two[1]
        assert await log.read() == [one[0], one[1], two[0]]

    run(scenario)


def test_a_batch_of_known_ids_changes_nothing(run: Run) -> None:
    """A repeat alone neither moves the head nor raises the epoch."""

    async def scenario(log: EventLog) -> None:
        await log.append([draft(event_id=71)], epoch=1)
        head = await log.head()
        await log.append([draft(event_id=71)], epoch=9)
        assert await log.head() == head

    run(scenario)


def test_an_old_epoch_is_refused(run: Run) -> None:
    """Nothing of the batch is recorded, and the log goes on for the newer epoch."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(1), epoch=5)
        with pytest.raises(EpochRefused, match="epoch 4"):
            await log.append(drafts(2), epoch=4)
        assert (await log.head()).position == 1
        await log.append(drafts(1), epoch=5)
        assert (await log.head()).position == 2

    run(scenario)


def test_the_epoch_is_checked_inside_the_append(run: Run) -> None:
    """An old epoch right behind a new one is refused, though neither was on the log before."""

    async def scenario(log: EventLog) -> None:
        old, new, late = await asyncio.gather(
            log.append(drafts(1), epoch=1),
            log.append(drafts(1), epoch=2),
            log.append(drafts(1), epoch=1),
            return_exceptions=True,
        )
        assert isinstance(late, EpochRefused)
        assert isinstance(old, list)
        assert isinstance(new, list)
        assert await log.read() == [*old, *new]

    run(scenario)


def test_an_empty_batch_only_checks_the_epoch(run: Run) -> None:
    """It is refused for an old epoch, and leaves the log as it is for any other."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(1), epoch=5)
        head = await log.head()
        assert await log.append([], epoch=5) == []
        assert await log.append([], epoch=6) == []
        with pytest.raises(EpochRefused):
            await log.append([], epoch=4)
        assert await log.head() == head

    run(scenario)


def test_a_batch_with_one_bad_draft_leaves_nothing(run: Run) -> None:
    """What cannot be written is refused before anything is, and the log goes on."""

    async def scenario(log: EventLog) -> None:
        good = draft()
        for field, value, error in (
            ("event_id", b"short", InvalidInput),
            ("recorded_at", 1.5, InvalidInput),
            ("recorded_at", 2**63, InvalidInput),
            ("dc", None, InvalidInput),
            ("actor", "\ud800", InvalidInput),
            ("fact", topped_up("ads:1", moved=True), InvalidFact),
        ):
            values = {name: getattr(good, name) for name in good.__struct_fields__}
            bad = type(good)(**{**values, field: value})
            with pytest.raises(error):
                await log.append([draft(), bad], epoch=1)
        assert await log.head() == Head()
        assert len(await log.append([good], epoch=1)) == 1

    run(scenario)


def test_a_batch_and_an_epoch_have_limits(run: Run) -> None:
    """A batch that is too long and an epoch that is no number are refused."""

    async def scenario(log: EventLog) -> None:
        with pytest.raises(InvalidInput, match="at most"):
            await log.append([draft()] * (BATCH_EVENTS_MAX + 1), epoch=1)
        for epoch in (-1, 2**63, True, 1.0):
            with pytest.raises(InvalidInput, match="epoch"):
                await log.append(drafts(1), epoch=epoch)  # type: ignore[arg-type]  # on purpose

    run(scenario)


def test_read_gives_a_page(run: Run) -> None:
    """`after` and `limit` bound what is read; a limit larger than a chunk is met."""

    async def scenario(log: EventLog) -> None:
        events = await log.append(drafts(2500), epoch=1)
        assert await log.read(2) == events[2:1002]
        assert await log.read(2, limit=3) == events[2:5]
        assert await log.read(limit=2400) == events[:2400]
        assert await log.read(2499, limit=10) == events[2499:]
        assert await log.read(2500) == []
        assert await log.read(0, limit=0) == []
        assert len(await log.read_stored(100, limit=2100)) == 2100

    run(scenario)


def test_read_filters(run: Run) -> None:
    """By cap, also of a report over several caps; by kind; and by both."""

    async def scenario(log: EventLog) -> None:
        a, b, both, epoch = await log.append(
            [
                draft(cap="a"),
                draft(cap="b"),
                draft(spend_reported("a", "b", "a")),
                draft(epoch_started(1)),
            ],
            epoch=1,
        )
        assert await log.read(cap="a") == [a, both]
        assert await log.read(cap="b", after=2) == [both]
        assert await log.read(cap="a", limit=1) == [a]
        assert await log.read(kind="ToppedUp") == [a, b]
        assert await log.read(kind="EpochStarted") == [epoch]
        assert await log.read(cap="b", kind="SpendReported") == [both]
        assert await log.read(cap="c") == await log.read(kind="Nothing") == []

    run(scenario)


def test_a_reader_never_skips_while_a_writer_appends(run: Run) -> None:
    """What a reader has seen at any moment is the log from its beginning, without a hole."""

    async def scenario(log: EventLog) -> None:
        async def write() -> None:
            for size in range(1, 60):
                await log.append(drafts(size % 7 + 1), epoch=1)

        writers = [asyncio.create_task(write()) for _ in range(3)]
        seen: list[Recorded] = []
        while not all(writer.done() for writer in writers):
            seen.extend(await log.read(len(seen), limit=50))
            assert [event.position for event in seen] == list(range(1, len(seen) + 1))
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
        while batch := await log.read(len(seen)):
            seen.extend(batch)
        assert len(seen) == (await log.head()).position
        assert seen[-1].link == (await log.head()).link

    run(scenario)


def test_wait_returns_when_there_is_more(run: Run) -> None:
    """At once if the log is longer already, else with the append that makes it so."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(2), epoch=1)
        await log.wait(1)
        waiting = asyncio.create_task(log.wait(3))
        await log.append(drafts(1), epoch=1)
        await asyncio.sleep(0)
        assert not waiting.done()
        await log.append(drafts(1), epoch=1)
        await waiting

    run(scenario)


def test_a_closed_log_says_so(run: Run) -> None:
    """Every call raises `LogClosed`, those that wait as well; closing twice is nothing."""

    async def scenario(log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait(0))
        await asyncio.sleep(0)
        await log.close()
        await log.close()
        calls: list[Awaitable[object]] = [
            waiting,
            log.wait(0),
            log.append(drafts(1), epoch=1),
            log.read(),
            log.read_stored(),
            log.head(),
        ]
        for call in calls:
            with pytest.raises(LogClosed):
                await call

    run(scenario)


def test_a_cancelled_append_leaves_the_log_whole(run: Run) -> None:
    """Whether or not it is recorded, a repeat with the same ids records each once."""

    async def scenario(log: EventLog) -> None:
        batch = drafts(3)
        task = asyncio.create_task(log.append(batch, epoch=1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answer = await log.append(batch, epoch=1)
        assert await log.read() == answer
        assert verify(await log.read_stored()) == answer[-1].link

    run(scenario)


def test_a_log_is_the_same_after_reopening(kept: Opener, tmp_path: Path) -> None:
    """Events, head and epoch are there again, and ids of before are still known."""

    async def scenario() -> None:
        async with opened(kept, tmp_path) as log:
            before = await log.append([draft(event_id=71), *drafts(5)], epoch=4)
            head = await log.head()
        async with opened(kept, tmp_path) as log:
            assert (await log.read(), await log.head()) == (before, head)
            assert await log.append([draft(event_id=71)], epoch=4) == before[:1]
            with pytest.raises(EpochRefused):
                await log.append(drafts(1), epoch=3)
            (after,) = await log.append(drafts(1), epoch=4)
            assert after.position == 7
            assert verify(await log.read_stored()) == after.link

    asyncio.run(scenario())
