"""The index of a log: chapters of the lives of caps, and their closed intervals by number.

It is derived from the log and thrown away whenever in doubt. It holds nothing but what was
committed, so no truncation touches it; that the log is still the one it was made from is told by
the link of the highest position that anything in it came from. Each blob has a digest of its own.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from msgspec import DecodeError, Struct, msgpack

from vcap_es.errors import LogError
from vcap_es.events.logs.sqlite_file import uri_to_read
from vcap_es.projections.lives import FORMAT, CapLife, ClosedBooks, IntervalLedger
from vcap_es.projections.states.interval import Interval

LAYOUT = 1
EVENTS_APART = 500
"""Events of a cap between two of its chapters, at least."""

BYTES_AN_EVENT = 32
"""A long chapter waits for more events, so that all of them take less than that for each event."""

LEDGER_EVENTS_MIN = EVENTS_APART
"""A closed interval of fewer events is read again where it is asked for; of more, it is kept."""

_DIGEST_BYTES = 16

_TABLES = (
    "CREATE TABLE made_from (one INTEGER PRIMARY KEY CHECK (one = 1), format BLOB NOT NULL,"
    " scanned INTEGER NOT NULL, reached INTEGER NOT NULL, link BLOB NOT NULL) STRICT",
    "CREATE TABLE chapters (cap TEXT NOT NULL, position INTEGER NOT NULL, latest INTEGER NOT NULL,"
    " life BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX chapters_by_position ON chapters (cap, position)",
    "CREATE INDEX chapters_by_instant ON chapters (cap, latest, position)",
    "CREATE TABLE closed (cap TEXT NOT NULL, number INTEGER NOT NULL, opened INTEGER NOT NULL,"
    ' closed INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL,'
    " interval BLOB NOT NULL, ledger BLOB) STRICT",
    "CREATE UNIQUE INDEX closed_by_number ON closed (cap, number)",
    'CREATE INDEX closed_by_start ON closed (cap, start, "end", closed, number)',
)
_CHAPTER = "SELECT life FROM chapters WHERE cap = ? AND position <= ?"
_CLOSED = "SELECT number, opened, closed, interval, ledger FROM closed WHERE cap = ?"

T = TypeVar("T")


def index_path(log: Path) -> Path:
    """Where the index of a log is: its name begins like the log's, and goes where that goes."""
    return Path(f"{log}-index")


class ClosedInterval(Struct, frozen=True, gc=False):
    """A closed interval: the positions of its first event and of its close.

    `ledger` is None where it had too few events to be kept.
    """

    opened: int
    closed: int
    interval: Interval
    ledger: IntervalLedger | None


