"""A node's side of the process that reads its log: starts it, asks it, and passes answers along.

The process is started when it is first needed, and again when it dies or hangs. No more than two
parts of an answer are ever in memory here: one on its way to the client, and the next one.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Literal

import structlog
from msgspec import DecodeError

from vcap_es.adapters.past.budgets import Budgets
from vcap_es.adapters.past.messages import (
    FRAME_BYTES_MAX,
    Alive,
    AnyQuestion,
    FromReader,
    Leave,
    More,
    NamesTold,
    ReadingPart,
    ReadingRefused,
    ReadingRequest,
    ToReader,
    Wanted,
    decode_at_node,
    framed,
)
from vcap_es.clock import boot_ns
from vcap_es.errors import InvalidInput, LogError, RequestRefused
from vcap_es.settings import ReadingSettings

HANGS_SECONDS = 30.0
"""Seconds without a sign of life, after which the process is killed: it may keep the WAL long."""

PAUSE_SECONDS = (0.1, 5.0)
"""Before it is started again: after the first death, and at most."""

END_SECONDS = 2.0
"""A process that was asked to end and has not by then is killed."""

TRIES = 2
"""How often a question is asked, at most, whose answer never began."""

Present = Callable[[Literal["names", "groups"], list[str]], Mapping[str, str]]
"""Tells what servers are called now, or which groups caps have, as far as there is any."""

log = structlog.get_logger()


class Reading:
    """One answer under way. Close it, however it ends."""

    def __init__(
        self, past: "PastReader", number: int, ask: ReadingRequest, key: str, *, counts: bool
    ) -> None:
        self._past, self.number, self.ask, self.key = past, number, ask, key
        self._counts = counts
        self._arrived: asyncio.Queue[ReadingPart | ReadingRefused | None] = asyncio.Queue(3)
        self.is_begun = self.is_over = False
        self.tries = 1

    async def part(self) -> ReadingPart:
        """The next part. Raises RequestRefused, InvalidInput or LogError where there is none."""
        arrived = await self._arrived.get()
        if arrived is None:
            raise LogError("the process that reads the past has died: ask again")
        if isinstance(arrived, ReadingRefused):
            self.is_over = True
            raise _raised(arrived)
        self.is_begun = True
        self.is_over = self.is_over or arrived.is_last
        if not arrived.is_last:
            self._past.send(More(self.number))
        return arrived

    def arrive(self, part: ReadingPart | ReadingRefused | None) -> None:
        """A part is here; None: there will be no more."""
        if part is None:
            self.is_over = True
        else:
            self._past.charge(self.key, part.cost_us)
        with suppress(asyncio.QueueFull):  # of a process that sends what nobody wanted
            self._arrived.put_nowait(part)

    def close(self) -> None:
        """Nothing more is wanted."""
        self._past.forget(self, is_over=self.is_over, counts=self._counts)


class PastReader:
    """Answers questions about the past of a node's log, in a process beside it."""

    def __init__(
        self,
        path: Path | None,
        settings: ReadingSettings,
        *,
        committed: Callable[[], int],
        present: Present,
    ) -> None:
        """Read the log at `path`, up to the position `committed` as of each question.

        Without a path the log is in memory, and its past is told nobody.
        """
        self._path, self._committed, self._present = path, committed, present
        self.budgets = Budgets(settings)
        self.indexed = 0
        """Up to here the index helps."""
        self.deaths = 0
        self._numbers = count(1)
        self._readings: dict[int, Reading] = {}
        self._leaving: dict[int, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._is_closed = False

    # ---- asking

    def begin(self) -> None:
        """Start the process, if it is not: the index is made before anybody asks."""
        if self._keeping is None and self._path is not None and not self._is_closed:
            self._keeping = asyncio.create_task(self._keep(self._path), name="past")

    def ask(self, key: str, question: AnyQuestion) -> Reading:
        """Begin a reading for an API key. Raises RequestRefused where its budget is used up."""
        self.budgets.admit(key, boot_ns())
        try:
            return self._ask(key, question, counts=True)
        except BaseException:
            self.budgets.leave(key)
            raise

    async def page(self, key: str, question: AnyQuestion) -> ReadingPart:
        """The only part of the answer to a question that a stream asks again and again.

        It counts for the budget of the key, and waits where that is used up.
        """
        while wait_ms := self.budgets.wait_ms(key, boot_ns()):  # noqa: ASYNC110  # time pays it
            await asyncio.sleep(wait_ms / 1000)
        reading = self._ask(key, question, counts=False)
        try:
            return await reading.part()
        finally:
            reading.close()

    def _ask(self, key: str, question: AnyQuestion, *, counts: bool) -> Reading:
        if self._path is None or self._is_closed:
            raise LogError("the past of this log cannot be read here")
        self.begin()
        number = next(self._numbers)
        ask = ReadingRequest(number, question, self._committed())
        reading = self._readings[number] = Reading(self, number, ask, key, counts=counts)
        self.send(ask)
        return reading

    def wal_bytes(self) -> int:
        """The length of the log's WAL, which readers may keep from beginning anew."""
        try:
            return 0 if self._path is None else Path(f"{self._path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def share(self, key: str) -> Iterator[None]:
        """Read something of the past here, as one of the readings that a key may have."""
        self.budgets.admit(key, boot_ns())
        try:
            yield
        finally:
            self.budgets.leave(key)

    def charge(self, key: str, cost_us: int) -> None:
        """A reading for `key` has cost so much CPU time more."""
        self.budgets.charge(key, cost_us, boot_ns())

    def forget(self, reading: Reading, *, is_over: bool, counts: bool) -> None:
        """A reading is closed."""
        if self._readings.pop(reading.number, None) is None:
            return
        if counts:
            self.budgets.leave(reading.key)
        if not is_over and self._process is not None:
            self._leaving[reading.number] = reading.key
            self.send(Leave(reading.number))

    def send(self, message: ToReader) -> None:
        """Say something to the process, if there is one; what it owes is asked again later."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(framed(message))

    async def close(self) -> None:
        """End the process, and every reading."""
        self._is_closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._break_off(is_final=True)

    # ---- the process

    async def _keep(self, path: Path) -> None:
        """Have the process running, for ever."""
        pause_s = PAUSE_SECONDS[0]
        while True:
            began_ns = boot_ns()
            try:
                async with self._running(path) as process:
                    await self._listen(process)
            except OSError as error:
                log.error("the past cannot be read", error=str(error))
            self.deaths += 1
            self._break_off()
            if boot_ns() - began_ns > HANGS_SECONDS * 1e9:
                pause_s = PAUSE_SECONDS[0]
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_SECONDS[1])

    @asynccontextmanager
    async def _running(self, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vcap_es.adapters.past", str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        for reading in self._readings.values():
            if not reading.is_over:
                self.send(reading.ask)
        try:
            yield process
        finally:
            self._process = None
            self._leaving.clear()
            await _ended(process)
            log.info("the process that reads the past has ended", exit_code=process.returncode)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Hear what the process says until it dies; one that hangs is let go."""
        assert process.stdout is not None, "it is a pipe"
        try:
            while True:
                async with asyncio.timeout(HANGS_SECONDS):
                    size = int.from_bytes(await process.stdout.readexactly(4), "big")
                    if size > FRAME_BYTES_MAX:
                        raise DecodeError(f"a message of {size} bytes")
                    content = await process.stdout.readexactly(size)
                self._hear(decode_at_node(content))
        except asyncio.IncompleteReadError:
            log.warning("the process that reads the past has died")
        except TimeoutError:
            log.error("the process that reads the past hangs", seconds=HANGS_SECONDS)
        except DecodeError as error:
            log.error("the process that reads the past says what cannot be", error=str(error))

    def _hear(self, message: FromReader) -> None:
        match message:
            case Alive(indexed):
                self.indexed = indexed
            case Wanted(number, what, of):
                values: Mapping[str, str] = {}
                with suppress(LogError):  # the node begins anew, and knows nothing now
                    values = self._present(what, of)
                self.send(NamesTold(number, dict(values)))
            case ReadingPart(number, cost_us=cost_us) | ReadingRefused(number, cost_us=cost_us):
                reading = self._readings.get(number)
                if reading is not None:
                    reading.arrive(message)
                elif number in self._leaving:
                    self.charge(self._leaving[number], cost_us)
                    if isinstance(message, ReadingRefused) or message.is_last:
                        del self._leaving[number]

    def _break_off(self, *, is_final: bool = False) -> None:
        """End readings that cannot go on.

        One that is not begun is asked again, once: it may be what the process died of.
        """
        for reading in self._readings.values():
            if is_final or reading.is_begun or reading.tries == TRIES:
                reading.arrive(None)
            reading.tries += 1


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End the process: nothing of what it has is lost with it."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _raised(refused: ReadingRefused) -> Exception:
    if refused.code == "invalid":
        return InvalidInput(refused.detail)
    if refused.code == "unavailable":
        return LogError(refused.detail)
    return RequestRefused(refused.code, refused.detail, cap=refused.cap)
