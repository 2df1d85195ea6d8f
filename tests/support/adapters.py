"""Every adapter of the port `EventLog`, and how a test opens it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from vcap_es.events.log import EventLog
from vcap_es.events.logs.memory import MemoryLog
from vcap_es.events.logs.sqlite import SqliteLog

Opener = Callable[[Path], Awaitable[EventLog]]
Scenario = Callable[[EventLog], Awaitable[None]]
Run = Callable[[Scenario], None]


async def _memory(_: Path) -> EventLog:
    return MemoryLog()


async def _sqlite(folder: Path) -> EventLog:
    return await SqliteLog.open(folder / "events.db")


KEPT = {"sqlite": _sqlite}
"""The adapters whose events outlive the object."""

OPENERS: dict[str, Opener] = {"memory": _memory, **KEPT}


@asynccontextmanager
async def opened(opener: Opener, folder: Path) -> AsyncIterator[EventLog]:
    """The log in `folder`, closed at the end whatever happens."""
    log = await opener(folder)
    try:
        yield log
    finally:
        await log.close()
