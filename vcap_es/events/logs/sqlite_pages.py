"""Reading a log in SQLite page by page, for a process that does nothing else. Synchronous.

Each page is a read transaction of its own that ends after `PAGE_NS`, so that whoever reads all of
a log, however slowly it goes on, never keeps the writer from bringing its WAL to an end.
"""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from msgspec import Struct

from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Recorded
from vcap_es.events.log import Head
from vcap_es.events.logs.sqlite_file import check_layout, failure, uri_to_read
from vcap_es.events.logs.sqlite_rows import COLUMNS, Row, recorded, stored

PAGE_NS = 30_000_000
"""After so long a page ends where it is, with one event at least; with the time of one row more,
it is well below the 50 ms that a read transaction may last."""

PAGE_EVENTS = 500
"""The most events of a page."""

PAGE_BYTES = 2**20
"""A page ends with the event that brings its facts to this many bytes."""

SCANNED_MAX = 5_000
"""Positions that one page looks through for a kind that may be rare."""

T = TypeVar("T")

_FACT = COLUMNS.split(", ").index("fact")
_KIND = COLUMNS.split(", ").index("kind")
_ALL = (
    f"SELECT {COLUMNS} FROM events"  # noqa: S608 (constants of this module)
    " WHERE position > :after AND position <= :until AND (:kind IS NULL OR kind = :kind)"
    " ORDER BY position"
)
_OF_CAP = (
    f"SELECT {COLUMNS} FROM caps CROSS JOIN events USING (position)"  # noqa: S608 (likewise)
    " WHERE cap = :cap AND caps.position > :after AND caps.position <= :until"
    " ORDER BY caps.position"
)
_LINK = "SELECT link FROM events WHERE position = :position"
_HEAD = "SELECT position, epoch, link FROM events ORDER BY position DESC LIMIT 1"


class Page(Struct, Generic[T], frozen=True, gc=False):
    """Some events in a row; everything up to the position `reached` has been looked at."""

    events: list[T]
    reached: int


class SqlitePages:
    """The log at a path, open for reading only, in any number of processes while one writes."""

    def __init__(self, path: Path, clock_ns: Callable[[], int]) -> None:
        """Read the log at `path`, by a clock that only rises, in ns.

        Raises `LogDamaged` or `LogError` if there is none to read, here or at any page.
        """
        self._path, self._clock_ns = path, clock_ns
        try:
            self._db = sqlite3.connect(uri_to_read(path), uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise failure(path, error) from error
        try:
            [(application_id,)] = self._fetch("PRAGMA application_id")[0]
            [(self._layout,)] = self._fetch("PRAGMA user_version")[0]
            check_layout(path, application_id, self._layout)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def head(self) -> Head:
        """The end of the log as it is on disk now, committed or not."""
        rows, _ = self._fetch(_HEAD)
        return _head(rows[0]) if rows else Head()

    def committed(self) -> int:
        """The last position that the file itself says is committed.

        The first layout was of lone masters, of which all is committed.
        """
        if self._layout == 1:
            return self.head().position
        rows, _ = self._fetch("SELECT committed FROM watermark")
        return int(rows[0][0])

    def link_at(self, position: int) -> bytes | None:
        """The link of the event at `position`; None where there is none. Before all: genesis."""
        if position == 0:
            return Head().link
        rows, _ = self._fetch(_LINK, {"position": position})
        return bytes(rows[0][0]) if rows else None

    def events(
        self, after: int, until: int, *, limit: int = PAGE_EVENTS, kind: str | None = None
    ) -> Page[Recorded]:
        """The next events after `after` and up to `until`, of all caps; only of `kind`, if given.

        Raises `LogDamaged` or `UnknownFact` for one that cannot be decoded.
        """
        rows, reached = self._all(after, until, limit, kind)
        return Page([recorded(row) for row in rows], reached)

    def stored(self, after: int, until: int, *, limit: int = PAGE_EVENTS) -> Page[Stored]:
        """Like `events`, with each fact in the bytes that were written."""
        rows, reached = self._all(after, until, limit, None)
        return Page([stored(row) for row in rows], reached)

    def of_cap(
        self,
        cap: str,
        after: int,
        until: int,
        *,
        limit: int = PAGE_EVENTS,
        kind: str | None = None,
    ) -> Page[Recorded]:
        """The next events that speak of `cap`; with `kind`, those of them that are of it."""
        wanted = {"cap": cap, "after": after, "until": until}
        rows, is_end = self._fetch(_OF_CAP, wanted, limit)
        kept = [recorded(row) for row in rows if kind in (None, row[_KIND])]
        return Page(kept, until if is_end else rows[-1][0])

    def _all(self, after: int, until: int, limit: int, kind: str | None) -> tuple[list[Row], int]:
        if kind is not None:
            until = min(until, after + SCANNED_MAX)
        wanted = {"after": after, "until": until, "kind": kind}
        rows, is_end = self._fetch(_ALL, wanted, limit)
        return rows, until if is_end else rows[-1][0]

    def _fetch(
        self, statement: str, parameters: Mapping[str, Any] | None = None, limit: int = PAGE_EVENTS
    ) -> tuple[list[Any], bool]:
        """Rows up to the bounds of a page, and whether these are all."""
        ends_at = self._clock_ns() + PAGE_NS
        rows: list[Any] = []
        size = 0
        try:
            cursor = self._db.execute(statement, parameters or {})
            try:
                for row in cursor:
                    rows.append(row)
                    size += len(row[_FACT]) if len(row) > _FACT else 0
                    if len(rows) >= limit or size >= PAGE_BYTES or self._clock_ns() > ends_at:
                        return rows, False
            finally:
                cursor.close()  # this ends the transaction
        except sqlite3.Error as error:
            raise failure(self._path, error) from error
        return rows, True


def _head(row: tuple[int, int, bytes]) -> Head:
    position, epoch, link = row
    return Head(position=position, epoch=epoch, link=link)
