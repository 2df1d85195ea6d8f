"""The process that reads the past: its life and death, its bounds, and who may have how much."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.adapters.past.test_index import _long_life
from tests.support.archives import write
from vcap_es.adapters.past import reader
from vcap_es.adapters.past.budgets import Budgets
from vcap_es.adapters.past.messages import (
    BalancesThen,
    EventsOf,
    ReadingPart,
    StatementOf,
    StreamPage,
)
from vcap_es.adapters.past.reader import PastReader, Reading
from vcap_es.errors import LogError, RequestRefused
from vcap_es.settings import ReadingSettings

EVENTS = 4_000
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes a while to read."""
    path = tmp_path_factory.mktemp("past") / "log.sqlite"
    write(path, _long_life(EVENTS))
    return path


@asynccontextmanager
async def past(path: Path, settings: ReadingSettings | None = None) -> AsyncIterator[PastReader]:
    """The past of the log at `path`, all of which is committed."""
    found = PastReader(
        path,
        settings or ReadingSettings(),
        committed=lambda: EVENTS,
        present=lambda _, of: dict.fromkeys(of, "called"),
    )
    try:
        async with asyncio.timeout(60):
            yield found
    finally:
        await found.close()


def run(
    path: Path,
    scenario: Callable[[PastReader], Awaitable[None]],
    settings: ReadingSettings | None = None,
) -> None:
    """Run a scenario with a reader of the log at `path`."""

    async def within() -> None:
        async with past(path, settings) as found:
            await scenario(found)

    asyncio.run(within())


async def whole(reading: Reading) -> bytes:
    """All parts of an answer, which is closed then."""
    body = b""
    try:
        while True:
            part = await reading.part()
            body += part.body
            if part.is_last:
                return body
    finally:
        reading.close()


async def to_the_end(reading: Reading) -> None:
    """Take parts until the last one."""
    while not (await reading.part()).is_last:
        pass


async def pid_of(found: PastReader) -> int:
    """The process, as soon as there is one."""
    while found._process is None:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)
    return found._process.pid


def test_answers_come_in_parts_of_bounded_size(log: Path) -> None:
    """All of a life in parts, none of which is sent before the one before it is taken."""

    async def scenario(found: PastReader) -> None:
        reading = found.ask("k", EventsOf("c"))
        parts = [await reading.part()]
        while not parts[-1].is_last:
            parts.append(await reading.part())
            assert reading._arrived.qsize() <= 1
        reading.close()
        lines = b"".join(part.body for part in parts).splitlines()
        assert len(lines) == EVENTS
        assert len(parts) > 10
        assert max(len(part.body) for part in parts) < 2 * 64 * 1024
        assert sum(part.cost_us for part in parts) > 0

    run(log, scenario)


def test_a_reading_that_nobody_takes_costs_nothing_more(log: Path) -> None:
    """The process stands still between two parts, and others are answered meanwhile."""

    async def scenario(found: PastReader) -> None:
        slow = found.ask("slow", EventsOf("c"))
        await slow.part()
        for _ in range(5):
            answer = await whole(found.ask("quick", BalancesThen("c", position=3)))
            assert msgspec.json.decode(answer)["position"] == 3
        assert slow._arrived.qsize() <= 1  # the next part, and no other
        slow.close()

    run(log, scenario)


def test_who_leaves_is_not_read_for_any_more(log: Path) -> None:
    """A reading that is closed in the middle ends in the process, and its cost is charged."""

    async def scenario(found: PastReader) -> None:
        reading = found.ask("k", StatementOf("c"))
        await reading.part()
        reading.close()
        assert found.budgets.under_way == 0
        while found._leaving:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
        assert not found._readings

    run(log, scenario)


def test_a_process_that_dies_is_started_again(log: Path) -> None:
    """What had begun is broken off, loudly; what had not is answered by the next process."""

    async def scenario(found: PastReader) -> None:
        begun = found.ask("a", EventsOf("c"))
        await begun.part()
        first = await pid_of(found)
        # Given a question that the process cannot hear any more
        os.kill(first, signal.SIGSTOP)
        waiting = asyncio.ensure_future(whole(found.ask("b", BalancesThen("c", position=3))))
        # When it dies
        os.kill(first, signal.SIGKILL)
        # Then that is answered, and a part of an answer never passes for the whole
        assert msgspec.json.decode(await waiting)["position"] == 3
        with pytest.raises(LogError, match="ask again"):
            await to_the_end(begun)
        begun.close()
        assert found.deaths == 1
        assert found.budgets.under_way == 0

    run(log, scenario)


