"""Logs that are closed whatever happens: a log that stays open keeps its process alive."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_file import Synchronous


@asynccontextmanager
async def open_log(path: Path, synchronous: Synchronous = "FULL") -> AsyncIterator[SqliteLog]:
    """The log at `path`, open to be written meanwhile."""
    log = await SqliteLog.open(path, synchronous=synchronous)
    try:
        yield log
    finally:
        await log.close()
