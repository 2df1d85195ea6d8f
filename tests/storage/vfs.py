"""SQLite on a `Disk`: the product's own writer, its settings and statements, and a VFS that tells.

`on_disk` lets the product open its connection through `apsw`, whose SQLite takes a VFS written in
Python. All else is as ever: WAL with shared memory, the product's PRAGMAs, its checkpoints. What
differs from production is the release of SQLite, which apsw brings along, and that nobody reads
while the writer writes: two SQLites in one process must not open the same file. Files are real
and hold what a process sees; what the disk holds, `Disk` works out from what was recorded.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

from tests.storage.disk import (
    DIRECTORY,
    Disk,
    NoRoom,
    Operation,
    PowerOff,
    Sync,
    SyncFailed,
    Truncate,
    Write,
    WriteFailed,
)

_VFS = "recorded"
_PAGE = 4096


class _Tables:
    """Rows that were fetched already: what a cursor of `sqlite3` gives of them."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows


class Connection:
    """A connection of apsw with the face of one of `sqlite3`, as far as the product uses it."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path), vfs=_VFS)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> _Tables:
        with _translated():
            return _Tables(list(self._db.execute(statement, tuple(parameters))))

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with _translated():
            self._db.executemany(statement, rows)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def close(self) -> None:
        with _translated():
            self._db.close()


@contextmanager
def _translated() -> Iterator[None]:
    """The errors of `sqlite3` for those of apsw."""
    try:
        yield
    except apsw.Error as error:
        is_constraint = isinstance(error, apsw.ConstraintError)
        kind = sqlite3.IntegrityError if is_constraint else sqlite3.OperationalError
        told = kind(str(error))
        told.sqlite_errorcode = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
        told.sqlite_errorname = type(error).__name__
        raise told from error


def _do(disk: Disk, file: str, operation: Operation) -> None:
    """Tell the disk, and SQLite what the system would tell it where that fails."""
    try:
        disk.do(file, operation)
    except NoRoom:
        raise apsw.exception_for(apsw.SQLITE_FULL) from None
    except SyncFailed:
        raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC) from None
    except WriteFailed:
        is_write = isinstance(operation, Write)
        code = apsw.SQLITE_IOERR_WRITE if is_write else apsw.SQLITE_IOERR_TRUNCATE
        raise apsw.exception_for(code) from None
    except PowerOff:
        raise apsw.exception_for(apsw.SQLITE_IOERR) from None


class _File(apsw.VFSFile):
    """A real file, each change of which is told to the disk first."""

    def __init__(self, disk: Disk, file: str, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk, self._file = disk, file

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 (SQLite's name)
        write = Write(offset, bytes(data))
        try:
            _do(self._disk, self._file, write)
        except apsw.Error:
            if not self._disk.is_off:
                super().xWrite(self._disk.part_way(self._file, write).data, offset)
            raise
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 (likewise)
        _do(self._disk, self._file, Truncate(newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 (likewise)
        _do(self._disk, self._file, Sync())


class _Vfs(apsw.VFS):
    """The files of one log; nothing else is opened by it."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__(_VFS, "")
        self._disk, self._path = disk, str(path)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 (likewise)
        full = name if isinstance(name, str) else name.filename()
        return _File(self._disk, self._ending(full), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 (likewise)
        _do(self._disk, self._ending(filename), Truncate(0, deletes=True))
        super().xDelete(filename, syncdir)

    def _ending(self, name: str) -> str:
        assert name.startswith(self._path), name
        return name.removeprefix(self._path)


@contextmanager
def on_disk(disk: Disk, path: Path) -> Iterator[None]:
    """Within, the product opens the log at `path` on `disk`."""
    vfs = _Vfs(disk, path)

    def connect(database: Path, isolation_level: None) -> Connection:
        assert (database, isolation_level) == (path, None)
        return Connection(path)

    try:
        with patch.object(sqlite3, "connect", connect), _told(disk, path):
            yield
    finally:
        vfs.unregister()


@contextmanager
def _told(disk: Disk, path: Path) -> Iterator[None]:
    """Tell the disk as well what the product writes and syncs without SQLite."""
    pwrite = os.pwrite
    files = {f"{path}-wal": "-wal", str(path.parent): DIRECTORY}

    def told_as(descriptor: int) -> str | None:
        return files.get(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if file := told_as(descriptor):
            for start in range(0, len(data), _PAGE):
                _do_or_fail(disk, file, Write(offset + start, data[start : start + _PAGE]))
        return pwrite(descriptor, data, offset)

    def sync(descriptor: int) -> None:
        file = told_as(descriptor)
        assert file is not None, "a file is synced of which the disk does not know"
        _do_or_fail(disk, file, Sync())

    with patch.object(os, "pwrite", write), patch.object(os, "fsync", sync):
        yield


def _do_or_fail(disk: Disk, file: str, operation: Operation) -> None:
    try:
        disk.do(file, operation)
    except NoRoom:
        raise OSError(ENOSPC, "no room") from None
    except (WriteFailed, SyncFailed):
        raise OSError(EIO, "the disk failed") from None
