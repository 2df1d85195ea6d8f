"""The log in one SQLite file, with group commit: the embedded log.

While one transaction waits for its fsync, further batches gather; all of them go into the next
one. So one writer pays a whole fsync for each batch and 256 writers pay a 256th. Event ids that
grow with time (UUID version 7) keep the index of ids compact and quick.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from vcap_es.errors import DiskFull, LogClosed, LogError, OutcomeUnknown
from vcap_es.events.chain import Stored
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.log import BATCH_EVENTS_MAX, Head, Truncated, check_batch, check_epoch
from vcap_es.events.logs.sqlite_file import Synchronous
from vcap_es.events.logs.sqlite_reader import SqliteReader
from vcap_es.events.logs.sqlite_writer import AppendJob, CopyJob, Outcome, SqliteWriter

WAITING_APPENDS_MAX = 8192
"""Appends that wait, at most; whoever comes then waits to join them, first in, first out."""

_Waiting = tuple[AppendJob | CopyJob, "asyncio.Future[list[Recorded]]"]


class SqliteLog:
    """An `EventLog` in the SQLite file at a path. Open it with `SqliteLog.open`.

    A cancelled `append` is not undone: the batch may be recorded all the same.
    """

    def __init__(
        self, path: Path, writer: SqliteWriter, thread: ThreadPoolExecutor, reader: SqliteReader
    ) -> None:
        self.path = path
        self._writer = writer
        self._thread = thread
        self._reader = reader
        self._head = writer.head
        self._waiting: deque[_Waiting] = deque()
        self._room = asyncio.Semaphore(WAITING_APPENDS_MAX)
        self._busy = False
        self._moved = asyncio.Event()
        self._broken: LogError | None = None

    @classmethod
    async def open(cls, path: Path | str, *, synchronous: Synchronous = "FULL") -> Self:
        """Open the log at `path` to write it, or make it, with its directory, if there is none.

        Raises `LogLocked` while another process writes it, `LogDamaged` if it is not a log.
        """
        path = Path(path)
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        try:
            writer = await loop.run_in_executor(thread, SqliteWriter, path, synchronous)
            try:
                reader = await SqliteReader.open(path)
            except BaseException:
                await loop.run_in_executor(thread, writer.close)
                raise
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, writer, thread, reader)

    @staticmethod
    async def open_reader(path: Path | str) -> SqliteReader:
        """Open the log at `path` to read it only, also while another process writes it."""
        return await SqliteReader.open(path)

    async def append(self, batch: Sequence[Draft], epoch: int) -> list[Recorded]:
        """See `EventLog`."""
        self._check_usable()
        check_batch(batch)
        check_epoch(epoch, self._head.epoch)
        return await self._wait_for(
            AppendJob(batch, [encode(draft.fact) for draft in batch], epoch)
        )

    async def copy(self, entries: Sequence[Stored], committed: int) -> None:
        """See `EventLog`."""
        self._check_usable()
        await self._wait_for(CopyJob(entries, committed))

    async def truncate(self, after: int) -> Truncated:
        """See `EventLog`. Nothing is appended at the same time: its place would be unknown."""
        self._check_usable()
        assert not self._busy, "a log is truncated by who appends to it, and in between"
        self._busy = True
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._writer.truncate, after)
        except OutcomeUnknown as error:
            self._broken = self._broken or error
            raise
        finally:
            self._head = self._writer.head
            self._go_on()

    async def committed(self) -> int:
        """See `EventLog`."""
        self._check_usable()
        return self._writer.committed

    async def history(self) -> list[tuple[int, int]]:
        """See `EventLog`."""
        self._check_usable()
        return sorted(self._writer.history.items())

    async def read_diverged(self, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`."""
        return await self._reader.read_diverged(limit=limit)

    async def _wait_for(self, append: AppendJob | CopyJob) -> list[Recorded]:
        """Let `append` be part of the next transaction."""
        await self._enter()
        answer: asyncio.Future[list[Recorded]] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, answer))
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._commit)
        return await answer

    async def read(
        self, after: int = 0, *, limit: int = 1000, cap: str | None = None, kind: str | None = None
    ) -> list[Recorded]:
        """See `EventLog`."""
        return await self._reader.read(after, limit=limit, cap=cap, kind=kind)

    async def read_stored(self, after: int = 0, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`."""
        return await self._reader.read_stored(after, limit=limit)

    async def head(self) -> Head:
        """See `EventLog`."""
        self._check_usable()
        return self._head

    async def wait(self, after: int) -> None:
        """See `EventLog`."""
        self._check_usable()
        while self._head.position <= after:
            await self._moved.wait()
            self._check_usable()

    async def close(self) -> None:
        """See `EventLog`. Batches that wait are recorded first."""
        if isinstance(self._broken, LogClosed):
            return
        self._broken = LogClosed("this log was closed; open it again to use it")
        while self._busy:
            await self._moved.wait()
        try:
            await self._reader.close()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._writer.close)
        finally:
            self._thread.shutdown(wait=False)
            self._wake()

    async def _enter(self) -> None:
        await self._room.acquire()
        try:
            self._check_usable()  # it may have broken while this append waited for room
        except LogError:
            self._room.release()
            raise

    def _commit(self) -> None:
        """Send off everything that waits, up to a bound, as one transaction."""
        group: list[_Waiting] = []
        events = 0
        while self._waiting and events < BATCH_EVENTS_MAX:
            group.append(self._waiting.popleft())
            events += len(group[-1][0].batch)
        appends = [append for append, _ in group]
        committed = asyncio.get_running_loop().run_in_executor(
            self._thread, self._writer.commit, appends
        )
        committed.add_done_callback(lambda done: self._settle(group, done))

    def _settle(self, group: list[_Waiting], committed: "asyncio.Future[list[Outcome]]") -> None:
        """Tell everyone in `group` at once, and go on with those who came meanwhile."""
        if (error := committed.exception()) is not None:
            if isinstance(error, DiskFull):
                for _, answer in group:
                    self._answer(answer, DiskFull(str(error)))
            else:
                self._break(group, error)
        else:
            self._head = self._writer.head
            for (_, answer), outcome in zip(group, committed.result(), strict=True):
                self._answer(answer, outcome)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            # Those just answered run first, so what they append next joins the same transaction.
            asyncio.get_running_loop().call_soon(self._commit)
        else:
            self._busy = False
        self._wake()

    def _answer(
        self, answer: "asyncio.Future[list[Recorded]]", outcome: Outcome | LogError
    ) -> None:
        self._room.release()
        if answer.done():  # whoever asked was cancelled
            return
        if isinstance(outcome, list):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    def _break(self, group: list[_Waiting], error: BaseException) -> None:
        """Nothing is known any more: everyone hears it, and this object is done for."""
        if self._broken is None:
            self._broken = OutcomeUnknown(str(error))
        while self._waiting:
            group.append(self._waiting.popleft())
        for _, answer in group:
            self._answer(answer, OutcomeUnknown(str(error)))

    def _wake(self) -> None:
        # A pulse: everyone who waits now is woken, and looks for itself.
        self._moved.set()
        self._moved.clear()

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise type(self._broken)(str(self._broken))
