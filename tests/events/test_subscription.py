"""Reading a log from a position on, for as long as it is open."""

import asyncio

import pytest

from tests.support.drafts import drafts
from vcap_es.errors import LogClosed
from vcap_es.events.envelope import Recorded
from vcap_es.events.logs.memory import MemoryLog
from vcap_es.events.subscription import Subscription


def test_it_gives_what_is_there_in_batches() -> None:
    """Batches are full while the log has more, and `position` follows."""

    async def scenario() -> None:
        log = MemoryLog()
        events = await log.append(drafts(7), epoch=1)
        subscription = Subscription(log, after=2, limit=3)
        assert [await anext(subscription), subscription.position] == [events[2:5], 5]
        assert [await anext(subscription), subscription.position] == [events[5:], 7]

    asyncio.run(scenario())


def test_it_waits_for_more() -> None:
    """At the end of the log it waits, and is woken by the next append."""

    async def scenario() -> None:
        log = MemoryLog()
        subscription = Subscription(log)
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        assert not waiting.done()
        events = await log.append(drafts(2), epoch=1)
        assert await waiting == events

    asyncio.run(scenario())


def test_it_never_skips_while_writers_append() -> None:
    """Every event comes once and in order, whatever the batches."""

    async def scenario() -> None:
        log = MemoryLog()

        async def write() -> None:
            for size in range(40):
                await log.append(drafts(size % 5), epoch=1)
                await asyncio.sleep(0)

        async def follow(limit: int) -> list[Recorded]:
            seen: list[Recorded] = []
            async for batch in Subscription(log, limit=limit):
                assert 0 < len(batch) <= limit
                seen.extend(batch)
                if len(seen) == 240:
                    break
            return seen

        one, two, *_ = await asyncio.gather(follow(1), follow(7), write(), write(), write())
        assert one == two == await log.read()

    asyncio.run(scenario())


def test_a_cancelled_wait_loses_nothing() -> None:
    """The subscription goes on where it was."""

    async def scenario() -> None:
        log = MemoryLog()
        subscription = Subscription(log)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(subscription), 0)
        events = await log.append(drafts(1), epoch=1)
        assert await anext(subscription) == events

    asyncio.run(scenario())


def test_it_ends_with_the_log() -> None:
    """Closing the log tells whoever waits."""

    async def scenario() -> None:
        log = MemoryLog()
        waiting = asyncio.ensure_future(anext(Subscription(log)))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(LogClosed):
            await waiting

    asyncio.run(scenario())
