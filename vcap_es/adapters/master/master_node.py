"""A master as it runs: the core, its ballot, its log, and its links to servers and masters."""

import asyncio
import gc
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, TypeVar

import structlog
from msgspec import structs
from prometheus_client import CollectorRegistry
from starlette.websockets import WebSocket

from vcap_es.adapters.links.dialler import Dialler
from vcap_es.adapters.links.discovery import SERVERS_ASKED_MAX, Discovery, is_node
from vcap_es.adapters.links.link import AcceptedLink, Link, speak
from vcap_es.adapters.links.send_queue import POLICY_VIOLATION, SendQueue
from vcap_es.adapters.master.global_order import GlobalOrder
from vcap_es.adapters.master.log_writer import LogWriter
from vcap_es.adapters.master.readiness import (
    Check,
    PrimacyView,
    checks_of,
    clocks_differ,
    log_ahead,
    primacy_of,
    role_of,
)
from vcap_es.adapters.past.reader import PastReader
from vcap_es.adapters.rabbitmq.feed import Feed, FeedWire
from vcap_es.adapters.rabbitmq.letters import Letter
from vcap_es.adapters.rabbitmq.outbox import Reign
from vcap_es.adapters.rabbitmq.topology import Topology
from vcap_es.adapters.rabbitmq.transport import Transport
from vcap_es.adapters.stalls import Stalls, timed
from vcap_es.adapters.storage.ballots import Ballots, MemoryBallots
from vcap_es.adapters.storage.snapshot_files import load_snapshot, save_snapshot
from vcap_es.clock import boot_ns, now_us
from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.replica import Cut, Store, StoredLog
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import SaveBallot, founded
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.primacy import is_quorum
from vcap_es.components.local_handler.node_directory import masters_of, servers_told, sorted_by_name
from vcap_es.components.local_handler.server_session import ServerSession
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.master import Master
from vcap_es.components.master.outputs import (
    Elsewhere,
    Halt,
    MasterOutput,
    Renew,
    Restart,
    SwitchedOver,
)
from vcap_es.components.messages.centre import Reception
from vcap_es.components.messages.encoding import decode_at_master
from vcap_es.components.messages.order import InOrder
from vcap_es.components.messages.server import NodeAddress, Presence
from vcap_es.components.meta_handler import OperatorCommand
from vcap_es.components.primary_master.approvals import Approved
from vcap_es.components.primary_master.outputs import (
    Acknowledge,
    Answer,
    Close,
    Done,
    Fetch,
    Forward,
    Send,
    Spawn,
)
from vcap_es.components.volumecap_server.master_addresses import MASTERS_MAX
from vcap_es.errors import (
    ClockBehind,
    ClusterMixed,
    CopyUnsound,
    LogClosed,
    LogError,
    PrefixLost,
)
from vcap_es.events.chain import GENESIS, Stored
from vcap_es.events.clusters import is_of
from vcap_es.events.log import EventLog
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.units import SECOND_US
from vcap_es.projections.replay import recover
from vcap_es.projections.snapshots import take
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.settings import ReadingSettings

T = TypeVar("T")
DRIFT_US = 5_000_000
CLOCK_BEHIND_MAX_S = 3 * 24 * 3600
"""A clock that is further behind the log when a master starts is refused unless it is told.

So long after a clock was ahead a data centre serves on, with a calendar that stands. A clock that
lost its battery shows a year long past, and nothing but that can be wrong.
"""

TICK_SECONDS = (0.001, 0.1)
"""The shortest pause between two ticks, so that others have a turn, and the longest."""

TAIL_CHUNK = 5000

log = structlog.get_logger()


