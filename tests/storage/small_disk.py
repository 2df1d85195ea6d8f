"""A log on a disk that is really full, in a process of its own.

`python -m tests.storage.small_disk FOLDER`: FOLDER is a small file system with nothing in it. The
room that is left is another one each time, so that it ends anywhere: in the WAL, in the main file,
in what SQLite shares between processes, and before there is a file.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.support.drafts import drafts
from vcap_es.errors import DiskFull, LogError
from vcap_es.events.chain import verify
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.logs import sqlite_writer
from vcap_es.events.logs.sqlite import SqliteLog

_STEP_BYTES = 4096
_ROOMS = 60

Tally = Counter[str]


class SmallDisk:
    """The file system, and a file that takes its room."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log" / "events.db"
        self._ballast = folder / "ballast"
        self._folder = folder

    def fill(self, room_bytes: int) -> None:
        """Leave so much room, if there is that much."""
        free = os.statvfs(self._folder)
        if (size := free.f_bavail * free.f_frsize - room_bytes) > 0:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def empty(self) -> None:
        """Remove everything."""
        for file in (self._ballast, *self.log.parent.glob("*")):
            file.unlink(missing_ok=True)


async def runs_full(disk: SmallDisk, room_bytes: int, size: int) -> Tally:
    """Appends of `size` events until there is no room, cuts, a new start; then there is room."""
    tally = Tally()
    log = await SqliteLog.open(disk.log)
    recorded = await log.append(drafts(3), epoch=1)
    disk.fill(room_bytes)
    refused = drafts(size)
    try:
        while True:
            recorded += await log.append(refused, epoch=1)
            refused = drafts(size)
    except DiskFull:
        tally["refused"] += 1
    await _holds(log, recorded)
    for _ in range(3):
        if await _did(lambda: log.truncate(len(recorded) - 1)):
            recorded.pop()
            tally["cut"] += 1
        await _holds(log, recorded)
    try:
        await log.close()
    except LogError:  # the WAL stays beside the main file; nothing is lost
        tally["closed in disorder"] += 1
    tally["did not open"] += not await _did(lambda: _opens(disk, recorded))
    disk.make_room()
    await _opens(disk, recorded, refused)
    return tally


async def begins_full(disk: SmallDisk, room_bytes: int, _: int) -> Tally:
    """There is no room, or hardly any, for a log that is not there yet; and then there is."""
    disk.fill(room_bytes)
    opened = await _did(lambda: _opens(disk, []))
    disk.make_room()
    await _opens(disk, [], drafts(2))
    return Tally({"did not open": not opened})


async def _opens(disk: SmallDisk, recorded: list[Recorded], more: Sequence[Draft] = ()) -> None:
    """The log can be opened and holds what it should, and `more` is recorded."""
    log = await SqliteLog.open(disk.log)
    try:
        await _holds(log, recorded)
        if more:
            await _holds(log, recorded + await log.append(more, epoch=1))
    finally:
        await log.close()


async def _holds(log: SqliteLog, recorded: list[Recorded]) -> None:
    assert await log.read(limit=10_000) == recorded
    assert verify(await log.read_stored(limit=10_000)) == (await log.head()).link


async def _did(act: Callable[[], Awaitable[object]]) -> bool:
    """Whether there was room for it; nothing else may be wrong."""
    try:
        await act()
    except DiskFull:
        return False
    return True


def main(folder: Path) -> None:
    """Every room, and print what came of it."""
    sqlite_writer._WAL_BYTES = 100_000  # so that it is brought into the main file now and then
    total, disk = Tally(), SmallDisk(folder)
    for room_bytes in range(0, _ROOMS * _STEP_BYTES, _STEP_BYTES):
        for kind, size in ((runs_full, 1), (runs_full, 20), (begins_full, 0)):
            total += asyncio.run(kind(disk, room_bytes, size)) + Tally(cases=1)
            disk.empty()
    print(json.dumps(total))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
