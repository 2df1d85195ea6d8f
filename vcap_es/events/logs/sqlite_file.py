"""The SQLite file of a log: its tables, its settings, its lock. Synchronous, one thread at a time.

A log is one row an event. Beside the file are SQLite's own `-wal` and `-shm`, and `-lock`, which
the process that writes holds.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from vcap_es.errors import DiskFull, LogDamaged, LogError, LogLocked, UnknownFact

Synchronous = Literal["FULL", "OFF"]
"""FULL outlives the machine; OFF outlives the process only, for tests and benchmarks."""

APPLICATION_ID = 0x76636170  # "vcap"
LAYOUT_VERSION = 2

_CHUNK_BYTES = 2**20

_NEVER = "BEGIN SELECT RAISE(ABORT, 'the past is never changed'); END"

_NO_DELETE = tuple(
    (f"{table}_no_delete", f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {_NEVER}")
    for table in ("events", "caps")
)

_COPIES = (
    # What is known to be committed, the last position of each epoch, and what was set aside.
    "CREATE TABLE watermark (one INTEGER PRIMARY KEY CHECK (one = 1), committed INTEGER NOT NULL)"
    " STRICT",
    """CREATE TRIGGER watermark_never_falls BEFORE UPDATE ON watermark
        WHEN new.committed < old.committed
        BEGIN SELECT RAISE(ABORT, 'what is committed stays committed'); END""",
    "CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT",
    """CREATE TABLE diverged (
        place INTEGER PRIMARY KEY,
        position INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        event_id BLOB NOT NULL,
        recorded_at INTEGER NOT NULL,
        dc TEXT NOT NULL,
        actor TEXT NOT NULL,
        correlation TEXT NOT NULL,
        kind TEXT NOT NULL,
        fact BLOB NOT NULL,
        link BLOB NOT NULL
    ) STRICT""",
    *(
        f"CREATE TRIGGER diverged_no_{verb} BEFORE {verb} ON diverged {_NEVER}"
        for verb in ("update", "delete")
    ),
)

_TABLES = (
    """CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        event_id BLOB NOT NULL UNIQUE,
        recorded_at INTEGER NOT NULL,
        dc TEXT NOT NULL,
        actor TEXT NOT NULL,
        correlation TEXT NOT NULL,
        kind TEXT NOT NULL,
        fact BLOB NOT NULL,
        link BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE caps (
        cap TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (cap, position)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE fence (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT",
    "INSERT INTO fence VALUES (1, 0)",
    """CREATE TRIGGER fence_never_falls BEFORE UPDATE ON fence WHEN new.epoch < old.epoch
        BEGIN SELECT RAISE(ABORT, 'an epoch never falls'); END""",
    "CREATE TRIGGER fence_stays BEFORE DELETE ON fence"
    " BEGIN SELECT RAISE(ABORT, 'the fence stays'); END",
    *(
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {_NEVER}"
        for table in ("events", "caps")
    ),
    *(statement for _, statement in _NO_DELETE),
    *_COPIES,
    "INSERT INTO watermark VALUES (1, 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {LAYOUT_VERSION}",
)


def lock(path: Path) -> int:
    """Take the right to write the log at `path`, and give the descriptor that holds it.

    Raises `LogLocked` if somebody has it. The lock goes with the process, whatever ends it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    holder = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        flock(holder, LOCK_EX | LOCK_NB)
    except OSError:
        owner = os.pread(holder, 20, 0).decode(errors="replace").strip()
        os.close(holder)
        raise LogLocked(
            f"{path} is open for writing by process {owner}; stop that one, or only read"
        ) from None
    with suppress(OSError):  # on a full disk: who has the lock is told to people only
        os.ftruncate(holder, 0)
        os.pwrite(holder, f"{os.getpid()}\n".encode(), 0)
    return holder


def unlock(holder: int) -> None:
    """Give back the right that `lock` took."""
    os.close(holder)


def open_to_write(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """The one connection that writes, to a file that is made if there is none."""
    # Made here for its mode, which SQLite gives to -wal and -shm as well.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _write_again(Path(f"{path}-wal"))
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for setting in (
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "wal_autocheckpoint = 0",  # the writer does it between transactions
            "cache_size = -65536",  # 64 MiB: the inner pages of the index of caps stay at hand
            "temp_store = MEMORY",
            "trusted_schema = OFF",
        ):
            db.execute(f"PRAGMA {setting}")
        if _is_empty(db):
            _create(db)
        check_layout(path, *_layout(db))
        if _layout(db)[1] == 1:
            _migrate(db)
        # What is there is acted upon from here on, so it must outlive the machine: what the WAL
        # held is brought into the main file, and the names are synced too.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _sync_directory(path.parent)
    except BaseException:
        db.close()
        raise
    return db


def _sync_directory(folder: Path) -> None:
    """A new file's name must outlive the machine, and a WAL that was deleted must not come back."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    except OSError as error:
        raise LogError(f"{folder} cannot be made durable: {error}; look at the disk") from error
    finally:
        os.close(directory)


def _write_again(wal: Path) -> None:
    """Write the WAL of an earlier process over itself, and sync it.

    If a sync failed under that process, the kernel may show what the disk does not hold, and leave
    it out of every later sync. A checkpoint from such a WAL would tear the main file if the power
    failed in the middle of it.
    """
    try:
        descriptor = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        place = 0
        while chunk := os.pread(descriptor, _CHUNK_BYTES, place):
            place += os.pwrite(descriptor, chunk, place)
        os.fsync(descriptor)
    except OSError as error:
        raise LogError(f"{wal} cannot be made durable: {error}; look at the disk") from error
    finally:
        os.close(descriptor)


def uri_to_read(path: Path) -> str:
    """How SQLite opens the file at `path` without the means to change it."""
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def check_layout(path: Path, application_id: int, version: int) -> None:
    """Raise what is wrong with a file that is not a log, or not one this version can read."""
    if application_id != APPLICATION_ID:
        raise LogDamaged(f"{path} is not a log of vcap_es")
    if version > LAYOUT_VERSION:
        raise UnknownFact(
            f"{path} has layout {version}, this version knows {LAYOUT_VERSION}: upgrade vcap_es"
        )


def failure(path: Path, error: sqlite3.Error) -> LogError:
    """What a failure to open or read means: no room, a damaged file, or bad luck this time."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        return DiskFull(f"no room to open {path} ({name}): make room on the disk")
    if name == "SQLITE_CANTOPEN" and not path.exists():
        return LogError(f"there is no log at {path.absolute()}: name the file of one")
    damaged = name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
    return (LogDamaged if damaged else LogError)(f"{path} cannot be read: {error} ({name})")


def _is_empty(db: sqlite3.Connection) -> bool:
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(tables == (0,)) and _layout(db) == (0, 0)


def _layout(db: sqlite3.Connection) -> tuple[int, int]:
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    return application_id, db.execute("PRAGMA user_version").fetchone()[0]


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        db.execute(statement)
    db.execute("COMMIT")


def _migrate(db: sqlite3.Connection) -> None:
    """Give a log of a lone master what a copied one needs; all that it has is committed."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _COPIES:
        db.execute(statement)
    db.execute("INSERT INTO watermark SELECT 1, coalesce(max(position), 0) FROM events")
    db.execute("INSERT INTO epochs SELECT epoch, max(position) FROM events GROUP BY epoch")
    db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
    db.execute("COMMIT")


@contextmanager
def deleting(db: sqlite3.Connection) -> Iterator[None]:
    """Within a transaction, let events be deleted: only to set aside what nobody was told of."""
    for name, _ in _NO_DELETE:
        db.execute(f"DROP TRIGGER {name}")
    yield
    for _, statement in _NO_DELETE:
        db.execute(statement)
