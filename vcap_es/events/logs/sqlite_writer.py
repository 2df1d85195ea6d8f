"""Writing a log in SQLite: many batches, one transaction. Synchronous, for one thread.

Each batch stays atomic and has its own check of the epoch and its own outcome; what they share is
the fsync.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from vcap_es.errors import (
    DiskFull,
    EpochRefused,
    LogDamaged,
    LogError,
    OutcomeUnknown,
    UnknownFact,
)
from vcap_es.events import sealing
from vcap_es.events.chain import Stored
from vcap_es.events.codec import caps_in
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.log import (
    Head,
    Truncated,
    check_copy,
    check_epoch,
    check_ids,
    check_truncation,
    head_of,
)
from vcap_es.events.logs.sqlite_file import (
    Synchronous,
    deleting,
    failure,
    lock,
    open_to_write,
    unlock,
)
from vcap_es.events.logs.sqlite_rows import COLUMNS, Row, recorded, row_of, stored

Outcome = list[Recorded] | LogError

_WAL_BYTES = 16 * 2**20
"""After this many bytes the WAL is brought into the main file, as far as readers let it."""

_WAL_BYTES_MAX = 64 * 2**20
"""A WAL that readers have kept from beginning anew until it is so long is not written on before
they have left it: the writer waits, but no longer than `_WAL_WAIT_MS`."""

_WAL_WAIT_MS = 100
"""Twice what a read transaction may last. A reader that stays longer lets the WAL grow."""

_BUSY_MS = 5_000
_TRANSACTION_BYTES = 16 * 2**10  # what a transaction writes at least: some pages, whole
_EVENT_BYTES = 1024  # what an event writes beside its fact: its share of the pages of the indexes

_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (constants)
_INSERT_CAP = "INSERT INTO caps (cap, position) VALUES (?, ?)"
_SAME_ID = f"SELECT {COLUMNS} FROM events WHERE event_id = ?"  # noqa: S608 (constants)
_LAST = f"SELECT {COLUMNS} FROM events ORDER BY position DESC LIMIT 1"  # noqa: S608 (constants)
_BEHIND = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position"  # noqa: S608 (constants)
_SET_ASIDE = (
    f"INSERT INTO diverged ({COLUMNS}) SELECT {COLUMNS} FROM events"  # noqa: S608 (constants)
    " WHERE position > ? ORDER BY position"
)
_WATERMARK = "SELECT committed FROM watermark"
_EPOCH = "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (epoch) DO UPDATE SET last = excluded.last"


class AppendJob(Struct, frozen=True, gc=False):
    """One batch that waits for its transaction, with its facts encoded."""

    batch: Sequence[Draft]
    facts: list[bytes]
    epoch: int


class CopyJob(Struct, frozen=True, gc=False):
    """Events that were sealed already, and what is known to be committed."""

    batch: Sequence[Stored]
    committed: int


class _Transaction:
    """What one transaction adds, worked out in memory before a row is written."""

    def __init__(self, head: Head, fence: int, committed: int) -> None:
        self.head = head
        self.fence = fence
        self.committed = committed
        self.rows: list[Row] = []
        self.caps: list[tuple[str, int]] = []
        self.epochs: dict[int, int] = {}
        self.bytes = _TRANSACTION_BYTES

    def add(self, entries: Sequence[Stored]) -> None:
        """Put events at the end: all, or none where a fact cannot be read."""
        try:
            rows = [row_of(each) for each in entries]
            caps = [(cap, each.position) for each in entries for cap in caps_in(each.fact)]
        except (ValueError, IndexError) as error:  # a fact that ends too soon, or is no text
            raise LogDamaged(
                f"a fact after position {self.head.position} is none: {error}"
            ) from error
        self.rows += rows
        self.caps += caps
        for each in entries:
            self.epochs[each.epoch] = each.position
            self.bytes += _EVENT_BYTES + len(each.fact)
        if entries:
            self.head = head_of(entries[-1])
            self.fence = max(self.fence, self.head.epoch)


class SqliteWriter:
    """The one connection that writes; made, used and closed in one thread.

    `head`, `committed` and `history` are those of the last transaction that succeeded.
    """

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._lock = lock(path)
        self._wal_bytes = 0
        self._was_cut = False
        self._dead = False
        try:
            self._db = open_to_write(path, synchronous)
            try:
                self.committed: int = self._db.execute(_WATERMARK).fetchone()[0]
                epochs = self._db.execute("SELECT epoch, last FROM epochs ORDER BY epoch")
                self.history: dict[int, int] = dict(epochs.fetchall())
                self.head = self._last()
                self._page_bytes: int = self._db.execute("PRAGMA page_size").fetchone()[0]
                self._check_head()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            unlock(self._lock)
            raise failure(path, error) from error
        except BaseException:
            unlock(self._lock)
            raise

    def commit(self, appends: Sequence[AppendJob | CopyJob]) -> list[Outcome]:
        """Record all of `appends` in one transaction; the outcomes are in the same order.

        Raises `DiskFull` where there is no room; nothing of it is there then. After any other
        failure it is not known what is on disk: `OutcomeUnknown`, and no commit follows.
        """
        with self._careful():
            self._checkpoint_when_due()
            try:
                return self._transact(appends, look=False)
            except sqlite3.IntegrityError:
                # An id is there already. That is rare, so ids are looked up only now.
                self._db.execute("ROLLBACK")
                return self._transact(appends, look=True)
        raise AssertionError("either it is committed or it raises")

    def truncate(self, after: int) -> Truncated:
        """Set the events above `after` aside, in one transaction; raises like `commit`."""
        check_truncation(after, self.committed, self.head.position)
        with self._careful():
            self._db.execute("BEGIN IMMEDIATE")
            aside = [stored(row) for row in self._db.execute(_BEHIND, (after,)).fetchall()]
            self._db.execute(_SET_ASIDE, (after,))
            with deleting(self._db):
                caps = [(cap, each.position) for each in aside for cap in caps_in(each.fact)]
                self._db.executemany("DELETE FROM caps WHERE cap = ? AND position = ?", caps)
                self._db.execute("DELETE FROM events WHERE position > ?", (after,))
            row: Row | None = self._db.execute(_LAST).fetchone()
            head = head_of(None if row is None else stored(row))
            self._db.execute("DELETE FROM epochs WHERE last > ?", (after,))
            if head.position:
                self._db.execute(_EPOCH, (head.epoch, head.position))
            self._db.execute("COMMIT")
            self._was_cut = True
            self.head = head
            self.history = {each: at for each, at in self.history.items() if each < head.epoch}
            if head.position:
                self.history[head.epoch] = head.position
        return Truncated(count=len(aside), link=aside[-1].link if aside else b"")

    def close(self) -> None:
        """Bring everything into the main file, close it and let the lock go."""
        try:
            with closing(self._db):
                if not self._dead:
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            if not self._dead:  # else it failed before, and that was told
                raise LogError(f"the log could not be closed in good order: {error}") from error
        finally:
            unlock(self._lock)

    @contextmanager
    def _careful(self) -> Iterator[None]:
        """What a failure of a transaction means; see `commit`."""
        if self._dead:
            raise OutcomeUnknown("an earlier commit failed: stop this process and replay the log")
        try:
            yield
        except Exception as error:
            self._roll_back()
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            if is_full and not self._db.in_transaction:
                raise DiskFull(
                    f"no room for what follows position {self.head.position}: make room on the disk"
                ) from error
            self._dead = True
            raise OutcomeUnknown(
                f"a commit after position {self.head.position} failed ({error!r}): the batches in"
                " it may or may not be there; stop this process and replay the log"
            ) from error

    def _transact(self, appends: Sequence[AppendJob | CopyJob], *, look: bool) -> list[Outcome]:
        self._db.execute("BEGIN IMMEDIATE")
        (fence,) = self._db.execute("SELECT epoch FROM fence").fetchone()
        transaction = _Transaction(self.head, fence, self.committed)
        fresh: dict[bytes, Recorded] = {}
        outcomes: list[Outcome] = []
        for each in appends:
            try:
                if isinstance(each, CopyJob):
                    outcomes.append(self._copy(transaction, each, fresh if look else None))
                else:
                    outcomes.append(self._append(transaction, each, fresh if look else None))
            except (EpochRefused, LogDamaged, UnknownFact) as refusal:
                outcomes.append(refusal)
        self._write(transaction, fence)
        return outcomes

    def _append(
        self, transaction: _Transaction, append: AppendJob, fresh: dict[bytes, Recorded] | None
    ) -> list[Recorded]:
        """Add a batch; `fresh` are the events of this transaction where ids must be looked up."""
        check_epoch(append.epoch, transaction.fence)
        events: list[Recorded] = []
        entries: list[Stored] = []
        head = transaction.head
        for draft, fact in zip(append.batch, append.facts, strict=True):
            event = self._known(draft.event_id, fresh) if fresh is not None else None
            if event is None:
                event, entry = sealing.seal_one(draft, fact, append.epoch, head)
                head = head_of(entry)
                entries.append(entry)
                if fresh is not None:
                    fresh[event.event_id] = event
            events.append(event)
        transaction.add(entries)
        return events

    def _copy(
        self, transaction: _Transaction, copy: CopyJob, fresh: dict[bytes, Recorded] | None
    ) -> list[Recorded]:
        check_copy(copy.batch, transaction.head)
        if fresh is not None:
            check_ids(copy.batch, lambda event_id: self._known(event_id, fresh) is not None)
            fresh.update({each.event_id: sealing.recorded(each) for each in copy.batch})
        transaction.add(copy.batch)
        known = min(copy.committed, transaction.head.position)
        transaction.committed = max(transaction.committed, known)
        return []

    def _write(self, transaction: _Transaction, fence: int) -> None:
        self._db.executemany(_INSERT, transaction.rows)
        self._db.executemany(_INSERT_CAP, transaction.caps)
        self._db.executemany(_EPOCH, list(transaction.epochs.items()))
        if transaction.fence > fence:
            self._db.execute("UPDATE fence SET epoch = ?", (transaction.fence,))
        if transaction.committed != self.committed:
            self._db.execute("UPDATE watermark SET committed = ?", (transaction.committed,))
        self._db.execute("COMMIT")
        self.head, self.committed = transaction.head, transaction.committed
        self.history.update(transaction.epochs)
        self._wal_bytes += transaction.bytes

    def _known(self, event_id: bytes, fresh: dict[bytes, Recorded]) -> Recorded | None:
        if event_id in fresh:
            return fresh[event_id]
        row: Row | None = self._db.execute(_SAME_ID, (event_id,)).fetchone()
        return None if row is None else recorded(row)

    def _checkpoint_when_due(self) -> None:
        """Bring the WAL into the main file, where it is long, or before anything follows a cut.

        Else damage to the WAL could bring back what was set aside, in the place of what followed
        it, and the log would be too long for anybody to see that something committed is missing.
        """
        if self._wal_bytes >= _WAL_BYTES or self._was_cut:
            row = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            _, frames, written = row
            self._wal_bytes = 0
            self._was_cut = self._was_cut and written < frames  # as far as readers let it
            if frames * self._page_bytes >= _WAL_BYTES_MAX:
                self._begin_wal_anew()

    def _begin_wal_anew(self) -> None:
        """Wait until nobody reads from the WAL, so that it is written from its beginning again.

        Those who begin to read meanwhile read from the main file, which has all of it by then.
        """
        self._db.execute(f"PRAGMA busy_timeout = {_WAL_WAIT_MS}")
        try:
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _last(self) -> Head:
        row: Row | None = self._db.execute(_LAST).fetchone()
        return head_of(None if row is None else recorded(row))

    def _check_head(self) -> None:
        """What is kept beside the events was written with them: it must speak of the same end."""
        head = self.head
        (fence,) = self._db.execute("SELECT epoch FROM fence").fetchone()
        if head.epoch > fence:
            raise LogDamaged(f"the fence is at epoch {fence}, the last event at {head.epoch}")
        if self.committed > head.position:
            raise LogDamaged(
                f"the log ends at position {head.position}, and {self.committed} was committed"
            )
        last = [(head.epoch, head.position)] if head.position else []
        if list(self.history.items())[-1:] != last:
            raise LogDamaged(f"the last epoch does not end at position {head.position}, as the log")
