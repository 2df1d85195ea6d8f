"""A log with a past, its archive, and answers from it without a process."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support.lives import drafts
from vcap_es.adapters.past.answers import Lookup, Sheet, answer
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.index import Index, index_path
from vcap_es.adapters.past.indexing import Indexing
from vcap_es.adapters.past.messages import AnyQuestion
from vcap_es.clock import boot_ns
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_pages import SqlitePages


def write(path: Path, facts: Sequence[Fact]) -> None:
    """Append `facts` to the log at `path`."""

    async def append() -> None:
        log = await SqliteLog.open(path, synchronous="OFF")
        await log.append(drafts(facts), epoch=1)
        await log.close()

    asyncio.run(append())


def events_of(path: Path) -> list[Recorded]:
    """All events of the log at `path`."""

    async def read() -> list[Recorded]:
        reader = await SqliteLog.open_reader(path)
        try:
            return await reader.read(limit=1_000_000)
        finally:
            await reader.close()

    return asyncio.run(read())


@contextmanager
def archive(path: Path, *, writes: bool = True) -> Iterator[Archive]:
    """The archive of the log at `path`, with the index that is there."""
    pages = SqlitePages(path, boot_ns)
    index = Index(index_path(path), pages.link_at, writes=writes)
    try:
        yield Archive(pages, index)
    finally:
        index.close()
        pages.close()


def indexed(found: Archive, until: int) -> None:
    """Bring the index on to the position `until`."""
    indexing = Indexing(found)
    while indexing.step(until):
        pass


def body(
    found: Archive, question: AnyQuestion, until: int, present: Mapping[str, str] | None = None
) -> bytes:
    """The whole answer; `present` tells what servers are called and the groups of caps."""
    steps, parts = answer(found, question, until), list[bytes]()
    given = next(steps)
    while True:
        if isinstance(given, Sheet):
            parts.append(given.body)
            if given.is_last:
                return b"".join(parts)
        given = steps.send(dict(present or {})) if isinstance(given, Lookup) else next(steps)


def told(
    found: Archive, question: AnyQuestion, until: int, present: Mapping[str, str] | None = None
) -> Any:
    """The JSON of the whole answer."""
    return msgspec.json.decode(body(found, question, until, present))
