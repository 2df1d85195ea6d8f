"""What every log promises to those who copy one another: shown for every adapter."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.adapters import Opener, Run, opened
from tests.support.drafts import draft, drafts
from tests.support.entries import entries
from vcap_es.errors import EpochRefused, LogClosed, LogDamaged, LogError, UnknownFact
from vcap_es.events.chain import Stored, canonical, link, verify
from vcap_es.events.log import EventLog, Head, Truncated, head_of
from vcap_es.events.sealing import recorded, seal


def resealed(entry: Stored, previous: bytes, **changes: object) -> Stored:
    """`entry` with some changes, and the link that is right for them."""
    changed = replace(entry, **changes)
    covered = canonical(*(getattr(changed, name) for name in changed.__struct_fields__[:-1]))
    return replace(changed, link=link(previous, covered))


def test_a_copy_is_the_same_log(run: Run) -> None:
    """Every field and byte is as it was sealed, also in pieces, and what filters say of it."""
    given = entries((1, 3), (4, 2))

    async def scenario(log: EventLog) -> None:
        await log.copy(given[:2], 0)
        await log.copy(given[2:], 0)
        assert await log.read_stored() == given
        assert await log.read() == [recorded(entry) for entry in given]
        assert await log.head() == head_of(given[-1])
        (first,) = await log.read(cap=recorded(given[0]).fact.cap, limit=1)  # type: ignore[union-attr]  # a topup
        assert first == recorded(given[0])

    run(scenario)


def test_what_a_leader_seals_itself_is_what_append_would_have_recorded(run: Run) -> None:
    """Two logs, one appended to and one copied to, are the same log."""
    batch = drafts(5)

    async def scenario(log: EventLog) -> None:
        await log.append(batch[:2], epoch=3)
        sealed = seal(batch[2:], 3, await log.head())
        await log.copy(sealed, 2)
        again = seal(batch, 3, Head())
        assert await log.read_stored() == again
        (repeated,) = await log.append(batch[3:4], epoch=3)
        assert repeated == recorded(again[3])

    run(scenario)


def test_only_what_follows_the_head_is_copied(run: Run) -> None:
    """A gap, a repeat, a changed event, another past or a fallen epoch: nothing is recorded."""
    first = entries((2, 3))
    good = entries((2, 3), behind=head_of(first[-1]))
    before = first[-1].link

    async def scenario(log: EventLog) -> None:
        await log.copy(first, 1)
        for bad in (
            good[1:],
            [good[0], good[2]],
            [good[0], good[0]],
            first,
            [*good[:2], replace(good[2], actor="x")],
            [*good[:2], replace(good[2], link=bytes(32))],
            entries((2, 2)),
            entries((1, 1), behind=head_of(first[-1])),
            entries((3, 1), (2, 1), behind=head_of(first[-1])),
            [resealed(good[0], before, position=9)],
            [resealed(good[0], before, epoch=2**63)],
            [resealed(good[0], before, event_id=good[0].event_id + b"more")],
            [resealed(good[0], before, fact=b"")],
            [good[0], resealed(good[1], good[0].link, fact=good[1].fact[:10])],
        ):
            with pytest.raises(LogDamaged):
                await log.copy(bad, 6)
            assert (await log.head(), await log.committed()) == (head_of(first[-1]), 1)
        await log.copy(good, 6)
        assert await log.read_stored() == [*first, *good]

    run(scenario)


def test_a_fact_of_a_later_version_is_not_copied(run: Run) -> None:
    """Nothing before it in the batch is recorded either, and the log goes on."""
    good = entries((1, 2))
    unknown = resealed(good[1], good[0].link, fact=b"\xc3\x01later___later")

    async def scenario(log: EventLog) -> None:
        with pytest.raises(UnknownFact):
            await log.copy([good[0], unknown], 0)
        assert await log.head() == Head()
        await log.copy(good, 2)
        assert await log.head() == head_of(good[-1])

    run(scenario)


def test_an_id_that_is_known_is_not_copied(run: Run) -> None:
    """Neither twice in a batch nor once more behind the head; the log goes on."""
    twin = draft(event_id=71)

    async def scenario(log: EventLog) -> None:
        with pytest.raises(LogDamaged, match="position 2"):
            await log.copy(seal([twin, twin], 1, Head()), 0)
        await log.copy(first := seal([twin], 1, Head()), 0)
        with pytest.raises(LogDamaged, match="position 3"):
            await log.copy(seal([draft(), twin], 1, head_of(first[-1])), 3)
        assert await log.read_stored() == first
        assert await log.committed() == 0
        await log.copy(seal([draft()], 1, head_of(first[-1])), 2)
        assert await log.committed() == 2

    run(scenario)


def test_a_bad_copy_leaves_its_neighbours_alone(run: Run) -> None:
    """What is copied at the same moment has its own outcome."""
    good = entries((1, 4))

    async def scenario(log: EventLog) -> None:
        one, bad, two = await asyncio.gather(
            log.copy(good[:2], 1),
            log.copy(entries((1, 1)), 9),
            log.copy(good[2:], 3),
            return_exceptions=True,
        )
        assert (one, type(bad), two) == (None, LogDamaged, None)
        assert await log.read_stored() == good
        assert await log.committed() == 3

    run(scenario)


def test_the_watermark_never_falls_and_is_never_above_the_head(run: Run) -> None:
    """Also without any event, which is how a follower hears of what it has already."""
    given = entries((1, 4))

    async def scenario(log: EventLog) -> None:
        assert await log.committed() == 0
        for batch, told, known in (
            (given[:2], 9, 2),
            ([], 4, 2),
            (given[2:], 1, 2),
            ([], 3, 3),
            ([], -1, 3),
            ([], 0, 3),
            ([], 2**70, 4),
        ):
            await log.copy(batch, told)
            assert await log.committed() == known

    run(scenario)


def test_what_is_appended_is_not_committed_by_itself(run: Run) -> None:
    """Only who knows of the other copies can say so."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(3), epoch=1)
        assert await log.committed() == 0

    run(scenario)


