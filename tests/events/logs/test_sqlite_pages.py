"""Pages of a log are short read transactions, so that the writer is never kept for long."""

import asyncio
import sqlite3
from collections import deque
from itertools import count, cycle
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support.drafts import draft
from vcap_es.clock import boot_ns
from vcap_es.errors import LogDamaged, LogError
from vcap_es.events.facts import EpochStarted
from vcap_es.events.logs import sqlite_pages, sqlite_writer
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_file import uri_to_read
from vcap_es.events.logs.sqlite_pages import PAGE_NS, SqlitePages


async def _written(path: Path, events: int, *, committed: int | None = None) -> SqliteLog:
    log = await SqliteLog.open(path, synchronous="OFF")
    await log.append([draft() for _ in range(events)], epoch=1)
    if committed is not None:
        await log.copy([], committed)
    return log


def test_pages_give_every_event_once(tmp_path: Path) -> None:
    """Whatever the limit, of all caps or of one, in order, and up to where it is asked for."""
    path = tmp_path / "log.sqlite"

    async def scenario() -> None:
        log = await _written(path, 30)
        await log.append([draft(cap="other:1"), draft(EpochStarted(epoch=1, leader="m"))], epoch=1)
        await log.append([draft() for _ in range(10)], epoch=1)
        expected = await log.read(limit=100)
        pages = SqlitePages(path, boot_ns)
        for limit in (1, 7, 100):
            for kind in (None, "ToppedUp", "EpochStarted"):
                for cap in (None, "ads:1"):
                    found, after = [], 0
                    while after < 40:
                        if cap is None:
                            page = pages.events(after, 40, limit=limit, kind=kind)
                        else:
                            page = pages.of_cap(cap, after, 40, limit=limit, kind=kind)
                        assert page.reached > after
                        found += page.events
                        after = page.reached
                    assert found == [
                        each
                        for each in expected[:40]
                        if kind in (None, type(each.fact).__name__)
                        and (cap is None or getattr(each.fact, "cap", None) == cap)
                    ]
        assert [each.link for each in expected] == [pages.link_at(n) for n in range(1, 43)]
        assert pages.link_at(43) is None
        assert pages.head() == await log.head()
        pages.close()
        await log.close()

    asyncio.run(scenario())


def test_a_page_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """However slow the disk is, a read transaction ends with the event after that."""
    path = tmp_path / "log.sqlite"
    asyncio.run(_closed(path))
    # Given a clock on which each event takes a third of a page's time
    ticks = count(step=PAGE_NS // 3)
    pages = SqlitePages(path, lambda: next(ticks))
    # When a page is read
    page = pages.events(0, 100)
    # Then it ends early, says how far it came, and nothing is missed by going on
    assert len(page.events) == 4 == page.reached
    assert pages.events(page.reached, 100).events[0].position == 5
    pages.close()


def _wal_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def _closed(path: Path) -> None:
    await (await _written(path, 100)).close()


def test_a_rare_kind_is_sought_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that finds nothing says how far it looked, and that is not all of the log."""
    monkeypatch.setattr(sqlite_pages, "SCANNED_MAX", 40)
    path = tmp_path / "log.sqlite"
    asyncio.run(_closed(path))
    pages = SqlitePages(path, boot_ns)
    page = pages.events(0, 100, kind="EpochStarted")
    assert (page.events, page.reached) == ([], 40)
    pages.close()


def test_what_is_no_log_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and another file are told."""
    with pytest.raises(LogError):
        SqlitePages(tmp_path / "nothing", boot_ns)
    (tmp_path / "other").write_bytes(b"something else entirely" * 100)
    with pytest.raises(LogDamaged):
        SqlitePages(tmp_path / "other", boot_ns)


def test_the_wal_stays_bounded_though_somebody_always_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four who read without a pause, one is always inside a page; the WAL begins anew."""
    monkeypatch.setattr(sqlite_writer, "_WAL_BYTES", 2**17)
    monkeypatch.setattr(sqlite_writer, "_WAL_BYTES_MAX", 2**20)
    path, is_over, took_part = tmp_path / "log.sqlite", Event(), Event()

    def read_on() -> None:
        """Each begins its page before the one before it ends its own."""
        readers = [sqlite3.connect(uri_to_read(path), uri=True) for _ in range(4)]
        pages = deque[sqlite3.Cursor]()
        for each in cycle(readers):
            pages.append(each.execute("SELECT position FROM events"))
            pages[-1].fetchone()
            if len(pages) == len(readers):
                pages.popleft().close()
                took_part.set()
            if is_over.wait(0.002):
                break
        for each in readers:
            each.close()

    async def scenario() -> int:
        log = await _written(path, 2_000)
        reading = Thread(target=read_on)
        reading.start()
        took_part.wait()
        longest = 0
        try:
            for _ in range(150):
                await log.append([draft() for _ in range(200)], epoch=1)
                longest = max(longest, _wal_bytes(path))
        finally:
            is_over.set()
            reading.join()
            await log.close()
        return longest

    # Ten times the bound is written; one batch comes on top of it before anybody looks.
    assert asyncio.run(scenario()) < 2 * 2**20


def test_a_reader_that_stays_does_not_stop_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs inside a read transaction makes the WAL grow; when it is gone, that ends."""
    monkeypatch.setattr(sqlite_writer, "_WAL_BYTES", 2**17)
    monkeypatch.setattr(sqlite_writer, "_WAL_BYTES_MAX", 2**18)
    monkeypatch.setattr(sqlite_writer, "_WAL_WAIT_MS", 1)
    path = tmp_path / "log.sqlite"

    async def scenario() -> None:
        log = await _written(path, 500)
        stuck = SqlitePages(path, boot_ns)
        cursor = stuck._db.execute("SELECT position FROM events")
        cursor.fetchone()
        for _ in range(10):
            await log.append([draft() for _ in range(500)], epoch=1)
        assert _wal_bytes(path) > 2**20
        cursor.close()
        for _ in range(3):
            await log.append([draft() for _ in range(500)], epoch=1)
        size = _wal_bytes(path)
        for _ in range(20):
            await log.append([draft() for _ in range(500)], epoch=1)
        assert _wal_bytes(path) == size, "it is written from its beginning again"
        stuck.close()
        await log.close()

    asyncio.run(scenario())


def test_a_log_knows_what_it_was_told_to_be_committed(tmp_path: Path) -> None:
    """The file says so itself to whoever reads it, and a reader sees no less as it grows."""
    path = tmp_path / "log.sqlite"

    async def scenario() -> None:
        log = await _written(path, 10, committed=7)
        pages = SqlitePages(path, boot_ns)
        assert pages.committed() == 7
        await log.copy([], 10)
        assert (pages.committed(), pages.head().position) == (10, 10)
        pages.close()
        await log.close()

    asyncio.run(scenario())
