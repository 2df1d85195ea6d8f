"""A master as it runs: the core, its log, and the links of its volumecap servers."""

import asyncio
import gc
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Histogram
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcap_es.adapters.link import POLICY_VIOLATION, Link
from vcap_es.adapters.snapshot_files import load_snapshot, save_snapshot
from vcap_es.clock import boot_ns, now_us
from vcap_es.components.decisions.access import AccessCommand
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import MetaCommand
from vcap_es.components.local_handler import Server
from vcap_es.components.messages import decode_from_server
from vcap_es.components.primary_master import (
    Answer,
    Close,
    Done,
    Output,
    PrimaryMaster,
    Round,
    Send,
)
from vcap_es.errors import LogError
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.log import BATCH_EVENTS_MAX, EventLog, Head
from vcap_es.projections.runner import recover
from vcap_es.projections.snapshots import take
from vcap_es.projections.states.data_centre import DataCentre

T = TypeVar("T")
DRIFT_US = 5_000_000
TICK_SECONDS = (0.001, 0.1)
"""The shortest pause between two ticks, so that others have a turn, and the longest."""

log = structlog.get_logger()


class MasterNode:
    """The primary master of one data centre. Use it as an asynchronous context."""

    def __init__(
        self, events: EventLog, *, dc: str, name: str, secret: str, snapshot: Path | None = None
    ) -> None:
        """Lead the log `events` of data centre `dc`; `secret` lets servers link.

        `snapshot` names a file that spares a replay; it may be missing, and may be deleted.
        """
        self._snapshot = snapshot
        self.log = events
        self.dc, self.name, self.role = dc, name, "primary"
        self.metrics = CollectorRegistry()
        self._append_seconds = Histogram(
            "vcap_log_append_duration_seconds",
            "How long a batch took to be durable.",
            registry=self.metrics,
        )
        self._secret = secret
        self._tokens, self._connections = count(1), count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._links: dict[int, tuple[Link, WebSocket]] = {}
        self._wake = asyncio.Event()
        self._ahead_us = now_us() - boot_ns() // 1000
        self._tasks: list[asyncio.Task[None]] = []
        self._closings: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._core: PrimaryMaster | None = None

    @property
    def core(self) -> PrimaryMaster:
        """The running core."""
        assert self._core is not None, "the node is not running"
        return self._core

    @property
    def state(self) -> DataCentre:
        """The live state, decided facts included; `view` waits until what it shows is durable."""
        return self.core.state

    @property
    def durable(self) -> int:
        """The position of the last event that is known here to be durable."""
        return self._head.position

    @property
    def servers(self) -> Mapping[str, Server]:
        """The connected volumecap servers by incarnation."""
        return self.core.locals.servers

    def now(self) -> int:
        """Microseconds UTC: the wall clock, or while it has jumped, what it would show if not.

        The stamp of facts never runs backwards, so a jump forth that it followed would last: every
        interval up to there would end at once, also after the clock was set right.
        """
        wall, steady = now_us(), boot_ns() // 1000 + self._ahead_us
        return wall if abs(wall - steady) <= DRIFT_US else steady

    async def __aenter__(self) -> "MasterNode":
        """Replay the log, start an epoch, and lead."""
        snapshot = None if self._snapshot is None else load_snapshot(self._snapshot)
        recovered = await recover(self.log, snapshot)
        fold, head = recovered.fold, recovered.head
        epoch = max(fold.state.epoch, head.epoch) + 1
        log.info(
            "replayed",
            events=head.position,
            after=recovered.replayed_after,
            caps=len(fold.state.metas),
            epoch=epoch,
            snapshot_discarded=recovered.discarded,
        )
        last = await self.log.read(head.position - 1, limit=1) if head.position else []
        stamp = max([self.now(), *(each.recorded_at for each in last)])
        gc.collect()
        gc.freeze()  # what was just replayed stays: no collection needs to look at it again
        self._core = PrimaryMaster(fold, dc=self.dc, name=self.name, epoch=epoch, now=stamp)
        self._epoch, self._head = epoch, head
        self._failed = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._commit(), name="commit"),
            asyncio.create_task(self._tick(), name="tick"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        await self.view(lambda _: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop leading; what waits for an answer gets none."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()
        self._save_snapshot()

    def _save_snapshot(self) -> None:
        """Spare the next start a replay, if all is well and all that was decided is on the log."""
        assert self._failed is not None, "the node is not running"
        is_settled = not self._is_writing and not self.core.has_undurable_facts
        if self._snapshot is not None and is_settled and not self._failed.done():
            save_snapshot(self._snapshot, take(self.state, self._head))

    _epoch = 0
    _head = Head()
    _is_writing = False
    _clock_is_sound = True

    async def failure(self) -> None:
        """Wait until this master cannot go on; raises why."""
        assert self._failed is not None, "the node is not running"
        await asyncio.shield(self._failed)

    # ---- operators

    async def submit(
        self, command: MetaCommand | AccessCommand, *, actor: str, correlation: str
    ) -> Done | Denied:
        """Do what an operator asks; returns when it is durable."""
        answer = await self._ask(
            lambda token: self.core.command(token, command, actor, correlation, self.now())
        )
        assert isinstance(answer, Done | Denied)
        return answer

    async def view(self, read: Callable[[DataCentre], T]) -> T:
        """What `read` gives of the state now; returns when all that it depends on is durable."""
        return await self._ask(lambda token: self.core.read(token, read))  # type: ignore[return-value]  # the core hands back what `read` gave

    async def _ask(self, ask: Callable[[int], None]) -> object:
        assert self._failed is not None, "the node is not running"
        if self._failed.done():
            raise LogError("this master has stopped: its log failed")
        token = next(self._tokens)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            ask(token)
            self._wake.set()
            return await future
        finally:
            self._waiting.pop(token, None)

    # ---- the two loops

    async def _commit(self) -> None:
        """Round after round: what is decided while one is written goes into the next."""
        while True:
            started = self.core.begin_round(self.now())
            if started is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._is_writing = True
            recorded = await self._append(started.drafts)
            self._is_writing = False
            self._release(started, recorded)

    async def _append(self, drafts: list[Draft]) -> list[Recorded]:
        """Append a round, in parts where one batch is too small: any prefix of it is true."""
        recorded: list[Recorded] = []
        for at in range(0, max(1, len(drafts)), BATCH_EVENTS_MAX):
            part = drafts[at : at + BATCH_EVENTS_MAX]
            with self._append_seconds.time():
                recorded += await self.log.append(part, self._epoch)
        return recorded

    def _release(self, started: Round, recorded: list[Recorded]) -> None:
        if recorded:
            last = recorded[-1]
            self._head = Head(position=last.position, epoch=last.epoch, link=last.link)
        for output in self.core.round_committed(started, self._head.position):
            self._do(output)

    def _do(self, output: Output) -> None:
        match output:
            case Send(connection, message):
                if connection in self._links:
                    self._links[connection][0].post(message)
            case Answer(token, outcome):
                future = self._waiting.get(token)
                if future is not None and not future.done():
                    future.set_result(outcome)
            case Close(connection, reason):
                log.warning("server refused", connection=connection, reason=reason)
                if connection in self._links:
                    link, socket = self._links[connection]
                    link.finish()
                    closing = asyncio.create_task(_refuse(socket, reason))
                    self._closings.add(closing)
                    closing.add_done_callback(self._closings.discard)

    async def _tick(self) -> None:
        """Tell the core the time when it wants to know."""
        while True:
            self._judge_clock(abs(now_us() - boot_ns() // 1000 - self._ahead_us))
            if self._clock_is_sound:
                self.core.tick(self.now())
                self._wake.set()
            wanted = self.core.next_tick(self.now())
            delay_s = TICK_SECONDS[1] if wanted is None else (wanted - self.now()) / 1e6
            await asyncio.sleep(min(max(delay_s, TICK_SECONDS[0]), TICK_SECONDS[1]))

    def _judge_clock(self, departed_us: int) -> None:
        """A wall clock that jumps must not open or end intervals; people must look at it."""
        is_sound = departed_us <= DRIFT_US
        if is_sound != self._clock_is_sound:
            log.error(
                "wall clock jumped" if not is_sound else "wall clock is sound again",
                seconds=departed_us // 1_000_000,
            )
        self._clock_is_sound = is_sound

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.critical("this master stops", error=str(error), task=task.get_name())
        assert self._failed is not None
        if not self._failed.done():
            self._failed.set_exception(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LogError(f"outcome unknown: {error}"))

    # ---- links

    async def serve_link(self, socket: WebSocket) -> None:
        """Speak with one volumecap server until its connection ends."""
        given = socket.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._secret}".encode()):
            log.warning("server refused", reason="wrong node secret", address=socket.client)
            await socket.close(POLICY_VIOLATION, "wrong node secret")
            return
        await socket.accept()
        connection = next(self._connections)
        link = Link(socket.send_bytes)
        self._links[connection] = (link, socket)
        tasks = (
            asyncio.create_task(self._receive(connection, socket)),
            asyncio.create_task(_send(link)),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if link.is_overrun:
                # It may come again. Closing politely would wait for it, like everything sent.
                log.warning("server too slow", address=socket.client)
            else:
                await tasks[0]
        finally:
            del self._links[connection]
            for task in tasks:
                task.cancel()
            self.core.disconnected(connection)
            self._wake.set()

    async def _receive(self, connection: int, socket: WebSocket) -> None:
        """Hear what a server says, until it is gone or is not understood."""
        try:
            while True:
                message = decode_from_server(await socket.receive_bytes())
                self.core.received(connection, message, self.now())
                self._wake.set()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the other side is gone: that is what the end of a link looks like
        except msgspec.DecodeError as error:
            log.warning("a server speaks what is not understood", error=str(error))
            await _refuse(socket, f"this is not understood: {error}")

    # ---- health

    def ready(self) -> list[tuple[str, bool, str]]:
        """Whether it can serve now: each check, its verdict, and a word on it."""
        assert self._failed is not None, "the node is not running"
        failed = self._failed.done()
        return [
            ("log", not failed, "failed" if failed else f"durable up to {self._head.position}"),
            ("primacy", True, f"{self.name} leads epoch {self._epoch}"),
            (
                "clock",
                self._clock_is_sound,
                "sound" if self._clock_is_sound else "the wall clock jumped: set it, then restart",
            ),
            ("calendar", True, _told(self.core.intervals.troubled)),
        ]


def _told(troubled: Mapping[str, str]) -> str:
    """The first cap that stands still, and how many do; all others are served."""
    for cap, why in troubled.items():
        return f"{len(troubled)} caps stand still, such as {cap}: {why}"
    return "every period can be computed"


async def _refuse(socket: WebSocket, reason: str) -> None:
    """Close a connection, telling the other side why, unless it is gone already."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(POLICY_VIOLATION, reason[:120])


async def _send(link: Link) -> None:
    """Send what is posted, for as long as there is somebody; who receives learns of the end."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await link.run()