def test_a_truncated_tail_is_set_aside(run: Run) -> None:
    """It is counted, its last link told, kept apart in order, and its place is free for others."""
    given = entries((1, 3), (2, 2))

    async def scenario(log: EventLog) -> None:
        await log.copy(given, 2)
        assert await log.truncate(3) == Truncated(count=2, link=given[-1].link)
        assert await log.head() == head_of(given[2])
        assert await log.read_stored() == given[:3]
        assert await log.read_diverged() == given[3:]
        other = entries((4, 2), behind=head_of(given[2]))
        await log.copy(other, 5)
        assert await log.read_stored() == [*given[:3], *other]
        assert verify(await log.read_stored()) == other[-1].link
        for entry in given[3:]:
            assert await log.read(cap=recorded(entry).fact.cap) == []  # type: ignore[union-attr]  # a topup

    run(scenario)


def test_what_was_set_aside_is_never_lost(run: Run) -> None:
    """Truncated again and again, the tails stand one behind the other; `limit` bounds a page."""

    async def scenario(log: EventLog) -> None:
        aside: list[Stored] = []
        for epoch in (1, 2, 3):
            tail = entries((epoch, 2))
            await log.copy(tail, 0)
            await log.truncate(0)
            aside += tail
        assert await log.read_diverged() == aside
        assert await log.read_diverged(limit=3) == aside[:3]
        assert await log.head() == Head()
        assert await log.history() == []

    run(scenario)


def test_what_was_set_aside_may_come_back(run: Run) -> None:
    """An event whose tail was cut can be copied again: its id is not on the log."""
    given = entries((1, 4))

    async def scenario(log: EventLog) -> None:
        await log.copy(given, 0)
        await log.truncate(1)
        await log.copy(given[1:], 4)
        assert await log.read_stored() == given
        assert await log.read_diverged() == given[1:]

    run(scenario)