class Index:
    """The index at a path; one that cannot be used is as good as an empty one.

    Where it turns out not to be what was written, whoever asks gets a `LogError`, as what they
    found before may not fit any more; after that it is empty. Where it cannot be written, nothing
    more is kept. `failure` says what went wrong.
    """

    def __init__(self, path: Path, link_at: Callable[[int], bytes | None], *, writes: bool) -> None:
        """Use the index at `path` of the log whose links `link_at` gives.

        Without `writes` nothing is changed: an index that does not fit, or is not there, is empty.
        """
        self._path, self._writes = path, writes
        self._db: sqlite3.Connection | None = None
        self.scanned = 0
        """Up to here every event was looked at for caps that are due for a chapter."""
        self.failure = ""
        self._apart: dict[str, int] = {}
        try:
            self._db = _opened(path, writes=writes)
            self._check(link_at)
        except sqlite3.Error as error:
            self._lost(str(error))

    def close(self) -> None:
        """Let the file go."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    # ---- asking

    def apart(self, cap: str) -> int:
        """How many events of `cap` come between its last chapter and the next one."""
        return self._apart.get(cap, EVENTS_APART)

    def chapter(self, cap: str, until: int, at: int | None = None) -> CapLife:
        """The life of `cap` at the last chapter up to `until`, and up to the instant `at`.

        It is an empty one where there is no such chapter.
        """
        rows = self._rows(
            f"{_CHAPTER} AND latest <= ? ORDER BY latest DESC, position DESC LIMIT 1"
            if at is not None
            else f"{_CHAPTER} ORDER BY position DESC LIMIT 1",
            (cap, until) if at is None else (cap, until, at),
        )
        for (blob,) in rows:
            taken = _checked(blob)
            if taken is not None:
                with suppress(ValueError):
                    return CapLife.restore(cap, taken)
            raise self._lost(f"a chapter of {cap} is not what was written")
        return CapLife(cap)

    def positions(self, cap: str, after: int, until: int) -> list[int]:
        """The positions of the chapters of `cap` after `after` and up to `until`."""
        rows = self._rows(
            "SELECT position FROM chapters WHERE cap = ? AND position > ? AND position <= ?"
            " ORDER BY position",
            (cap, after, until),
        )
        return [position for (position,) in rows]

    def closed(
        self, cap: str, until: int, *, behind: int = -1, limit: int = 1
    ) -> list[ClosedInterval]:
        """Up to `limit` intervals closed up to `until`, with numbers above `behind`, in order."""
        rows = self._rows(
            f"{_CLOSED} AND number > ? AND closed <= ? ORDER BY number LIMIT ?",
            (cap, behind, until, limit),
        )
        return [self._bounds(row) for row in rows]

    def closed_one(self, cap: str, number: int, until: int) -> ClosedInterval | None:
        """The interval `number`, if it was closed up to `until`."""
        rows = self._rows(f"{_CLOSED} AND number = ? AND closed <= ?", (cap, number, until))
        return self._bounds(rows[0]) if rows else None

    def closed_at(self, cap: str, at: int, until: int) -> ClosedInterval | None:
        """The first interval closed up to `until` whose period contains the instant `at`."""
        rows = self._rows(
            f'{_CLOSED} AND start <= ? AND "end" > ? AND closed <= ? ORDER BY number LIMIT 1',
            (cap, at, at, until),
        )
        return self._bounds(rows[0]) if rows else None

    # ---- keeping

    def keep(self, life: CapLife, link: bytes) -> None:
        """Keep what has closed, and a chapter.

        `link` is that of the event at the life's position, which is committed. What has closed is
        taken out of the life where it is kept.
        """
        if not self._writes:
            return
        taken = life.take()
        closed = [_row_of(life.cap, each) for each in life.closed]

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", closed)
            db.execute(
                "INSERT OR REPLACE INTO chapters VALUES (?, ?, ?, ?)",
                (life.cap, life.position, life.latest, _sealed(taken)),
            )
            db.execute(
                "UPDATE made_from SET reached = ?, link = ? WHERE reached < ?",
                (life.position, link, life.position),
            )

        if self._write(write):
            life.closed.clear()
        if len(taken) > EVENTS_APART * BYTES_AN_EVENT:
            self._apart[life.cap] = len(taken) // BYTES_AN_EVENT
        else:
            self._apart.pop(life.cap, None)

    def has_scanned(self, position: int) -> None:
        """Every event up to `position` was looked at."""
        self.scanned = position
        self._write(lambda db: db.execute("UPDATE made_from SET scanned = ?", (position,)))

    # ---- inside

    def _check(self, link_at: Callable[[int], bytes | None]) -> None:
        """Begin anew where it is of another version, or of another log."""
        rows = self._rows("SELECT format, scanned, reached, link FROM made_from", ())
        if rows:
            form, scanned, reached, link = rows[0]
            if form == FORMAT and link_at(reached) == link:
                self.scanned = scanned
                return
        if not self._writes:
            self.close()
            return

        def begin(db: sqlite3.Connection) -> None:
            for table in ("made_from", "chapters", "closed"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  # names of this module
            db.execute("INSERT INTO made_from VALUES (1, ?, 0, 0, ?)", (FORMAT, link_at(0)))

        self._write(begin)

    def _rows(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        if self._db is None:
            return []
        try:
            return self._db.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._lost(str(error)) from error

    def _write(self, write: Callable[[sqlite3.Connection], object]) -> bool:
        """Do it in one transaction, or nothing of it, and never again."""
        if self._db is None or not self._writes:
            return False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            write(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._writes, self.failure = False, str(error)
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return False
        return True

    def _bounds(self, row: tuple[int, int, int, bytes, bytes | None]) -> ClosedInterval:
        number, opened, closed, interval, ledger = row
        found = _decoded(interval, Interval)
        kept = None if ledger is None else _decoded(ledger, IntervalLedger)
        if found is None or (ledger is not None and kept is None):
            raise self._lost(f"interval {number} is not what was written")
        return ClosedInterval(opened, closed, found, kept)

    def _lost(self, why: str) -> LogError:
        self.failure = why
        self.close()
        return LogError(f"the index of the log was set aside ({why}): ask again")


def discard(path: Path) -> None:
    """Delete the index at `path`: it is made again from the log."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _opened(path: Path, *, writes: bool) -> sqlite3.Connection:
    if not writes:
        return sqlite3.connect(uri_to_read(path), uri=True, isolation_level=None)
    path.touch(mode=0o600, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    try:
        # It is derived: after a power failure it may lack its end, but is never torn.
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "trusted_schema = OFF"):
            db.execute(f"PRAGMA {setting}")
        (layout,) = db.execute("PRAGMA user_version").fetchone()
        if layout != LAYOUT:
            _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    old: Iterable[tuple[str]] = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
    ).fetchall()
    for (name,) in old:
        db.execute(f"DROP TABLE {name}")
    for statement in _TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {LAYOUT}")
    db.execute("COMMIT")


def _row_of(cap: str, each: ClosedBooks) -> tuple[object, ...]:
    interval, ledger = each.interval, each.ledger
    is_kept = ledger.events >= LEDGER_EVENTS_MIN
    return (
        cap,
        interval.number,
        ledger.opened,
        each.closed,
        interval.start,
        interval.end,
        _sealed(msgpack.encode(interval)),
        _sealed(msgpack.encode(ledger)) if is_kept else None,
    )


def _sealed(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest() + content


def _checked(blob: bytes) -> bytes | None:
    digest, content = blob[:_DIGEST_BYTES], blob[_DIGEST_BYTES:]
    return content if blake2b(content, digest_size=_DIGEST_BYTES).digest() == digest else None


def _decoded(blob: bytes, shape: type[T]) -> T | None:
    content = _checked(blob)
    if content is None:
        return None
    try:
        return msgpack.decode(content, type=shape)
    except DecodeError:
        return None
