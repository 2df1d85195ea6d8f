"""A volumecap server as it runs: the core, its journal on disk, and its link to the master."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex

import msgspec
import structlog
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from vcap_es.adapters.journal_files import JournalFiles
from vcap_es.adapters.link import PATH, POLICY_VIOLATION, Link
from vcap_es.clock import boot_ns
from vcap_es.components.commands import Command, Idempotency
from vcap_es.components.holdings import MS, Abandon, Limits, Reply, SendToMaster, Write
from vcap_es.components.messages import (
    PROTOCOL,
    Broadcast,
    Directory,
    Hello,
    Keyring,
    Standing,
)
from vcap_es.components.outcomes import Consumed, Level, Outcome, Refused
from vcap_es.components.volumecap_server import VolumecapServer
from vcap_es.components.wire import AtServer, decode_at_server
from vcap_es.errors import JournalError
from vcap_es.events.facts import ApiKeyCreated

RECONNECT_MS = (20, 1000)
STOP_SECONDS = 5.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

log = structlog.get_logger()


class ServerNode:
    """One volumecap server. Use it as an asynchronous context; inside, it serves."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        master_url: str,
        secret: str,
        address: str = "",
        limits: Limits | None = None,
        synchronous: bool = True,
    ) -> None:
        """Keep the journal in `directory`, and serve from the master at `master_url` (ws://...).

        `secret` lets nodes speak to each other; `address` is the URL of this server's own client
        plane, told to the others. Raises `JournalError` where the journal cannot be used.
        """
        self.name, self.address = name, address
        self._url, self._secret = master_url, secret
        self.limits = limits or Limits()
        self._directory, self._synchronous = directory, synchronous
        self._session = token_hex(16)
        self._open_core()
        self.keys: dict[str, ApiKeyCreated] = {}
        self.ready_keys = False
        self.addresses: dict[str, str] = {}
        self.metrics = CollectorRegistry()
        self._tokens = count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._link: Link | None = None
        self._trouble = ""
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._flush_is_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._is_closed = False

    def _open_core(self) -> None:
        self._files = JournalFiles(
            self._directory, slots_max=self.limits.slots_max, synchronous=self._synchronous
        )
        journal = self._files.begin(incarnation=lambda: token_hex(16), session=self._session)
        self.core = VolumecapServer(journal, self._files.cells, self.limits)
        self.incarnation = self.core.incarnation

    # ---- clients

    def consume_now(self, cap: str, amount: int) -> Consumed | None:
        """Take `amount` units of `cap` if the slice suffices; None: `submit` it instead."""
        return self.core.consume_now(cap, amount, boot_ns())

    async def submit(self, command: Command, idempotency: Idempotency | None = None) -> Outcome:
        """Do what a client asks; waits at most about the server's `max_wait_ms` and one fsync."""
        return await self._ask(  # type: ignore[return-value]  # a command is answered so
            lambda token, now_ns: self.core.submit(token, command, idempotency, now_ns)
        )

    async def lookup(self, cap: str) -> Level | Refused:
        """What is left of `cap`, as the master knows it now."""
        answer = await self._ask(lambda token, now_ns: self.core.lookup(token, cap, now_ns))
        assert isinstance(answer, Level | Refused)
        return answer

    def group_of(self, cap: str) -> str | None:
        """The group of `cap`, as far as it is known here."""
        return self.core.holdings.group_of(cap)

    async def _ask(self, ask: Callable[[int, int], None]) -> object:
        if self._has_failed or self._is_closed:
            raise JournalError("this server has stopped")
        token = next(self._tokens)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            ask(token, boot_ns())
            self._flush_soon()
            return await future
        except AssertionError as error:
            # The core does not know any more what is true: nothing may be answered from it.
            self._fail(error)
            raise
        finally:
            self._waiting.pop(token, None)

    # ---- running

    async def __aenter__(self) -> "ServerNode":
        """Start serving; the link is made as soon as the master answers."""
        self._failed = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._keep_linked(), name=f"{self.name} link"),
            asyncio.create_task(self._survey(), name=f"{self.name} survey"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give everything unspent back, wait until the master has it, and stop."""
        await self._drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        self._disk.shutdown()
        self._is_closed = True
        self._files.close()

    async def failure(self) -> None:
        """Wait until this server cannot go on; raises why."""
        assert self._failed is not None, "the node is not running"
        await asyncio.shield(self._failed)

    async def _drain(self) -> None:
        """An orderly stop: nothing stays stranded here, unless the journal has failed."""
        if self._has_failed:
            return
        self.core.stop(boot_ns())
        self._flush_soon()
        try:
            async with asyncio.timeout(STOP_SECONDS if self._link is not None else 0):
                await self._drained.wait()
        except TimeoutError:
            if self.core.holdings.is_empty():
                return
            log.warning("stopped with units in hand", server=self.name, directory=self._directory)

    @property
    def _has_failed(self) -> bool:
        return self._failed is not None and self._failed.done()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _fail(self, error: BaseException | None) -> None:
        assert self._failed is not None
        if self._failed.done() or error is None:
            return
        log.critical("this server stops", server=self.name, error=str(error))
        self._failed.set_exception(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(JournalError(f"outcome unknown: {error}"))

    async def _survey(self) -> None:
        period_s = self.limits.report_ms / 1000 / 20
        while True:
            await asyncio.sleep(period_s)
            now_ns = boot_ns()
            self.core.tick(now_ns)
            self.core.holdings.survey(now_ns)
            if self.core.holdings.is_hungry:
                self.core.holdings.repeat(now_ns)
            self._flush()

    # ---- outputs

    def _flush_soon(self) -> None:
        """Flush once for all that happens in this turn of the event loop."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Do what the core wants done; a server that has failed does nothing more."""
        self._flush_is_due = False
        if self._has_failed:
            return
        try:
            for output in self.core.take(boot_ns()):
                self._do(output)
        except Exception as error:  # noqa: BLE001  # what else of it was done nobody knows: stop
            self._fail(error)
            return
        self._set_alarm()
        if self.core.holdings.is_stopping and self.core.holdings.is_empty():
            self._drained.set()

    def _do(self, output: SendToMaster | Write | Reply | Abandon) -> None:
        match output:
            case Reply(token, outcome):
                future = self._waiting.get(token)
                if future is not None and not future.done():
                    future.set_result(outcome)
            case Write(entries, ticket):
                self._files.write(entries)
                if ticket:
                    self._sync(ticket)
            case SendToMaster(message):
                if self._link is not None:
                    self._link.post(message)
            case Abandon(reason):
                aside = self._files.set_aside()
                self._fail(JournalError(f"{reason}; it was moved to {aside}: start again"))

    def _sync(self, ticket: int) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._disk, self._files.sync)

        def done(synced: asyncio.Future[None]) -> None:
            if synced.cancelled() or self._is_closed:
                return
            if synced.exception() is not None:
                self._fail(synced.exception())
                return
            self._let(lambda: self.core.written(ticket, boot_ns()))

        future.add_done_callback(done)

    def _set_alarm(self) -> None:
        alarm_ns = self.core.holdings.next_alarm_ns()
        if alarm_ns is None or (self._alarm is not None and self._alarm_ns == alarm_ns):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        delay_s = max(0, alarm_ns - boot_ns()) / 1e9
        self._alarm_ns = alarm_ns
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._let(lambda: self.core.tick(boot_ns()))

    def _let(self, happen: Callable[[], None]) -> None:
        """Tell the core something. An error of its own must not be a line in a log: it stops."""
        try:
            happen()
        except Exception as error:  # noqa: BLE001  # what the core knows is not sure any more
            self._fail(error)
        self._flush()

    # ---- the link

    async def _keep_linked(self) -> None:
        """Connect, and connect again whenever the link is gone; slower while none can be kept."""
        delay_ms = RECONNECT_MS[0]
        while True:
            since_ns = boot_ns()
            self._trouble = await self._link_once(told=self._trouble)
            if boot_ns() - since_ns > RECONNECT_MS[1] * MS:
                delay_ms = RECONNECT_MS[0]  # it was kept, so the next one may be too
            jitter = random.uniform(0.5, 1.0)  # noqa: S311  # spreads reconnects, hides nothing
            await asyncio.sleep(delay_ms / 1000 * jitter)
            delay_ms = min(2 * delay_ms, RECONNECT_MS[1])

    async def _link_once(self, told: str) -> str:
        """Speak with the master until the link is gone; gives why there could be none, or "".

        A trouble that was `told` already is not told again.
        """
        try:
            headers = {"Authorization": f"Bearer {self._secret}"}
            async with connect(
                f"{self._url}{PATH}",
                additional_headers=headers,
                max_size=MESSAGE_BYTES_MAX,
                compression=None,
                open_timeout=5,
            ) as connection:
                trouble = await self._speak(connection)
        except (OSError, WebSocketException, TimeoutError) as error:
            trouble = _why(error)
        if trouble and trouble != told:
            log.warning("no link", server=self.name, master=self._url, reason=trouble)
        return trouble

    async def _speak(self, connection: ClientConnection) -> str:
        """Speak until the connection ends; gives why it was refused, "" where it was not."""
        link = self._link = Link(connection.send)
        link.post(
            Hello(
                protocol=PROTOCOL,
                incarnation=self.incarnation,
                session=self._session,
                name=self.name,
                address=self.address,
            )
        )
        self.core.connected(boot_ns())
        self._flush()
        log.info("linked", server=self.name, master=self._url)
        sending = asyncio.create_task(self._send(link, connection))
        trouble = ""
        try:
            async for data in connection:
                self._received(decode_at_server(data))  # type: ignore[arg-type]  # binary frames are bytes
        except msgspec.DecodeError as error:
            trouble = f"the master speaks what is not understood: {error}"
        finally:
            sending.cancel()
            self._link = None
            self.core.disconnected()
            code, reason = connection.close_code, connection.close_reason
            log.info("link lost", server=self.name, code=code, reason=reason)
        if code == POLICY_VIOLATION:
            trouble = f"the master refuses this server: {reason}"
        return trouble

    async def _send(self, link: Link, connection: ClientConnection) -> None:
        """Send what is posted; a master too slow for it is let go, and asked again."""
        with suppress(ConnectionClosed):  # the reader learns that it is gone
            await link.run()
            if link.is_overrun:
                log.warning("master too slow", server=self.name, master=self._url)
                await connection.close()

    def _received(self, message: AtServer) -> None:
        match message:
            case Keyring():
                self.keys = {each.key: each for each in message.keys}
                self.ready_keys = True
            case Directory():
                self.addresses = message.addresses
            case Broadcast() | Standing():
                self.core.received(message, boot_ns())
                self._flush_soon()
            case _:
                pass  # about who leads: this server knows one master only

    # ---- health

    def ready(self) -> list[tuple[str, bool, str]]:
        """Whether it can serve now: each check, its verdict, and a word on it."""
        linked = self._link is not None
        missing = f"no primary master at {self._url} {self._trouble}".rstrip()
        return [
            ("link", linked, f"to {self._url}" if linked else missing),
            ("keys", self.ready_keys, f"{len(self.keys)} API keys" if self.ready_keys else "none"),
        ]


def _why(error: Exception) -> str:
    """Why no link could be made, in words."""
    if isinstance(error, InvalidStatus) and error.response.status_code == 403:
        return "the master refuses this node secret"
    return str(error) or type(error).__name__