def test_what_is_committed_is_not_truncated(run: Run) -> None:
    """Nor is there anything behind the head; a log that is refused is as it was."""
    given = entries((1, 4))

    async def scenario(log: EventLog) -> None:
        await log.copy(given, 2)
        for after in (-1, 0, 1, 5):
            with pytest.raises(LogError, match="truncated"):
                await log.truncate(after)
        assert await log.truncate(4) == Truncated(count=0, link=b"")
        assert await log.read_stored() == given
        assert await log.read_diverged() == []
        assert await log.truncate(2) == Truncated(count=2, link=given[-1].link)
        assert await log.committed() == 2

    run(scenario)


def test_an_epoch_stays_refused_when_its_events_are_gone(run: Run) -> None:
    """Who was deposed does not write again; the tail of an older epoch is copied all the same."""

    async def scenario(log: EventLog) -> None:
        await log.append(drafts(1), epoch=5)
        await log.append(drafts(2), epoch=7)
        await log.truncate(1)
        with pytest.raises(EpochRefused):
            await log.append(drafts(1), epoch=6)
        await log.copy(entries((6, 1), (8, 1), behind=await log.head()), 0)
        assert [epoch for epoch, _ in await log.history()] == [5, 6, 8]

    run(scenario)


def test_the_history_has_the_last_position_of_each_epoch(run: Run) -> None:
    """However the events came, and whatever was cut."""

    async def scenario(log: EventLog) -> None:
        assert await log.history() == []
        await log.append(drafts(2), epoch=0)
        await log.copy(entries((0, 1), (3, 2), (4, 1), behind=await log.head()), 0)
        await log.append(drafts(2), epoch=4)
        assert await log.history() == [(0, 3), (3, 5), (4, 8)]
        for after, left in (
            (7, [(0, 3), (3, 5), (4, 7)]),
            (5, [(0, 3), (3, 5)]),
            (4, [(0, 3), (3, 4)]),
            (1, [(0, 1)]),
            (0, []),
        ):
            await log.truncate(after)
            assert await log.history() == left

    run(scenario)


def test_a_copy_wakes_who_waits_for_it(run: Run) -> None:
    """Like an append; and behind a cut, a reader waits for what comes in its place."""
    given = entries((1, 3))

    async def scenario(log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait(0))
        await log.copy(given, 0)
        await waiting
        await log.truncate(1)
        waiting = asyncio.create_task(log.wait(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await log.copy(given[1:2], 0)
        await waiting

    run(scenario)


def test_a_closed_log_copies_nothing(run: Run) -> None:
    """Nor does it truncate or tell."""

    async def scenario(log: EventLog) -> None:
        await log.close()
        for call in (
            log.copy([], 0),
            log.truncate(0),
            log.committed(),
            log.history(),
            log.read_diverged(),
        ):
            with pytest.raises(LogClosed):
                await call

    run(scenario)


def test_a_copy_is_the_same_after_reopening(kept: Opener, tmp_path: Path) -> None:
    """Events, watermark, history, the fence and what was set aside."""
    given = entries((1, 3), (7, 2))

    async def scenario() -> None:
        async with opened(kept, tmp_path) as log:
            await log.copy(given, 2)
            await log.truncate(3)
        async with opened(kept, tmp_path) as log:
            assert await log.read_stored() == given[:3]
            assert await log.read_diverged() == given[3:]
            assert await log.history() == [(1, 3)]
            assert await log.committed() == 2
            with pytest.raises(EpochRefused):
                await log.append(drafts(1), epoch=6)
            with pytest.raises(LogError, match="truncated"):
                await log.truncate(1)
            await log.truncate(2)
        async with opened(kept, tmp_path) as log:
            assert await log.head() == head_of(given[1])
            await log.copy(given[2:], 5)
            assert await log.committed() == 5

    asyncio.run(scenario())


def test_an_empty_past_of_epoch_0_is_empty_after_reopening(kept: Opener, tmp_path: Path) -> None:
    """The first epoch leaves nothing behind when all of it is cut."""

    async def scenario() -> None:
        async with opened(kept, tmp_path) as log:
            await log.append(drafts(2), epoch=0)
            await log.truncate(0)
        async with opened(kept, tmp_path) as log:
            assert (await log.history(), await log.head()) == ([], Head())

    asyncio.run(scenario())
