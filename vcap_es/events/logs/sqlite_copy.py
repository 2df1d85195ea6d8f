"""Copying a log in SQLite while another process writes it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from vcap_es.errors import DiskFull, LogError
from vcap_es.events.logs.sqlite_file import check_layout, failure, uri_to_read


def copy_log(source: Path, target: Path) -> None:
    """Make `target`, a file with everything that the log `source` has at one moment.

    It is one read transaction: whoever writes goes on, and only its WAL is not reused meanwhile.
    Raises `LogDamaged` where `source` is no log, `DiskFull` where there is no room.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with (
            closing(sqlite3.connect(uri_to_read(source), uri=True)) as original,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            application_id = original.execute("PRAGMA application_id").fetchone()[0]
            version = original.execute("PRAGMA user_version").fetchone()[0]
            check_layout(source, application_id, version)
            original.backup(copy)
            # One file that needs no others beside it, to be moved and hashed.
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            raise DiskFull(f"no room for a copy of {source} at {target}: make room") from error
        raise failure(source, error) from error
    except OSError as error:
        raise LogError(f"{source} cannot be copied to {target}: {error}") from error
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
