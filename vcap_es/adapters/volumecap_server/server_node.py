"""A volumecap server as it runs: the core, its journal on disk, and its links to the masters."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex

import structlog
from prometheus_client import CollectorRegistry

from vcap_es.adapters.links.discovery import is_node
from vcap_es.adapters.storage.ballots import Ballots
from vcap_es.adapters.storage.cluster_file import belonging_in
from vcap_es.adapters.storage.journal_files import JournalFiles
from vcap_es.adapters.volumecap_server.known_nodes import KnownNodes
from vcap_es.adapters.volumecap_server.master_links import MasterLinks
from vcap_es.adapters.volumecap_server.metrics import ServerMetrics
from vcap_es.adapters.volumecap_server.share_metrics import ShareMetrics
from vcap_es.clock import boot_ns, now_us
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.messages.client import Command, Idempotency
from vcap_es.components.messages.outcomes import Consumed, Level, Outcome, Refused
from vcap_es.components.messages.server import (
    PROTOCOL,
    Broadcast,
    FromMaster,
    Grants,
    Hello,
    Keyring,
    NodeAddress,
    NodeDirectory,
    Readmitted,
)
from vcap_es.components.volumecap_server.keys.records import KeyEntry
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import (
    Abandon,
    DropKeys,
    Reply,
    RewriteKeys,
    SendToMaster,
    ServerOutput,
    TurnKeys,
    Write,
    WriteKeys,
)
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.errors import JournalError, ServerMoves
from vcap_es.events.facts import ApiKeyCreated

STOP_SECONDS = 5.0

log = structlog.get_logger()


class ServerNode:
    """One volumecap server. Use it as an asynchronous context; inside, it serves."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        masters: Sequence[str],
        secret: str,
        join: Sequence[str] = (),
        address: str = "",
        limits: Limits | None = None,
        synchronous: bool = True,
        ballots: Ballots | None = None,
        timings: Timings | None = None,
    ) -> None:
        """Keep the journal in `directory`, and serve from that of the `masters` which leads.

        While none of them is there, it asks the nodes at the addresses `join`, and all others that
        it knows of, where the masters are. `secret` lets nodes speak to each other; `address` is
        the URL of this server's own client plane, told to the others. With `ballots` it is a
        witness. Raises `JournalError` where the journal cannot be used.
        """
        self.name, self.address, self._secret = name, address, secret
        self.limits = limits or Limits()
        self._directory, self._synchronous = directory, synchronous
        self._session = token_hex(16)
        self._open_core()
        self._belonging = belonging_in(directory)
        self._known_nodes = KnownNodes(
            directory, secret, masters=masters, join=join, belonging=self._belonging
        )
        self.keys: dict[str, ApiKeyCreated] = {}
        self.ready_keys = False
        self.metrics = CollectorRegistry()
        self._tokens = count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._ballots = ballots
        self.links = MasterLinks(
            secret,
            name=name,
            roster=self._known_nodes.roster,
            hello=self._hello,
            received=self._received,
            linked=self._linked,
            unlinked=self._unlinked,
            failed=self._fail,
            belonging=self._belonging,
            readmitted=self._move,
            ballots=ballots,
            timings=timings or Timings(),
        )
        self.metrics.register(ServerMetrics(self.links, ballots))
        self.metrics.register(ShareMetrics(self.core))
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._rewriter = ThreadPoolExecutor(1, thread_name_prefix="key files")
        self._flush_is_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._is_closed = False

    def _open_core(self) -> None:
        self._files = JournalFiles(
            self._directory,
            slots_max=self.limits.slots_max,
            synchronous=self._synchronous,
            limits=self.limits,
        )
        journal = self._files.begin(incarnation=lambda: token_hex(16), session=self._session)
        files = self._files
        self.core = VolumecapServer(journal, files.cells, self.limits, has_room=files.has_room)
        self.incarnation, self._start = self.core.incarnation, journal.start

    # ---- clients

    def consume_now(self, cap: str, amount: int) -> Consumed | None:
        """Take `amount` units of `cap` if the slice suffices; None: `submit` it instead."""
        return self.core.consume_now(cap, amount, boot_ns())

    async def submit(
        self, command: Command, idempotency: Idempotency | None = None, owner: str = ""
    ) -> Outcome:
        """Do what a client asks; waits at most about the server's `max_wait_ms` and one fsync.

        `owner` is the API key in whose share it is what the call makes grow here.
        """
        return await self._ask(  # type: ignore[return-value]  # a command is answered so
            lambda token, now_ns: self.core.submit(token, command, idempotency, now_ns, owner)
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
            asyncio.create_task(self.links.run(), name=f"{self.name} link"),
            asyncio.create_task(self._join(), name=f"{self.name} joining"),
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
        self._rewriter.shutdown()
        self._is_closed = True
        self._files.close()

    async def _join(self) -> None:
        await self._known_nodes.join(lambda: bool(self.links.masters))

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
            async with asyncio.timeout(STOP_SECONDS if self.links.is_linked else 0):
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

    def _do(self, output: ServerOutput) -> None:
        match output:
            case Reply(token, outcome):
                future = self._waiting.get(token)
                if future is not None and not future.done():
                    future.set_result(outcome)
            case Write(entries, ticket):
                self._files.write(entries)
                if ticket:
                    self._sync(ticket)
            case WriteKeys(keys):
                self._files.write_keys(keys)
            case TurnKeys(number, begun):
                self._files.turn_keys(number, begun)
            case DropKeys(number):
                self._files.drop_keys(number)
            case RewriteKeys(number, pieces):
                self._rewrite_keys(number, pieces)
            case SendToMaster(message):
                self.links.post(message)
            case Abandon(reason):
                aside = self._files.set_aside()
                self._fail(JournalError(f"{reason}; it was moved to {aside}: start again"))

    def _sync(self, ticket: int) -> None:
        self._by_the_side(
            self._disk, self._files.sync, lambda: self.core.written(ticket, boot_ns())
        )

    def _rewrite_keys(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        rewrite = partial(self._files.rewrite_keys, number, pieces)
        self._by_the_side(self._rewriter, rewrite, lambda: self.core.keys.rewritten(number))

    def _by_the_side(
        self, thread: ThreadPoolExecutor, work: Callable[[], None], then: Callable[[], None]
    ) -> None:
        """Let another thread work on the disk, then the core know; a failure ends the server."""
        future = asyncio.get_running_loop().run_in_executor(thread, work)

        def done(worked: asyncio.Future[None]) -> None:
            if worked.cancelled() or self._is_closed:
                return
            if worked.exception() is not None:
                self._fail(worked.exception())
                return
            self._let(then)

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

    # ---- the links

    def is_node(self, authorization: str) -> bool:
        """Whether this header is another node's, who knows the secret of the nodes."""
        return is_node(authorization, self._secret)

    @property
    def cluster(self) -> str:
        """The cluster that this server belongs to, "" while it is new."""
        return self._belonging.cluster

    def known_masters(self) -> list[str]:
        """The addresses at which masters may be."""
        return self._known_nodes.roster.known

    def nodes(self) -> list[NodeAddress]:
        """The nodes of the data centre, as far as is known here."""
        return self._known_nodes.nodes(self.links.masters)

    @property
    def addresses(self) -> dict[str, str]:
        """The client planes of the other servers: incarnation -> URL."""
        return self._known_nodes.addresses

    def _hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            incarnation=self.incarnation,
            session=self._session,
            name=self.name,
            address=self.address,
            voter=self._ballots.ballot.node if self._ballots is not None else "",
            stamp=self._start,
            cluster=self.cluster,
            utc=now_us(),
            committed=self.links.committed,
        )

    def _linked(self) -> None:
        self._let(lambda: self.core.connected(boot_ns()))

    def _unlinked(self) -> None:
        self._let(self.core.disconnected)

    def _received(self, message: FromMaster) -> None:
        match message:
            case Keyring():
                self.keys = {each.key: each for each in message.keys}
                self.ready_keys = True
            case NodeDirectory():
                self._known_nodes.told(message)
            case Broadcast() | Grants():
                self.core.received(message, boot_ns())
                self._flush_soon()

    def _move(self, message: Readmitted) -> None:
        """Belong to the restored cluster: what was promised and heard is of the one before."""
        self._fail(
            ServerMoves(
                f"readmitted to {message.cluster}, which was restored from a backup of "
                f"{message.was}: starts again as one of it",
                lambda: self._belonging.move(message),
            )
        )

    # ---- health

    def ready(self) -> list[tuple[str, bool, str]]:
        """Whether it can serve now: each check, its verdict, and a word on it."""
        linked = self.links.is_linked
        where = f"to {self.links.leader}, which leads epoch {self.links.epoch}"
        missing = f"no primary master at {', '.join(self.known_masters())} {self.links.trouble}"
        checks = [
            ("link", linked, where if linked else missing.rstrip()),
            ("keys", self.ready_keys, f"{len(self.keys)} API keys" if self.ready_keys else "none"),
        ]
        if self._ballots is not None:
            ballot = self._ballots.ballot
            word = "admitted" if ballot.config is not None else "not admitted yet"
            checks.append(("witness", True, f"{ballot.node}, {word}"))
        return checks