class MasterNode:
    """One master of a data centre, in whichever role. Use it as an asynchronous context."""

    def __init__(
        self,
        events: EventLog,
        *,
        dc: str,
        name: str,
        secret: str,
        snapshot: Path | None = None,
        ballots: Ballots | None = None,
        slot: int = 0,
        address: str = "",
        peers: Sequence[str] = (),
        timings: Timings | None = None,
        spawn: Callable[[Spawn], None] | None = None,
        suspicion: str = "",
        absolve: Callable[[], None] = lambda: None,
        wires: Topology | None = None,
        feed: FeedWire | None = None,
        clock_behind_max_s: int = CLOCK_BEHIND_MAX_S,
        reading: ReadingSettings | None = None,
    ) -> None:
        """Lead or follow with the log `events` of data centre `dc`; `secret` lets nodes link.

        `snapshot` names a file that spares a replay; it may be missing, and may be deleted.
        `ballots` keeps what was promised, and who founded its cluster: others wait to be admitted
        to one. Without, this is a lone master that founds its own and needs nobody's vote.
        `address` is the URL at which others reach this node; `peers` are addresses of masters, or
        of nodes that know them.
        `spawn` starts a secondary master. `suspicion` says why the log may not be whole; who leads
        nevertheless is not suspect any more, and `absolve` is called. `wires` lead to other data
        centres, and `feed` to who follows the log. A start is refused where the clock is more than
        `clock_behind_max_s` seconds before the log's last stamp. `reading` bounds what may be read
        of the past.
        """
        self.log, self.metrics = events, CollectorRegistry()
        self.dc, self.name = dc, name
        self._snapshot, self._secret = snapshot, secret
        self._ballots, self._is_lone = ballots or MemoryBallots(slot), ballots is None
        self._timings, self._spawn = timings or Timings(), spawn
        self._suspicion, self._absolve = suspicion, absolve
        self._identity = Identity(
            dc=dc,
            slot=slot,
            name=name,
            address=address,
            spawns=spawn is not None,
        )
        self.post = None if wires is None else Transport(dc, wires, self._hear_letter)
        self.feed = None if feed is None else Feed(feed, events, self.committed_beyond)
        self.past = PastReader(
            events.path if isinstance(events, SqliteLog) else None,
            reading or ReadingSettings(),
            committed=lambda: self.durable,
            present=self._present,
        )
        self.order = GlobalOrder(
            dc,
            events,
            pass_stamp=self._pass_stamp,
            members=lambda: [
                name for name, each in self.state.centres.items() if each.membership != "lost"
            ],
            committed=lambda: self.durable,
            send=lambda centre, message: self.post is not None and self.post.send(centre, message),
        )
        self._led_epoch = 0
        self._grown, self._told_committed = asyncio.Event(), 0
        self._tokens, self._connections = count(1), count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._links: dict[int, tuple[SendQueue, Callable[[str], None]]] = {}
        self._ahead_us = now_us() - boot_ns() // 1000
        self._writer = LogWriter(
            events,
            self.metrics,
            tell=self._let,
            moment=self.moment,
            begin=self._begin,
            committed=lambda: self._core.replica.committed if self._core is not None else 0,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._core: Master | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stalls, self._wanted_ns = Stalls(), 0
        self._flush_is_due = self._is_over = False
        self._clock_is_sound = True
        self._clock_behind_max_s = clock_behind_max_s
        self._clock_told = set[tuple[str, int]]()
        self._role = ""
        self._life = 0
        self._dialler = Dialler(
            secret, wanted=self._wanted_peers, serve=lambda line: self._serve(line, is_dialled=True)
        )
        self._peers, self._learnt = tuple(peers), list[str]()

    # ---- what is true

    @property
    def core(self) -> Master:
        """The running core; raises LogError while this master begins anew."""
        if self._core is None:
            raise LogError("this master begins anew from its log: ask again")
        return self._core

    @property
    def is_running(self) -> bool:
        """Whether there is a core; there is none while this master begins anew."""
        return self._core is not None

    @property
    def state(self) -> DataCentre:
        """The live state: of a leader with what is decided; `view` waits until that is durable."""
        return self.core.state

    @property
    def cluster(self) -> str:
        """The cluster that it belongs to, "" while it waits to be admitted to one."""
        return self._ballots.ballot.cluster

    @property
    def role(self) -> str:
        """`primary`, `secondary` or `suspect`."""
        return role_of(self.core)

    @property
    def durable(self) -> int:
        """The position of the last event that is known here to be committed."""
        return self.core.replica.committed

    @property
    def servers(self) -> Mapping[str, ServerSession]:
        """The connected volumecap servers by incarnation; none where this master does not lead."""
        primary = self.core.primary
        return primary.locals.servers if primary is not None else {}

    def nodes(self) -> list[NodeAddress]:
        """Where the nodes of the data centre are; which servers are there only a leader knows."""
        primary = self.core.primary
        if primary is not None:
            found = primary.locals.whereabouts()
        else:
            found = [*masters_of(self.state), *servers_told(self.state)]
        return sorted_by_name(
            structs.replace(each, presence=self._presence_of(each.node))
            if each.role == "master"
            else each
            for each in found
        )

    def _presence_of(self, master: str) -> Presence:
        is_here = master == self.core.node or self.core.is_linked(master)
        return "connected" if is_here else "away"

    def _present(self, what: Literal["names", "groups"], of: list[str]) -> dict[str, str]:
        """What servers are called, or the groups of caps, for who reads the past."""
        state = self.state
        if what == "names":
            return {each: state.nodes[each].name for each in of if each in state.nodes}
        groups = {each: state.metas[each].definition.group for each in of if each in state.metas}
        return {cap: group for cap, group in groups.items() if group}

    def now(self) -> int:
        """Microseconds UTC: the wall clock, or while it has jumped, what it would show if not.

        The stamp of facts never runs backwards, so a jump forth that it followed would last: every
        interval up to there would end at once, also after the clock was set right.
        """
        wall, steady = now_us(), boot_ns() // 1000 + self._ahead_us
        return wall if abs(wall - steady) <= DRIFT_US else steady

    def moment(self) -> Moment:
        """Now, by both clocks."""
        return Moment(boot_ns(), self.now())

    # ---- start and stop

    async def __aenter__(self) -> "MasterNode":
        """Fold what is committed, and take part; a lone master leads when this returns.

        Raises ClockBehind where the clock is too far behind the log.
        """
        self._failed = asyncio.get_running_loop().create_future()
        await self._check_clock()
        if self._is_lone:
            await self._found()
        await self._begin()
        self._start(self._writer.run(), "disk")
        self._start(self._dialler.run(), "peers")
        self._start(self._join(), "joining")
        if self.core.role == "leading":
            await self.view(lambda _: None)
        return self

    async def _check_clock(self) -> None:
        """Nothing can be recorded by a clock that is far behind but under stamps that stand still.

        Raises ClockBehind.
        """
        last = await self.log.read((await self.log.head()).position - 1, limit=1)
        ahead_s = (last[0].recorded_at - self.now()) // SECOND_US if last else 0
        if ahead_s > self._clock_behind_max_s:
            raise ClockBehind(
                f"the clock of this machine is {ahead_s} s behind the last event of {self.name}'s"
                f" log: set it right. If it is right, the log was written by a clock that was"
                f' ahead: see "A clock that was wrong" in docs/operations.md, and start with'
                f" --clock-behind-max-s {ahead_s + 60} to go on with it nevertheless"
            )

    async def _found(self) -> None:
        """Be the only voter, of a new log or of one that this process alone has."""
        head = await self.log.head()
        cluster = "" if head.position else token_hex(16)
        ballot = founded(self._ballots.ballot, cluster)
        self._ballots.keep(structs.replace(ballot, promised=head.epoch))

    async def _begin(self) -> None:
        """Build the core from what is on the disk."""
        held = await self._held()
        self._belong(held.fold.state.primacy.cluster)
        gc.collect()
        gc.freeze()  # what was just replayed stays: no collection needs to look at it again
        self._core = Master(
            self._identity,
            self._ballots.ballot,
            held,
            self._timings,
            random=random.randrange,
            moment=Moment(boot_ns(), self.now()),
            suspicion=self._doubt(),
        )
        self.core.tick(self.moment())
        self._flush()

    def _belong(self, cluster: str) -> None:
        """The log says of which `cluster` it is; "" where it is empty, or does not know yet."""
        ballot = self._ballots.ballot
        if not cluster:
            return
        if not ballot.cluster:
            self._ballots.keep(structs.replace(ballot, cluster=cluster))
        elif not is_of(cluster, ballot.cluster):
            raise ClusterMixed(
                f"the log here is of cluster {cluster}, and the ballot of {ballot.cluster}: "
                "somebody put the files of two clusters into one directory; put the right log "
                "back, or move the directory away and start with an empty one"
            )

    def _doubt(self) -> str:
        """Why this copy may lack something; who holds the only one must go on with it."""
        return "" if self._is_alone else self._suspicion

    @property
    def _is_alone(self) -> bool:
        """Whether nobody else can have decided anything: it is the only voter, and alone in sync.

        Where others vote, what it holds may only have been proposed.
        """
        node, config = self._ballots.ballot.node, self._ballots.ballot.config
        return config is not None and config.isr == (node,) and is_quorum(config, {node})

    async def _held(self) -> StoredLog:
        """What the log has. Only what is surely committed is folded: the rest may have to go."""
        head = await self.log.head()
        committed = await self.log.committed()
        if self._is_alone:
            committed = head.position  # it alone decides what is committed, and that is durable
        snapshot = None if self._snapshot is None else load_snapshot(self._snapshot)
        recovered = await recover(self.log, snapshot, committed)
        log.info(
            "replayed",
            events=recovered.head.position,
            after=recovered.replayed_after,
            caps=len(recovered.fold.state.metas),
            snapshot_discarded=recovered.discarded,
        )
        tail = await self._tail(recovered.head.position)
        last = await self.log.read(head.position - 1, limit=1) if head.position else []
        return StoredLog(
            head=head,
            committed=max(committed, recovered.head.position),
            fold=recovered.fold,
            folded=recovered.head,
            tail=tail,
            history=await self.log.history(),
            recorded_at=last[0].recorded_at if last else 0,
        )

    async def _tail(self, after: int) -> list[Stored]:
        tail: list[Stored] = []
        while chunk := await self.log.read_stored(after + len(tail), limit=TAIL_CHUNK):
            tail += chunk
        return tail

    async def __aexit__(self, *_: object) -> None:
        """Take part no more; what waits for an answer gets none."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._rest(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self.past.close(), return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()
        if self._failed is not None and not self._failed.done():
            with suppress(LogClosed):
                await self._writer.note_committed()
        self._save_snapshot()

    def _save_snapshot(self) -> None:
        """Spare the next start a replay, if the state is just what is committed on the log."""
        assert self._failed is not None, "the node is not running"
        core = self._core
        if core is None:
            return
        leads = core.leadership is not None
        is_settled = core.leadership.is_settled if core.leadership is not None else True
        if self._snapshot is None or self._failed.done() or not is_settled:
            return
        if core.replica.unfolded == 0 or leads:
            try:
                save_snapshot(self._snapshot, take(self.state, core.replica.head))
            except OSError as error:
                log.warning("no snapshot was kept: the next start replays more", error=str(error))

    async def failure(self) -> None:
        """Wait until this master cannot go on; raises why."""
        assert self._failed is not None, "the node is not running"
        await asyncio.shield(self._failed)

    # ---- operators

    async def submit(
        self, command: OperatorCommand, *, actor: str, correlation: str
    ) -> Done | Denied | Elsewhere | Approved:
        """Do what an operator asks; returns when it is durable on every master in sync.

        `Approved`: another operator must want it as well.
        """
        answer = await self._ask(
            lambda token: self.core.command(token, command, actor, correlation, self.moment())
        )
        assert isinstance(answer, Done | Denied | Elsewhere | Approved)
        return answer

    async def view(self, read: Callable[[DataCentre], T]) -> T:
        """What `read` gives of the state now; at a leader, when all that it saw is durable.

        Elsewhere it is as old as what this master has copied.
        """
        if self.core.role != "leading":
            return read(self.state)
        seen = await self._ask(lambda token: self.core.read(token, read))
        return read(self.state) if isinstance(seen, Elsewhere) else seen  # type: ignore[return-value]  # the core hands back what `read` gave

    def stamp(self) -> int:
        """The stamp of what would be recorded now, in microseconds UTC."""
        primary = self.core.primary
        return self.now() if primary is None else primary.clock.tick(self.now())

    async def _pass_stamp(self, stamp: int) -> str:
        """Let later events be stamped `stamp` or more, durably; or say why that cannot be."""
        answer = await self._ask(lambda token: self.core.pass_stamp(token, stamp, self.moment()))
        if isinstance(answer, Denied):
            return answer.detail
        return "this master does not lead" if isinstance(answer, Elsewhere) else ""

    async def switch_over(self, *, actor: str) -> SwitchedOver | Denied | Elsewhere:
        """Hand over to the other master; returns when that leads, or why it does not."""
        answer = await self._ask(lambda token: self.core.switch_over(token, actor, self.moment()))
        assert isinstance(answer, SwitchedOver | Denied | Elsewhere)
        return answer

    async def approve_promotion(
        self, *, operator: str, gone: Collection[str] = ()
    ) -> Approved | Denied:
        """Say that this master shall lead at the price of what it lacks; two operators must."""
        answer = await self._ask(
            lambda token: self.core.approve_promotion(token, operator, self.moment(), gone)
        )
        assert isinstance(answer, Approved | Denied)
        return answer

    async def _ask(self, ask: Callable[[int], None]) -> object:
        assert self._failed is not None, "the node is not running"
        if self._failed.done():
            raise LogError("this master has stopped: its log failed")
        token = next(self._tokens)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            ask(token)
            self._flush_soon()
            return await future
        finally:
            self._waiting.pop(token, None)

    # ---- outputs

    def _flush_soon(self) -> None:
        """Flush once for all that happens in this turn of the event loop."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Do what the core wants done, in order, and look again when it wants to know the time."""
        self._flush_is_due = False
        has_failed = self._failed is not None and self._failed.done()
        if self._core is None or self._is_over or has_failed:
            return
        try:
            for output in self._core.take(self.moment()):
                self._do(output)
        except Exception as error:  # noqa: BLE001  # what else of it was done nobody knows: stop
            self._fail(error)
            return
        if self._core is not None:
            self._tell_role(self._core)
            self._serve_while_leading(self._core)
            self._tell_growth(self._core)
            self._set_timer(self._core)

    def _do(self, output: MasterOutput) -> None:
        match output:
            case Send(connection, message):
                if connection in self._links:
                    self._links[connection][0].post(message)
            case Store() | Cut():
                self._writer.put(output)
            case Answer(token, outcome):
                future = self._waiting.get(token)
                if future is not None and not future.done():
                    future.set_result(outcome)
            case SaveBallot(ballot):
                # It is rare, and nothing behind it may leave before: waiting here is simplest.
                with timed("ballot", epoch=ballot.promised):
                    self._ballots.keep(ballot)
            case Fetch():
                self._start(self._fetch(self._life, output), "fetch")
            case Close(connection, reason):
                log.warning("a node was refused", connection=connection, reason=reason)
                if connection in self._links:
                    self._links[connection][1](reason)
            case Spawn():
                if self._spawn is not None:
                    self._spawn(output)
            case Forward(centre, message):
                if self.post is not None:
                    self.post.send(centre, message)
            case Acknowledge(delivery):
                if self.post is not None:
                    self.post.acknowledge(delivery)
            case Remark(what, details):
                log.debug(what, **details)
            case Restart(reason):
                self._end_life(reason)
            case Renew(reason):
                self._fail(CopyUnsound(reason, self._ballots.ballot.cluster))
            case Halt(reason):
                self._fail(PrefixLost(reason))

    def _tell_role(self, core: Master) -> None:
        if core.role != self._role:
            self._role = core.role
            log.info("role", role=core.role, epoch=core.epoch, why=core.suspicion or None)
            if core.role == "leading" and self._suspicion:
                self._suspicion = ""
                self._absolve()

    def _serve_while_leading(self, core: Master) -> None:
        """Only who leads with a majority reads letters: others would keep them from it."""
        leads = core.leadership is not None and core.leadership.is_active
        epoch = core.epoch if leads else 0
        if epoch != self._led_epoch:
            self._rest()
            self._led_epoch = epoch
            if self.post is not None and core.primary is not None and epoch:
                remote = core.primary.remote
                self.post.lead(Reign(epoch, core.state.primacy.cluster, remote.cluster_of))
            if self.feed is not None and epoch:
                self.feed.lead()

    def _rest(self) -> list[asyncio.Task[None]]:
        """Speak with no other data centre, and tell nobody; gives what is not yet at its end."""
        self._led_epoch = 0
        found = [each for each in (self.post, self.feed) if each is not None]
        return [task for each in found for task in each.rest()]

    def _tell_growth(self, core: Master) -> None:
        """Wake who waits for more to be committed."""
        if core.replica.committed > self._told_committed:
            self._told_committed = core.replica.committed
            self._grown.set()
            self._grown = asyncio.Event()

    async def committed_beyond(self, position: int) -> int:
        """Wait until an event after `position` is committed; gives the last one that is."""
        while not (self.is_running and self.durable > position):
            await self._grown.wait()
        return self.durable

    def _hear_letter(self, delivery: int, letter: Letter) -> Reception:
        hearing: Reception = "nobody"
        for_core = [each for each in letter.messages if not isinstance(each, InOrder)]

        def hear(core: Master) -> None:
            nonlocal hearing
            hearing = core.forwarded(delivery, letter.sender, for_core, self.moment())

        self._let(hear)
        if hearing == "heard":
            for each in letter.messages:
                if isinstance(each, InOrder):
                    self.order.heard(letter.sender.centre, each)
        return hearing

    def _set_timer(self, core: Master) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wanted_s = (core.next_tick_ns(self.moment()) - boot_ns()) / 1e9
        delay_s = min(max(wanted_s, TICK_SECONDS[0]), TICK_SECONDS[1])
        self._wanted_ns = boot_ns() + int(delay_s * 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        if self._core is not None:
            self._stalls.look(self._core, self._wanted_ns)
        self._judge_clock(abs(now_us() - boot_ns() // 1000 - self._ahead_us))
        self._tell_clocks()
        self._let(lambda core: core.tick(self.moment()))

    def _let(self, happen: Callable[[Master], None]) -> None:
        """Tell the core something. An error of its own must not be a line in a log: it stops."""
        if self._core is None or self._is_over:
            return
        try:
            happen(self._core)
        except Exception as error:  # noqa: BLE001  # what the core knows is not sure any more
            self._fail(error)
            return
        self._flush_soon()

    def _judge_clock(self, departed_us: int) -> None:
        """A wall clock that jumps must not move the calendar; people must look at it."""
        is_sound = departed_us <= DRIFT_US
        if is_sound != self._clock_is_sound:
            log.error(
                "wall clock jumped" if not is_sound else "wall clock is sound again",
                seconds=departed_us // 1_000_000,
            )
        self._clock_is_sound = is_sound

    def _tell_clocks(self) -> None:
        """Say once what is to be said of the clocks of the log and of other nodes."""
        if self._core is None:
            return
        words = {each: clocks_differ(*each) for each in self._core.departures.values()}
        if ahead := log_ahead(self._core, self.now()):
            words["log", 0] = ahead
        for subject in words.keys() - self._clock_told:
            log.error(words[subject])
        self._clock_told = set(words)

    # ---- the log

    async def _fetch(self, life: int, wanted: Fetch) -> None:
        """Read older events for a follower, with the link of the one before them."""
        link = GENESIS
        before = wanted.after - 1 if wanted.after else 0
        entries = await self.log.read_stored(before, limit=wanted.limit + bool(wanted.after))
        if wanted.after:
            link, entries = entries[0].link, entries[1:]
        if life == self._life:
            self._let(lambda core: core.fetched(wanted, link, entries, self.moment()))

    # ---- beginning anew

    def _end_life(self, reason: str) -> None:
        """Let the core go; the log's writer builds it anew when what it is at is done."""
        log.warning("begins anew", reason=reason)
        self._core, self._role = None, ""
        self._life += 1
        self._rest()
        self._writer.begin_anew()
        for future in self._waiting.values():
            if not future.done():
                future.set_result(Elsewhere(leader="", address=""))
        for _, close in list(self._links.values()):
            close("this master begins anew")

    # ---- links

    def is_node(self, authorization: str) -> bool:
        """Whether this header is another node's, who knows the secret of the nodes."""
        return is_node(authorization, self._secret)

    def known_masters(self) -> list[str]:
        """Where masters are reached, as far as is known here: this one, and all others."""
        return sorted({self._identity.address, *self._wanted_peers()} - {""})

    async def serve_link(self, socket: WebSocket) -> None:
        """Speak with a volumecap server or another master until the connection ends."""
        if not self.is_node(socket.headers.get("authorization", "")):
            log.warning("a node was refused", reason="wrong node secret", address=socket.client)
            await socket.close(POLICY_VIOLATION, "wrong node secret")
            return
        await socket.accept()
        await self._serve(AcceptedLink(socket), is_dialled=False)

    async def _serve(self, line: Link, *, is_dialled: bool) -> None:
        """Speak on one connection until it ends."""
        if self._core is None:
            await line.close("this master begins anew")
            return
        life, connection = self._life, next(self._connections)
        link = SendQueue(line.send)
        self._links[connection] = (link, lambda reason: self._refuse(link, line, reason))
        if is_dialled:
            self._let(lambda core: core.connected(connection, self.moment()))
        try:
            await speak(line, link, lambda data: self._hear(life, connection, data))
        finally:
            del self._links[connection]
            if life == self._life:
                self._let(lambda core: core.disconnected(connection, self.moment()))

    def _refuse(self, link: SendQueue, line: Link, reason: str) -> None:
        link.finish()
        self._start(line.close(reason), "refuse")

    def _hear(self, life: int, connection: int, data: bytes) -> None:
        message = decode_at_master(data)
        if life == self._life:
            self._let(lambda core: core.heard(connection, message, self.moment()))

    def _wanted_peers(self) -> set[str]:
        """Where other masters are reached: as told at the start, and as they said since."""
        if self._core is None:
            return set()
        known = {each.address for each in self._core.masters.values()}
        known |= {each.address for each in self.state.nodes.values() if each.role == "master"}
        return {*self._peers, *self._learnt, *known} - {"", self._identity.address}

    async def _join(self) -> None:
        """A peer need not be a master: any node says where masters are."""
        await Discovery(
            self._secret,
            nodes=self._nodes_to_ask,
            cluster=lambda: self.cluster,
            is_linked=lambda: self._core is None or self._is_placed,
            learnt=self._learn,
        ).run()

    @property
    def _is_placed(self) -> bool:
        """Whether it leads, so that others come, or has found another master."""
        core = self.core
        return core.role == "leading" or any(core.is_linked(each) for each in core.masters)

    def _nodes_to_ask(self) -> list[str]:
        if self._core is None:
            return []
        servers = [each.address for each in servers_told(self.state)[:SERVERS_ASKED_MAX]]
        return [*self._peers, *filter(None, servers)]

    def _learn(self, masters: list[str]) -> None:
        self._learnt = masters[:MASTERS_MAX]

    # ---- tasks

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        assert self._failed is not None
        if self._failed.done():
            return
        log.critical("this master stops", error=str(error))
        self._failed.set_exception(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LogError(f"outcome unknown: {error}"))

    # ---- health

    def primacy(self) -> PrimacyView:
        """What this master knows of who leads."""
        return primacy_of(self.core)

    def ready(self) -> list[Check]:
        """Whether it can serve now: each check, its verdict, and a word on it."""
        assert self._failed is not None, "the node is not running"
        return checks_of(
            self._core,
            has_failed=self._failed.done(),
            is_full=self._writer.is_full,
            clock_is_sound=self._clock_is_sound,
            now=self.now(),
        )