def test_a_process_that_hangs_is_killed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing for too long may keep the WAL: another one takes its place."""
    monkeypatch.setattr(reader, "HANGS_SECONDS", 3.0)
    monkeypatch.setattr(reader, "END_SECONDS", 0.1)

    async def scenario(found: PastReader) -> None:
        assert await whole(found.ask("a", BalancesThen("c", position=3)))
        first = await pid_of(found)
        os.kill(first, signal.SIGSTOP)
        assert await whole(found.ask("a", BalancesThen("c", position=3)))
        assert await pid_of(found) != first

    run(log, scenario)


def test_what_kills_the_process_is_not_asked_for_ever(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question is given up with the second process that dies of it."""
    monkeypatch.setattr(reader, "PAUSE_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(reader, "framed", lambda _: b"\xff\xff\xff\x00" + b"x" * 8)

    async def scenario(found: PastReader) -> None:
        reading = found.ask("a", BalancesThen("c", position=3))
        for _ in range(2):
            process = await pid_of(found)
            os.kill(process, signal.SIGKILL)
            while found._process is not None and found._process.pid == process:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(LogError):
            await reading.part()
        reading.close()

    run(log, scenario)


def test_the_process_is_nice_and_ends_with_its_node(log: Path) -> None:
    """It has the lowest priority; when nobody can ask any more, it is gone."""

    async def scenario() -> int:
        async with past(log) as found:
            assert await whole(found.ask("a", BalancesThen("c", position=3)))
            process = await pid_of(found)
            assert os.getpriority(os.PRIO_PROCESS, process) == 19
            return process

    process = asyncio.run(scenario())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_key_has_so_many_readings_and_no_more(log: Path) -> None:
    """One more of a key is refused by name; others still have room, up to the bound of all."""
    settings = ReadingSettings(readings_max=5, readings_per_key_max=2)

    async def scenario(found: PastReader) -> None:
        readings = [found.ask("a", EventsOf("c")) for _ in range(2)]
        with pytest.raises(RequestRefused, match="by your key") as refused:
            found.ask("a", EventsOf("c"))
        assert (refused.value.code, refused.value.retry_after_ms) == ("reading_budget", 1000)
        readings += [found.ask(key, EventsOf("c")) for key in ("b", "b", "c")]
        with pytest.raises(RequestRefused, match="most there may be") as refused:
            found.ask("d", EventsOf("c"))
        assert refused.value.code == "busy"
        readings.pop(0).close()
        assert len(await whole(found.ask("a", EventsOf("c")))) > EVENTS
        for each in readings:
            each.close()

    run(log, scenario, settings)


def test_a_stream_waits_where_its_budget_is_used_up(log: Path) -> None:
    """It is not refused what it has begun; it goes on when its share has paid for it."""
    settings = ReadingSettings(cpu_seconds_per_key=1, cpu_share_per_key=1.0)

    async def scenario(found: PastReader) -> None:
        found.charge("a", 1_200_000)
        assert found.budgets.wait_ms("a", reader.boot_ns()) > 0
        part = await found.page("a", StreamPage(0))
        assert isinstance(part, ReadingPart)
        assert part.body.startswith(b"id: 1\n")

    run(log, scenario, settings)


def test_cpu_time_is_paid_off_as_time_goes_by() -> None:
    """Who has read more than their share waits for as long as it takes, and never longer."""
    budgets = Budgets(ReadingSettings(cpu_seconds_per_key=10, cpu_share_per_key=0.5))
    budgets.admit("a", 0)
    budgets.charge("a", 13_000_000, 0)
    budgets.leave("a")
    with pytest.raises(RequestRefused, match="CPU seconds") as refused:
        budgets.admit("a", 0)
    assert refused.value.retry_after_ms == 6_001
    budgets.admit("b", 0)
    budgets.admit("a", 6_001_000_000)
    budgets.leave("a")
    # And nothing is remembered of who owes nothing
    budgets.leave("b")
    budgets.admit("c", 60 * SECOND_NS)
    assert set(budgets._spent) == {"c"}


def test_a_log_in_memory_has_no_reader() -> None:
    """Its past is told nobody, which is said."""
    found = PastReader(None, ReadingSettings(), committed=lambda: 0, present=lambda *_: {})
    with pytest.raises(LogError):
        found.ask("a", EventsOf("c"))
    assert found.budgets.under_way == 0
    assert found.wal_bytes() == 0
