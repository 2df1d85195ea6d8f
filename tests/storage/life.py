"""The life of a log on a disk that is watched, beside a twin that shows what it should hold."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Self
from unittest.mock import patch

from tests.storage.deeds import Deed, Deeds
from tests.storage.disk import Disk, Platters
from tests.storage.states import State, put, state_of
from tests.storage.vfs import on_disk
from vcap_es.errors import DiskFull
from vcap_es.events.logs import sqlite_writer
from vcap_es.events.logs.sqlite_file import Synchronous
from vcap_es.events.logs.sqlite_writer import SqliteWriter


def _nothing(_: SqliteWriter) -> None:
    """The deed before the first one."""


class Life:
    """One process after another writes one log on one disk.

    `states[n]` is what the log holds after the transaction number n, and `disk` knows for each
    operation which transactions were acknowledged and which one had begun. `opened` is how many
    operations were done when the first process saw the log, `was_full` whether the last step had
    to be repeated.
    """

    def __init__(self, random: Random, folder: Path, seen: dict[str, bytes], disk: Disk) -> None:
        """Go on with the files that a process sees; the disk may hold others."""
        self.random = random
        self.disk = disk
        self.states: list[State] = []
        self.opened = 0
        self.was_full = False
        self._synchronous: Synchronous = "FULL"
        self._deeds = Deeds(random)
        self._deed: Deed = _nothing
        for part in ("subject", "twin"):
            (folder / part).mkdir(exist_ok=True)
        self.path = put(folder / "subject", seen)
        self._twin = SqliteWriter(put(folder / "twin", seen), "OFF")
        self.states.append(state_of(self._twin))
        self._writer: SqliteWriter | None = None

    @classmethod
    @contextmanager
    def begun(
        cls,
        random: Random,
        folder: Path,
        seen: dict[str, bytes] | None = None,
        platters: Platters | None = None,
        *,
        wal_bytes: int = 70_000,
        synchronous: Synchronous = "FULL",
    ) -> Iterator[Self]:
        """A life within; at its end the processes are killed, if they have not ended."""
        life = cls(random, folder, seen or {}, Disk(platters or {}))
        life._synchronous = synchronous
        with ExitStack() as stack:
            stack.enter_context(patch.object(sqlite_writer, "_WAL_BYTES", wal_bytes))
            stack.enter_context(on_disk(life.disk, life.path))
            try:
                yield life
            finally:
                life.kill()
                life.leave()

    def open(self) -> None:
        """A process begins; it sees what the twin holds."""
        self._writer = SqliteWriter(self.path, self._synchronous)
        seen = state_of(self._writer)
        assert seen == self.states[-1], "what a new process sees is not what it should"
        self.disk.begun = self.disk.done = len(self.states) - 1
        self.opened = self.opened or len(self.disk.trace)

    @property
    def is_open(self) -> bool:
        """Whether a process has the log."""
        return self._writer is not None

    def step(self, *, restarts: bool = True) -> None:
        """One transaction; now and then the process ends in good order and another begins."""
        if restarts and self.disk.room is None and self.random.random() < 0.07:
            self.close()
            self.open()
        self._deed = self._deeds.choose(self._twin)
        self._deed(self._twin)
        self.states.append(state_of(self._twin))
        self.disk.begun += 1
        self.was_full = False
        while not self._is_done():
            self.was_full = True
            self.disk.room = None if self.random.random() < 0.7 else self.random.randrange(9)
        self.disk.done += 1

    def checkpoint(self) -> None:
        """Bring into the main file what no reader holds up."""
        assert self._writer is not None
        self._writer._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def repeat(self) -> None:
        """The last transaction once more."""
        assert self._writer is not None
        self._deed(self._writer)

    def _is_done(self) -> bool:
        assert self._writer is not None
        try:
            self._deed(self._writer)
        except DiskFull:
            assert state_of(self._writer) == self.states[-2], "something of the batch is there"
            return False
        return True

    def seen(self) -> dict[str, bytes]:
        """The files as a process sees them."""
        files = {"": self.path, "-wal": self.path.with_name("events.db-wal")}
        return {ending: file.read_bytes() for ending, file in files.items() if file.exists()}

    def close(self) -> None:
        """The process ends in good order."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def leave(self) -> None:
        """Let go of the twin: nothing more is to come."""
        self._twin.close()

    def kill(self) -> None:
        """The process ends at once: it does nothing any more to its files."""
        was_off, self.disk.is_off = self.disk.is_off, True
        if self._writer is not None:
            self._writer._dead = True  # no last checkpoint, and no complaint that there is none
            self.close()
        self.disk.is_off = was_off
