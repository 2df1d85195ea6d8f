"""What the log in SQLite does beyond the contract: files, locks, crashes and failing disks."""

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.support.drafts import draft, drafts
from tests.support.entries import entries
from vcap_es.errors import (
    DiskFull,
    LogClosed,
    LogDamaged,
    LogError,
    LogLocked,
    OutcomeUnknown,
    UnknownFact,
)
from vcap_es.events.chain import verify
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import EpochStarted
from vcap_es.events.log import Truncated
from vcap_es.events.logs import sqlite, sqlite_reader, sqlite_writer
from vcap_es.events.logs.sqlite import SqliteLog

ROOT = Path(__file__).parents[3]

Sabotage = Callable[[sqlite3.Connection], None]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteLog]:
    """The log at `path`, closed at the end."""
    log = await SqliteLog.open(path)
    try:
        yield log
    finally:
        await log.close()


async def sabotage(log: SqliteLog, act: Sabotage) -> None:
    """Do something to the writer's connection, in its own thread."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(log._thread, lambda: act(log._writer._db))


def made(path: Path, amount: int = 3) -> list[Recorded]:
    """A closed log of so many events at `path`."""

    async def scenario() -> list[Recorded]:
        async with opened(path) as log:
            return await log.append(drafts(amount), epoch=1)

    return asyncio.run(scenario())


def altered(path: Path, *statements: str) -> None:
    """Change a closed log behind its back, without the triggers that forbid it."""
    with sqlite3.connect(path) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert db.execute(statement).rowcount != 0
    db.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """A new directory has mode 0700 and every file in it 0600."""

    async def scenario() -> None:
        async with opened(tmp_path / "data" / "events.db") as log:
            await log.append(drafts(1), epoch=1)
            modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "data").iterdir()}
        names = {f"events.db{suffix}" for suffix in ("", "-wal", "-shm", "-lock")}
        assert modes == dict.fromkeys(names, 0o600)
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

    asyncio.run(scenario())


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Also another process; the message names the one that writes. Afterwards it is free."""
    path = tmp_path / "events.db"
    script = f"""
import asyncio
from vcap_es.errors import LogLocked
from vcap_es.events.logs.sqlite import SqliteLog
try:
    asyncio.run(SqliteLog.open({str(path)!r}))
except LogLocked as error:
    print(error)
"""

    async def scenario() -> None:
        async with opened(path):
            with pytest.raises(LogLocked):
                await SqliteLog.open(path)
            said = await asyncio.to_thread(_python, script)
            assert f"{path} is open for writing by process {_pid()}" in said
        async with opened(path):
            pass

    asyncio.run(scenario())


def test_the_past_cannot_be_changed(tmp_path: Path) -> None:
    """No UPDATE and no DELETE gets past the triggers, and the epoch never falls."""
    path = tmp_path / "events.db"
    made(path)
    db = sqlite3.connect(path)
    for statement in (
        "UPDATE events SET dc = 'x'",
        "DELETE FROM events",
        "UPDATE caps SET cap = 'x'",
        "DELETE FROM caps",
        "UPDATE fence SET epoch = 0",
        "DELETE FROM fence",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
    db.close()


def test_the_past_of_a_copy_cannot_be_changed(tmp_path: Path) -> None:
    """Nor what was set aside, also behind a truncation, nor does the watermark fall."""
    path = tmp_path / "events.db"

    async def scenario() -> None:
        async with opened(path) as log:
            await log.copy(entries((1, 4)), 2)
            await log.truncate(3)

    asyncio.run(scenario())
    with closing(sqlite3.connect(path)) as db:
        for statement in (
            "UPDATE events SET dc = 'x'",
            "DELETE FROM events",
            "DELETE FROM caps",
            "UPDATE diverged SET dc = 'x'",
            "DELETE FROM diverged",
            "UPDATE watermark SET committed = 1",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                db.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE watermark SET committed = 4",
        "UPDATE epochs SET last = 2",
        "DELETE FROM epochs",
        "INSERT INTO epochs VALUES (9, 9)",
        "DELETE FROM events WHERE position = 3",
    ],
)
def test_what_is_kept_beside_the_events_must_fit(tmp_path: Path, change: str) -> None:
    """It was written with them: where it speaks of another end, the file is damaged."""
    path = tmp_path / "events.db"

    async def scenario() -> None:
        async with opened(path) as log:
            await log.copy(entries((1, 3)), 3)

    asyncio.run(scenario())
    altered(path, change)
    with pytest.raises(LogDamaged, match=r"position [23]"):
        asyncio.run(SqliteLog.open(path))


