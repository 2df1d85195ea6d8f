"""Reading a whole log file, with a bar that shows how far it is."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from vcap_es.cli.control import DATA
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Recorded
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_reader import SqliteReader

CHUNK = 5000

LogPath = Annotated[Path, Parameter(name="--log", help="The log file; nothing is changed in it.")]
LOG = DATA / "master0" / "log.sqlite"


class Chunk:
    """Some events in a row, as they are stored; `read` gives what they say."""

    def __init__(self, reader: SqliteReader, after: int, stored: list[Stored]) -> None:
        self._reader, self._after, self.stored = reader, after, stored

    async def read(self) -> list[Recorded]:
        """The same events, decoded. Raises `LogDamaged` or `UnknownFact` at one that cannot be."""
        return await self._reader.read(self._after, limit=len(self.stored))


async def chunks(path: Path, what: str) -> AsyncIterator[Chunk]:
    """All events of the log at `path`, oldest first."""
    reader = await SqliteLog.open_reader(path)
    try:
        with _bar(what) as bar:
            task = bar.add_task("", total=(await reader.head()).position)
            after = 0
            while stored := await reader.read_stored(after, limit=CHUNK):
                yield Chunk(reader, after, stored)
                after = stored[-1].position
                bar.update(task, completed=after)
    finally:
        await reader.close()


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    columns = TextColumn(what), BarColumn(), TaskProgressColumn()
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar
