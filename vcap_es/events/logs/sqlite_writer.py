"""Writing a log in SQLite: many batches, one transaction. Synchronous, for one thread.

Each batch stays atomic and has its own check of the epoch and its own outcome; what they share is
the fsync.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from vcap_es.errors import EpochRefused, LogDamaged, LogError, OutcomeUnknown
from vcap_es.events.chain import record
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.facts import caps_of
from vcap_es.events.log import Head, check_epoch
from vcap_es.events.logs.sqlite_file import Synchronous, failure, lock, open_to_write, unlock
from vcap_es.events.logs.sqlite_rows import COLUMNS, Row, recorded, row_of

Outcome = list[Recorded] | EpochRefused

_WAL_BYTES = 16 * 2**20
_TRANSACTION_BYTES = 16 * 2**10  # what a transaction writes at least: some pages, whole
_EVENT_BYTES = 1024  # what an event writes beside its fact: its share of the pages of the indexes

_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (constants)
_INSERT_CAP = "INSERT INTO caps (cap, position) VALUES (?, ?)"
_SAME_ID = f"SELECT {COLUMNS} FROM events WHERE event_id = ?"  # noqa: S608 (constants)
_LAST = f"SELECT {COLUMNS} FROM events ORDER BY position DESC LIMIT 1"  # noqa: S608 (constants)


class Append(Struct, frozen=True, gc=False):
    """One batch that waits for its transaction, with its facts encoded."""

    batch: Sequence[Draft]
    facts: list[bytes]
    epoch: int


class _Transaction:
    """What one transaction adds, worked out in memory before a row is written."""

    def __init__(self, head: Head, epoch: int) -> None:
        self.position = head.position
        self.link = head.link
        self.epoch = epoch
        self.rows: list[Row] = []
        self.caps: list[tuple[str, int]] = []
        self.bytes = _TRANSACTION_BYTES

    def add(self, draft: Draft, fact: bytes, epoch: int) -> Recorded:
        """Put one event at the end."""
        position = self.position + 1
        event = record(draft, fact, position=position, epoch=epoch, previous=self.link)
        self.rows.append(row_of(event, fact))
        for cap in caps_of(draft.fact):
            self.caps.append((cap, position))
        self.position, self.epoch, self.link = position, epoch, event.link
        self.bytes += _EVENT_BYTES + len(fact)
        return event

    def head(self) -> Head:
        """The end of the log with everything in it."""
        return Head(position=self.position, epoch=self.epoch, link=self.link)


class SqliteWriter:
    """The one connection that writes; made, used and closed in one thread."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._lock = lock(path)
        self._wal_bytes = 0
        self._dead = False
        try:
            self._db = open_to_write(path, synchronous)
            try:
                self.head = self._last()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            unlock(self._lock)
            raise failure(path, error) from error
        except BaseException:
            unlock(self._lock)
            raise

    def commit(self, appends: Sequence[Append]) -> list[Outcome]:
        """Record all of `appends` in one transaction; the outcomes are in the same order.

        After any failure it is not known what is on disk: `OutcomeUnknown`, and no commit follows.
        """
        if self._dead:
            raise OutcomeUnknown("an earlier commit failed: stop this process and replay the log")
        try:
            self._checkpoint_when_due()
            try:
                return self._transact(appends, look=False)
            except sqlite3.IntegrityError:
                # An id is there already. That is rare, so ids are looked up only now.
                self._db.execute("ROLLBACK")
                return self._transact(appends, look=True)
        except Exception as error:
            self._dead = True
            self._roll_back()
            raise OutcomeUnknown(
                f"a commit after position {self.head.position} failed ({error!r}): the batches in"
                " it may or may not be there; stop this process and replay the log"
            ) from error

    def close(self) -> None:
        """Bring everything into the main file, close it and let the lock go."""
        try:
            if not self._dead:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
        except sqlite3.Error as error:
            if not self._dead:  # else it failed before, and that was told
                raise LogError(f"the log could not be closed in good order: {error}") from error
        finally:
            unlock(self._lock)

    def _transact(self, appends: Sequence[Append], *, look: bool) -> list[Outcome]:
        self._db.execute("BEGIN IMMEDIATE")
        (epoch,) = self._db.execute("SELECT epoch FROM fence").fetchone()
        transaction = _Transaction(self.head, epoch)
        fresh: dict[bytes, Recorded] = {}
        outcomes: list[Outcome] = []
        for each in appends:
            try:
                check_epoch(each.epoch, transaction.epoch)
            except EpochRefused as refusal:
                outcomes.append(refusal)
                continue
            events: list[Recorded] = []
            for draft, fact in zip(each.batch, each.facts, strict=True):
                event = self._known(draft.event_id, fresh) if look else None
                if event is None:
                    event = transaction.add(draft, fact, each.epoch)
                    if look:
                        fresh[event.event_id] = event
                events.append(event)
            outcomes.append(events)
        self._write(transaction, epoch)
        return outcomes

    def _write(self, transaction: _Transaction, epoch: int) -> None:
        self._db.executemany(_INSERT, transaction.rows)
        self._db.executemany(_INSERT_CAP, transaction.caps)
        if transaction.epoch != epoch:
            self._db.execute("UPDATE fence SET epoch = ?", (transaction.epoch,))
        self._db.execute("COMMIT")
        if transaction.rows:
            self.head = transaction.head()
        self._wal_bytes += transaction.bytes

    def _known(self, event_id: bytes, fresh: dict[bytes, Recorded]) -> Recorded | None:
        if event_id in fresh:
            return fresh[event_id]
        row: Row | None = self._db.execute(_SAME_ID, (event_id,)).fetchone()
        return None if row is None else recorded(row)

    def _checkpoint_when_due(self) -> None:
        if self._wal_bytes >= _WAL_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._wal_bytes = 0

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _last(self) -> Head:
        (epoch,) = self._db.execute("SELECT epoch FROM fence").fetchone()
        row: Row | None = self._db.execute(_LAST).fetchone()
        if row is None:
            return Head()
        event = recorded(row)
        if event.epoch != epoch:
            raise LogDamaged(f"the fence is at epoch {epoch}, the last event at {event.epoch}")
        return Head(position=event.position, epoch=event.epoch, link=event.link)