def first_layout(path: Path) -> None:
    """Make a closed log what it was in layout 1: one of a lone master."""
    with closing(sqlite3.connect(path)) as db:
        for table in ("watermark", "epochs", "diverged"):
            db.execute(f"DROP TABLE {table}")  # with its triggers
        db.execute("PRAGMA user_version = 1")


def test_a_log_of_the_first_layout_is_read(tmp_path: Path) -> None:
    """A reader reads it as it is and changes nothing."""
    path = tmp_path / "events.db"
    events = made(path)
    first_layout(path)
    before = path.read_bytes()

    async def scenario() -> None:
        reader = await SqliteLog.open_reader(path)
        assert await reader.read() == events
        assert await reader.read_diverged() == []
        await reader.close()

    asyncio.run(scenario())
    assert path.read_bytes() == before


def test_a_log_of_the_first_layout_is_migrated(tmp_path: Path) -> None:
    """Its writer was alone, so all of it is committed; then it is copied to and cut like any."""
    path = tmp_path / "events.db"

    async def fill() -> None:
        async with opened(path) as log:
            await log.append(drafts(3), epoch=1)
            await log.append(drafts(2), epoch=4)

    async def scenario() -> None:
        for _ in range(2):  # the second time it is of the second layout already
            async with opened(path) as log:
                assert await log.committed() == 5
                assert await log.history() == [(1, 3), (4, 5)]
        async with opened(path) as log:
            with pytest.raises(LogError, match="truncated"):
                await log.truncate(4)
            await log.copy(more := entries((4, 1), (5, 1), behind=await log.head()), 6)
            assert await log.truncate(6) == Truncated(count=1, link=more[-1].link)
            assert await log.read_diverged() == more[1:]

    asyncio.run(fill())
    first_layout(path)
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("CREATE TABLE other (a)", LogDamaged),
        ("PRAGMA user_version = 7", LogDamaged),
        (f"PRAGMA application_id = {0x76636170}; PRAGMA user_version = 3", UnknownFact),
    ],
)
def test_a_file_that_is_no_log_is_refused(
    tmp_path: Path, content: str, error: type[LogError]
) -> None:
    """Another database is not touched, and a newer layout asks for an upgrade."""
    path = tmp_path / "events.db"
    db = sqlite3.connect(path)
    db.executescript(content)
    db.close()
    for attempt in (SqliteLog.open, SqliteLog.open_reader):
        with pytest.raises(error):
            asyncio.run(attempt(path))


def test_rubbish_is_damaged(tmp_path: Path) -> None:
    """A file that is no database at all, or whose pages were overwritten, is told as damaged."""
    path = tmp_path / "rubbish"
    path.write_bytes(b"rubbish" * 1000)
    for attempt in (SqliteLog.open, SqliteLog.open_reader):
        with pytest.raises(LogDamaged):
            asyncio.run(attempt(path))


def test_reading_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    """A reader of a missing log fails, and leaves no file behind."""
    with pytest.raises(LogError):
        asyncio.run(SqliteLog.open_reader(tmp_path / "events.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_follows_while_another_writes(tmp_path: Path) -> None:
    """It takes no lock, sees every commit, wakes up for it, and cannot write."""

    async def scenario() -> None:
        async with opened(tmp_path / "events.db") as log:
            reader = await SqliteLog.open_reader(tmp_path / "events.db")
            waiting = asyncio.ensure_future(reader.wait(0))
            events = await log.append(drafts(2), epoch=3)
            await waiting
            assert await reader.read() == events
            assert await reader.head() == await log.head()
            assert verify(await reader.read_stored()) == events[-1].link
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                await reader._db.execute("INSERT INTO fence VALUES (1, 1)")
            await reader.close()
            with pytest.raises(LogClosed):
                await reader.read()

    asyncio.run(scenario())


def test_a_reader_reads_a_closed_log(tmp_path: Path) -> None:
    """Also without any process that writes it."""
    path = tmp_path / "events.db"
    events = made(path)

    async def scenario() -> None:
        reader = await SqliteLog.open_reader(path)
        assert await reader.read() == events
        await reader.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("fact = x'c3010102030405060708'", UnknownFact),
        ("fact = substr(fact, 1, 20)", LogDamaged),
        ("kind = 'Returned'", LogDamaged),
    ],
)
def test_what_cannot_be_read_is_told_with_its_position(
    tmp_path: Path, change: str, error: type[LogError]
) -> None:
    """The events before it are still read."""
    path = tmp_path / "events.db"
    events = made(path)
    altered(path, f"UPDATE events SET {change} WHERE position = 2")

    async def scenario() -> None:
        reader = await SqliteLog.open_reader(path)
        try:
            with pytest.raises(error, match="position 2:"):
                await reader.read()
            assert await reader.read(limit=1) == events[:1]
        finally:
            await reader.close()

    asyncio.run(scenario())


