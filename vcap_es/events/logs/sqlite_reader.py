"""Reading a log in SQLite, on a connection that cannot change it, in a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import aiosqlite

from vcap_es.errors import LogClosed
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Recorded
from vcap_es.events.log import Head
from vcap_es.events.logs.sqlite_file import check_layout, failure, uri_to_read
from vcap_es.events.logs.sqlite_rows import COLUMNS, Row, recorded, stored

_CHUNK_EVENTS = 1000  # so that a long read neither holds the WAL nor the event loop for long
_SCANNED_EVENTS = 10_000  # of a kind that may be rare: likewise
_LOOK_AGAIN_S = 0.2

_ALL = f"SELECT {COLUMNS} FROM events WHERE position > :after ORDER BY position LIMIT :limit"  # noqa: S608 (a constant of this module)
_OF_KIND = _ALL.replace("ORDER BY", "AND position <= :until AND kind = :kind ORDER BY")
_OF_CAP = (
    f"SELECT {COLUMNS} FROM caps JOIN events USING (position)"  # noqa: S608 (likewise)
    " WHERE cap = :cap AND caps.position > :after AND (:kind IS NULL OR kind = :kind)"
    " ORDER BY caps.position LIMIT :limit"
)
_DIVERGED = f"SELECT {COLUMNS} FROM diverged ORDER BY place LIMIT ?"  # noqa: S608 (likewise)
_HEAD = "SELECT position, epoch, link FROM events ORDER BY position DESC LIMIT 1"


class SqliteReader:
    """The reading half of a log in SQLite, for the writer's own process and for auditors.

    It takes no lock and may be open in any number of processes while the primary writes.
    """

    def __init__(self, db: aiosqlite.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._closed = False

    @classmethod
    async def open(cls, path: Path | str) -> Self:
        """Read the log at `path`; raises `LogDamaged` or `LogError` if there is none to read."""
        path = Path(path)
        try:
            # Opened here, which reads nothing yet: aiosqlite leaks its thread if it cannot connect.
            db = sqlite3.connect(
                uri_to_read(path), uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise failure(path, error) from error
        reader = cls(await aiosqlite.Connection(lambda: db, iter_chunk_size=64), path)
        try:
            [(application_id,)] = await reader._fetch("PRAGMA application_id")
            [(version,)] = await reader._fetch("PRAGMA user_version")
            check_layout(path, application_id, version)
        except BaseException:
            await reader.close()
            raise
        return reader

    async def read_diverged(self, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`; a log that was never written as a copy has none."""
        if not await self._fetch("SELECT 1 FROM sqlite_schema WHERE name = 'diverged'"):
            return []
        return [stored(row) for row in await self._fetch(_DIVERGED, (limit,))]

    async def read(
        self, after: int = 0, *, limit: int = 1000, cap: str | None = None, kind: str | None = None
    ) -> list[Recorded]:
        """See `EventLog`. What cannot be decoded is told with its position."""
        if cap is None and kind is not None:
            return await self._read_kind(after, limit, kind)
        found: list[Recorded] = []
        while len(found) < limit:
            chunk = await self._rows(after, min(limit - len(found), _CHUNK_EVENTS), cap, kind)
            found.extend(recorded(row) for row in chunk)
            if len(chunk) < _CHUNK_EVENTS:
                break
            after = chunk[-1][0]
        return found

    async def _read_kind(self, after: int, limit: int, kind: str) -> list[Recorded]:
        found: list[Recorded] = []
        end = (await self.head()).position
        after = max(after, 0)
        while after < end and len(found) < limit:
            until = after + _SCANNED_EVENTS
            wanted = {"after": after, "until": until, "kind": kind, "limit": limit - len(found)}
            found += [recorded(row) for row in await self._fetch(_OF_KIND, wanted)]
            after = until
        return found

    async def read_stored(self, after: int = 0, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`."""
        found: list[Stored] = []
        while len(found) < limit:
            chunk = await self._rows(after, min(limit - len(found), _CHUNK_EVENTS))
            found.extend(stored(row) for row in chunk)
            if len(chunk) < _CHUNK_EVENTS:
                break
            after = chunk[-1][0]
        return found

    async def head(self) -> Head:
        """The end of the log as it is on disk now."""
        for position, epoch, link in await self._fetch(_HEAD):
            return Head(position=position, epoch=epoch, link=link)
        return Head()

    async def wait(self, after: int) -> None:
        """See `EventLog`. It looks again and again: another process cannot wake this one."""
        while (await self.head()).position <= after:  # noqa: ASYNC110 (no event crosses processes)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def close(self) -> None:
        """See `EventLog`."""
        if not self._closed:
            self._closed = True
            await self._db.close()

    async def _rows(
        self, after: int, limit: int, cap: str | None = None, kind: str | None = None
    ) -> list[Row]:
        statement = _ALL if cap is None else _OF_CAP
        wanted = {"after": after, "limit": limit, "cap": cap, "kind": kind}
        return list(await self._fetch(statement, wanted))

    async def _fetch(self, statement: str, parameters: Any = ()) -> Iterable[Any]:
        if self._closed:
            raise LogClosed(f"{self._path} was closed; open it again to use it")
        try:
            return await self._db.execute_fetchall(statement, parameters)
        except sqlite3.Error as error:
            raise failure(self._path, error) from error