def test_a_torn_page_is_told_as_damage(tmp_path: Path) -> None:
    """Where SQLite reads NULL in a column that cannot hold it, neither half trips over it."""
    path = tmp_path / "events.db"
    made(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'fact BLOB NOT NULL', 'fact BLOB')")
        db.commit()
    altered(path, "UPDATE events SET fact = NULL WHERE position = 3")

    async def read() -> None:
        reader = await SqliteLog.open_reader(path)
        try:
            await reader.read()
        finally:
            await reader.close()

    for attempt in (read(), SqliteLog.open(path)):
        with pytest.raises(LogDamaged, match="position 3"):
            asyncio.run(attempt)


def test_a_fence_that_does_not_fit_is_damage(tmp_path: Path) -> None:
    """A lowered epoch would let a deposed primary write."""
    path = tmp_path / "events.db"
    made(path)
    altered(path, "UPDATE fence SET epoch = 0")
    with pytest.raises(LogDamaged, match="fence"):
        asyncio.run(SqliteLog.open(path))


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """Unless told otherwise, SQLite syncs the WAL before a commit is done (FULL is 2)."""

    async def scenario() -> None:
        async with opened(tmp_path / "events.db") as log:
            settings: list[object] = []

            def look(db: sqlite3.Connection) -> None:
                for name in ("synchronous", "journal_mode", "wal_autocheckpoint"):
                    settings.extend(db.execute(f"PRAGMA {name}").fetchone())

            await sabotage(log, look)
            assert settings == [2, "wal", 0]

    asyncio.run(scenario())


def test_many_appends_share_a_transaction(tmp_path: Path) -> None:
    """What comes while one commit runs goes into the next one together."""

    async def scenario() -> None:
        async with opened(tmp_path / "events.db") as log:
            transactions: list[str] = []

            def watch(db: sqlite3.Connection) -> None:
                db.set_trace_callback(lambda said: transactions.append(said))

            await sabotage(log, watch)
            await asyncio.gather(*(log.append(drafts(1), epoch=1) for _ in range(300)))
            await sabotage(log, lambda db: db.set_trace_callback(None))
            assert transactions.count("COMMIT") == 1

    asyncio.run(scenario())


def test_those_who_come_too_many_wait_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded, and still everything is recorded in the order it came."""
    monkeypatch.setattr(sqlite, "WAITING_APPENDS_MAX", 4)

    async def scenario() -> None:
        async with opened(tmp_path / "events.db") as log:
            tasks = [asyncio.create_task(log.append(drafts(1), epoch=1)) for _ in range(50)]
            await asyncio.sleep(0)
            assert len(log._waiting) == 4
            answers = await asyncio.gather(*tasks)
            assert [event.position for (event,) in answers] == list(range(1, 51))

    asyncio.run(scenario())


def test_closing_records_what_waits(tmp_path: Path) -> None:
    """An append that was asked for before `close` is answered, one after it is refused."""
    path = tmp_path / "events.db"

    async def scenario() -> list[Recorded]:
        log = await SqliteLog.open(path)
        before = [asyncio.create_task(log.append(drafts(2), epoch=1)) for _ in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        with pytest.raises(LogClosed):
            await log.append(drafts(1), epoch=1)
        await closing
        return [event for batch in await asyncio.gather(*before) for event in batch]

    events = asyncio.run(scenario())
    assert len(events) == 10
    assert {p.name for p in tmp_path.iterdir()} == {"events.db", "events.db-lock"}


def test_the_wal_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer brings it into the main file from time to time, and then begins it anew."""
    monkeypatch.setattr(sqlite_writer, "_WAL_BYTES", 200_000)

    async def scenario() -> None:
        async with opened(tmp_path / "events.db") as log:
            sizes = []
            for _ in range(60):
                await log.append(drafts(50), epoch=1)
                sizes.append((tmp_path / "events.db-wal").stat().st_size)
            assert max(sizes) < 300_000  # else it grows to 2.6 MB
            assert verify(await log.read_stored(limit=10_000)) == (await log.head()).link

    asyncio.run(scenario())


def _no_commit(db: sqlite3.Connection) -> None:
    def judge(action: int, word: str | None, *_: str | None) -> int:
        denied = action == sqlite3.SQLITE_TRANSACTION and word == "COMMIT"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    db.set_authorizer(judge)


def _no_room(db: sqlite3.Connection) -> None:
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")


def _room(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA max_page_count = 4294967294")


def test_after_a_failed_commit_nothing_is_known(tmp_path: Path) -> None:
    """All who were in it and behind it hear so, the object is dead, and a replay tells."""
    path = tmp_path / "events.db"

    async def scenario() -> None:
        async with opened(path) as log:
            kept = await log.append(drafts(3), epoch=1)
            await sabotage(log, _no_commit)
            following = asyncio.create_task(log.wait(3))
            lost = [draft(event_id=80_000 + n) for n in range(500)]
            answers = await asyncio.gather(
                *(log.append(lost, epoch=1) for _ in range(3)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [OutcomeUnknown] * 3
            for call in (log.append([], epoch=1), log.head(), log.wait(0), following):
                with pytest.raises(OutcomeUnknown):
                    await call
            assert await log.read() == kept
        async with opened(path) as log:
            assert await log.read() == kept
            assert len(await log.append(lost, epoch=1)) == 500

    asyncio.run(scenario())


def test_without_room_nothing_is_recorded_and_with_room_it_is(tmp_path: Path) -> None:
    """A full disk is no doubt: the batch is not there, the log goes on, and a retry succeeds."""
    path = tmp_path / "events.db"

    async def scenario() -> None:
        async with opened(path) as log:
            kept = await log.append(drafts(3), epoch=1)
            await sabotage(log, _no_room)
            lost = [draft(event_id=80_000 + n) for n in range(500)]
            answers = await asyncio.gather(
                *(log.append(lost, epoch=1) for _ in range(3)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [DiskFull] * 3
            assert await log.read() == kept
            await sabotage(log, _room)
            assert len(await log.append(lost, epoch=1)) == 500
        async with opened(path) as log:
            assert (await log.head()).position == 503

    asyncio.run(scenario())


def test_without_room_nothing_is_copied_nor_cut(tmp_path: Path) -> None:
    """Events, watermark and triggers are as before, and both succeed with room again."""
    path = tmp_path / "events.db"
    given = entries((1, 3), (2, 400))

    async def scenario() -> None:
        async with opened(path) as log:
            await log.copy(given[:3], 1)
            await sabotage(log, _no_room)
            with pytest.raises(DiskFull, match="position 3"):
                await log.copy(given[3:], 403)
            assert await log.read_stored() == given[:3]
            assert await log.committed() == 1
            await sabotage(log, _room)
            await log.copy(given[3:], 2)
            await sabotage(log, _no_room)
            with pytest.raises(DiskFull):
                await log.truncate(2)
            assert await log.read_stored() == given
            assert await log.read_diverged() == []
            await log.copy([], 3)  # takes no page more
            await sabotage(log, _room)
            assert await log.truncate(3) == Truncated(count=400, link=given[-1].link)
        async with opened(path) as log:
            assert await log.read_stored() == given[:3]
            assert await log.read_diverged(limit=500) == given[3:]
            assert await log.committed() == 3

    asyncio.run(scenario())


def test_a_disk_that_is_full_leaves_a_prefix(tmp_path: Path) -> None:
    """In a process that may write no more: what was answered is there, and the chain is whole."""
    path = tmp_path / "events.db"
    script = f"""
import asyncio, json, resource, signal
from tests.support.drafts import drafts
from vcap_es.errors import OutcomeUnknown
from vcap_es.events.logs.sqlite import SqliteLog

async def main():
    log = await SqliteLog.open({str(path)!r})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    answered = []
    try:
        while True:
            answered += [event.position for event in await log.append(drafts(20), epoch=1)]
    except OutcomeUnknown:
        print(json.dumps(answered))
    await log.close()

asyncio.run(main())
"""
    answered = json.loads(_python(script))
    assert len(answered) > 100

    async def scenario() -> None:
        async with opened(path) as log:
            stored = await log.read_stored(limit=100_000)
            assert [event.position for event in stored][: len(answered)] == answered
            assert verify(stored) == (await log.head()).link
            assert len(await log.append(drafts(1), epoch=1)) == 1

    asyncio.run(scenario())


def test_a_killed_process_leaves_what_it_answered(tmp_path: Path) -> None:
    """Killed in the middle of appending: all that was answered is there, and the lock is free."""
    path = tmp_path / "events.db"
    script = f"""
import asyncio
from tests.support.drafts import drafts
from vcap_es.events.logs.sqlite import SqliteLog

async def main():
    log = await SqliteLog.open({str(path)!r})
    while True:
        answer = await log.append(drafts(7), epoch=1)
        print(answer[-1].position, flush=True)

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(30)]
        child.send_signal(signal.SIGKILL)
        said += [int(line) for line in child.stdout if line.endswith(b"\n")]

    async def scenario() -> None:
        async with opened(path) as log:
            stored = await log.read_stored(limit=100_000)
            assert len(stored) >= said[-1]
            assert len(stored) % 7 == 0
            assert verify(stored) == (await log.head()).link

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_torn_wal_leaves_a_prefix(tmp_path: Path, damage: str) -> None:
    """Whatever happens to its tail, what is left is whole batches from the beginning."""
    live, torn = tmp_path / "live", tmp_path / "torn"

    async def scenario() -> None:
        # Given a log whose WAL holds many batches, as a crash leaves it
        async with opened(live / "events.db") as log:
            for size in (1, 2, 3) * 7:
                await log.append(drafts(size), epoch=1)
            stored = await log.read_stored()
            wal = (live / "events.db-wal").read_bytes()
            main = (live / "events.db").read_bytes()
        ends = {0, 1, 3, *(6 * n + more for n in range(7) for more in (1, 3, 6))}
        lengths = set()
        for place in range(40, len(wal), len(wal) // 60):
            # When its WAL is cut or has a flipped byte anywhere
            shutil.rmtree(torn, ignore_errors=True)
            torn.mkdir()
            (torn / "events.db").write_bytes(main)
            broken = wal[:place] if damage == "cut" else _flipped(wal, place)
            (torn / "events.db-wal").write_bytes(broken)
            # Then it opens with a prefix that verifies, and goes on from there
            async with opened(torn / "events.db") as log:
                left = await log.read_stored()
                assert left == stored[: len(left)]
                assert len(left) in ends
                assert verify(left) == (await log.head()).link
                (event,) = await log.append(drafts(1), epoch=1)
                assert event.position == len(left) + 1
            lengths.add(len(left))
        assert len(lengths) > 10

    asyncio.run(scenario())


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def _python(script: str) -> str:
    """What a new interpreter prints that runs `script`."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT)
    return done.stdout.decode()


def _pid() -> int:
    return int(Path("/proc/self/stat").read_text().split()[0])


def test_a_rare_kind_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sought in short transactions, none of which reads all of the log."""
    monkeypatch.setattr(sqlite_reader, "_SCANNED_EVENTS", 10)

    async def scenario() -> None:
        log = await SqliteLog.open(tmp_path / "events.db", synchronous="OFF")
        rare = EpochStarted(epoch=1, leader="m")
        for number in range(60):
            await log.append([draft(rare) if number % 23 == 0 else draft()], epoch=1)
        found = await log.read(kind="EpochStarted")
        assert [each.position for each in found] == [1, 24, 47]
        assert [each.position for each in await log.read(1, limit=1, kind="EpochStarted")] == [24]
        await log.close()

    asyncio.run(scenario())
