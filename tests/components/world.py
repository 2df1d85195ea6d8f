"""A data centre in one thread, on virtual time: the real cores, with links of memory between.

Messages go through their real encoding. A link can be cut, and can lose, repeat and reorder what
it carries; a server can lose its process (its cells survive) or its machine (they do not).
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import TypeVar

from vcap_es.components import messages
from vcap_es.components.commands import Cancel, Command, Commit, Consume, Idempotency, Refund
from vcap_es.components.decisions.meta import Define, MetaCommand
from vcap_es.components.holdings import Abandon, Limits, Reply, SendToMaster, Write
from vcap_es.components.journal_records import (
    Begun,
    Dropped,
    Entry,
    Journal,
    Kept,
    decode,
    encode,
    settle_cells,
)
from vcap_es.components.outcomes import Consumed
from vcap_es.components.primary_master import Answer, Close, PrimaryMaster, Send
from vcap_es.components.volumecap_server import VolumecapServer
from vcap_es.events.facts import Definition, Fact, IntervalOpened, IntervalTotalChanged
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.projections.states.places import Pool

F = TypeVar("F")

US = 1_000
MS = 1_000_000
NOON = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC, in microseconds."""


@dataclass
class Faults:
    """How bad the links are: chances of a hundred, and delays in microseconds."""

    lose: int = 0
    repeat: int = 0
    delay_us_max: int = 500
    fsync_us_max: int = 300


@dataclass
class Disk:
    """The journal of one server as its files have it; `synced` frames outlive the machine."""

    frames: list[bytes] = field(default_factory=list)
    synced: int = 0
    cells: list[int] = field(default_factory=lambda: [0] * 4096)
    ceilings: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)

    def write(self, entries: list[Entry]) -> None:
        """Append a frame; only the process is sure to find it again."""
        self.frames.append(encode(entries))
        for entry in entries:
            if isinstance(entry, Kept):
                known = self.ceilings.setdefault((entry.cap, entry.number), [])
                known.append((len(self.frames), entry.ceiling))
            elif isinstance(entry, Dropped):
                self.ceilings.pop((entry.cap, entry.number), None)

    def sync(self, frames: int) -> None:
        """The first so many frames outlive the machine."""
        self.synced = max(self.synced, frames)
        for known in self.ceilings.values():
            while len(known) > 1 and known[1][0] <= self.synced:
                del known[0]

    def ceiling(self, key: tuple[str, int]) -> int:
        """What may be spent, whichever of the frames not synced the machine would lose."""
        known = self.ceilings.get(key, [])
        if not known or known[0][0] > self.synced:
            return 0
        return min(ceiling for _, ceiling in known)

    def read(self, *, same_boot: bool) -> Journal:
        """What the frames say; written anew in the fewest entries, as a starting server does."""
        journal = Journal()
        for frame in self.frames:
            for entry in decode(frame):
                journal.fold(entry)
        settle_cells(journal, self.cells, same_boot=same_boot)
        return journal

    def rewrite(self, journal: Journal) -> None:
        """Replace all frames by one, durably."""
        self.frames, self.synced, self.ceilings = [], 0, {}
        self.write(journal.entries())
        self.sync(1)


class ServerProcess:
    """One volumecap server: its core, its disk, and its answers."""

    def __init__(self, world: "World", name: str, limits: Limits) -> None:
        self.world, self.name, self.limits = world, name, limits
        self.disk = Disk()
        self.answers: dict[int, object] = {}
        self.keyed: set[int] = set()
        self.undone: list[str] = []
        self.lives = 0
        self.incarnations: list[str] = []
        self.abandoned = ""
        self.dies_after: int | None = None
        self._booted_us = world.now_us
        self.start(same_boot=True)

    def start(self, *, same_boot: bool) -> None:
        """Start from what the disk has."""
        self.lives += 1
        if not same_boot:
            self._boot()
        journal = self.disk.read(same_boot=same_boot)
        begun = Begun(
            incarnation=journal.incarnation or f"{self.name}-{self.lives}",
            start=journal.start + 1,
            session=f"session{self.lives}",
            boot="boot",
        )
        journal.fold(begun)
        self.disk.rewrite(journal)
        if begun.incarnation not in self.incarnations:
            self.incarnations.append(begun.incarnation)
        self.core = VolumecapServer(journal, self.disk.cells, self.limits)
        self.is_running, self.connection = True, 0
        self.world.later(1, self.connect)
        self.world.later(50_000, partial(self.work, self.lives))

    def _boot(self) -> None:
        """The machine comes up again: of what was not synced, any first part may be there."""
        lost = self.world.random.randint(self.disk.synced, len(self.disk.frames))
        del self.disk.frames[lost:]
        self.disk.cells[:] = [self.world.random.randrange(3) for _ in self.disk.cells]
        self._booted_us = self.world.now_us

    def connect(self) -> None:
        """Connect to the master, if there is one."""
        if not self.is_running or self.connection:
            return
        if self.world.master is None or self.name in self.world.cut:
            self.world.later(20_000, self.connect)
            return
        self.connection = next(self.world.connections)
        self.world.servers_by_connection[self.connection] = self
        hello = messages.Hello(
            protocol=messages.PROTOCOL,
            incarnation=self.core.incarnation,
            session=f"session{self.lives}",
            name=self.name,
            address="",
        )
        self.world.deliver_to_master(self.connection, hello)
        self.core.connected(self.now_ns)
        self.flush()

    def disconnect(self) -> None:
        """The connection broke; try again a little later."""
        if self.connection:
            self.world.servers_by_connection.pop(self.connection, None)
            if self.world.master is not None:
                self.world.master.disconnected(self.connection)
            self.connection = 0
        if self.is_running:
            self.core.disconnected()
            self.world.later(20_000, self.connect)

    def kill(self) -> None:
        """End the process at once."""
        self.is_running = False
        self.disconnect()

    def restart(self, *, same_boot: bool = True) -> None:
        """Kill the process and start it again; without the same boot, the machine was lost."""
        if self.is_running:
            self.kill()
        self.start(same_boot=same_boot)

    def start_anew(self) -> None:
        """Put the journal aside and begin a new one."""
        self.disk, self.abandoned = Disk(), ""
        self.start(same_boot=True)

    @property
    def now_ns(self) -> int:
        """The boot clock."""
        return (self.world.now_us - self._booted_us) * US + 10**12

    def work(self, life: int) -> None:
        """What the shell does twenty times a second."""
        if not self.is_running or life != self.lives:
            return
        self.core.tick(self.now_ns)
        self.core.holdings.survey(self.now_ns)
        self.core.holdings.repeat(self.now_ns)
        self.flush()
        self.world.later(50_000, lambda: self.work(life))

    def submit(self, command: Command, idempotency: Idempotency | None = None) -> int:
        """Ask something; the token under which the answer will be found."""
        token = next(self.world.tokens)
        if idempotency is not None:
            self.keyed.add(token)
        if isinstance(command, Commit | Cancel | Refund):
            self.undone.append(command.id)
        self.core.submit(token, command, idempotency, self.now_ns)
        self.flush()
        return token

    def received(self, connection: int, message: messages.FromMaster) -> None:
        """A message from the master has come in."""
        if self.is_running and connection == self.connection:
            self.core.received(message, self.now_ns)
            self.flush()

    def flush(self) -> None:
        """Do what the core wants done."""
        for output in self.core.take(self.now_ns):
            if self.dies_after is not None:
                self.dies_after -= 1
                if self.dies_after < 0:
                    self.dies_after = None
                    self.kill()
                    return
            match output:
                case Write(entries, ticket):
                    self.disk.write(entries)
                    if ticket:
                        self.fsync(ticket, len(self.disk.frames), self.lives)
                case SendToMaster(message):
                    self.world.deliver_to_master(self.connection, message)
                case Reply(token, outcome):
                    self.answers[token] = outcome
                case Abandon(reason):
                    self.abandoned = reason
                    self.kill()
                    assert self.world.may_abandon, reason
                    return
        alarm = self.core.holdings.next_alarm_ns()
        if alarm is not None:
            delay_us = max(1, (alarm - self.now_ns) // US + 1)
            if delay_us < 60_000:
                self.world.later(delay_us, partial(self.wake, self.lives))

    def wake(self, life: int) -> None:
        """An alarm is due."""
        if self.is_running and life == self.lives:
            self.core.tick(self.now_ns)
            self.flush()

    def fsync(self, ticket: int, frames: int, life: int) -> None:
        """Make the journal durable a little later."""

        def done() -> None:
            if self.is_running and life == self.lives:
                self.disk.sync(frames)
                self.core.written(ticket, self.now_ns)
                self.flush()

        self.world.later(self.world.random.randint(1, self.world.faults.fsync_us_max), done)


class World:
    """A master and its servers, on virtual time."""

    def __init__(
        self,
        servers: int,
        *,
        seed: int = 0,
        now: int = NOON,
        faults: Faults | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.now_us = now
        self.connections, self.tokens, self._order = count(1), count(1), count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self.servers_by_connection: dict[int, ServerProcess] = {}
        self.cut: set[str] = set()
        self.log: list[Fact] = []
        self.command_answers: dict[int, object] = {}
        self.master: PrimaryMaster | None = None
        self.steps: list[Callable[[], None]] = []
        self.may_abandon = False
        self.closings: list[str] = []
        self.committed = Fold()
        self.minted_max: dict[tuple[str, int], int] = {}
        self._round_is_open = False
        self.start_master()
        self.servers = [
            ServerProcess(self, f"s{index}", limits or Limits()) for index in range(servers)
        ]

    # time

    def later(self, delay_us: int, call: Callable[[], None]) -> None:
        """Call something in `delay_us` microseconds."""
        heapq.heappush(self._heap, (self.now_us + delay_us, next(self._order), call))

    def run(self, duration_us: int) -> None:
        """Let time pass."""
        until = self.now_us + duration_us
        while self._heap and self._heap[0][0] <= until:
            at, _, call = heapq.heappop(self._heap)
            self.now_us = max(self.now_us, at)
            call()
            for step in self.steps:
                step()
        self.now_us = until

    # the master

    def start_master(self) -> None:
        """Start a master from the log."""
        fold = Fold()
        for fact in self.log:
            fold.evolve(fact)
        epoch = fold.state.epoch + 1
        self.master = PrimaryMaster(fold, dc="dc1", name="m1", epoch=epoch, now=self.now_us)
        self._round_is_open = False
        self.begin_round(self.master)
        self.tick_master(self.master)

    def kill_master(self) -> None:
        """End the master at once: what it did not append is gone."""
        self.master = None
        for server in list(self.servers_by_connection.values()):
            server.disconnect()

    def tick_master(self, master: PrimaryMaster) -> None:
        """What the shell does a hundred times a second."""
        if master is self.master:
            master.tick(self.now_us)
            self.begin_round(master)
            self.later(10_000, lambda: self.tick_master(master))

    def begin_round(self, master: PrimaryMaster) -> None:
        """Start a commit round unless one is under way."""
        if master is not self.master or self._round_is_open:
            return
        started = master.begin_round(self.now_us)
        if started is None:
            return
        self._round_is_open = True

        def done() -> None:
            if master is not self.master:
                return
            self._append([draft.fact for draft in started.drafts])
            self._round_is_open = False
            for output in master.round_committed(started, len(self.log)):
                self._do(output)
            self.begin_round(master)

        self.later(self.random.randint(1, self.faults.fsync_us_max), done)

    def _append(self, facts: list[Fact]) -> None:
        self.log += facts
        for fact in facts:
            self.committed.evolve(fact)
            if isinstance(fact, IntervalOpened | IntervalTotalChanged):
                key = (fact.cap, fact.number)
                self.minted_max[key] = max(self.minted_max.get(key, 0), fact.total)

    def _do(self, output: object) -> None:
        match output:
            case Send(connection, message):
                server = self.servers_by_connection.get(connection)
                if server is not None:
                    decoded = messages.decode_from_master(messages.encode(message))
                    self._carry(partial(server.received, connection, decoded))
            case Answer(token, outcome):
                self.command_answers[token] = outcome
            case Close(connection, reason):
                self.closings.append(reason)
                server = self.servers_by_connection.get(connection)
                if server is not None:
                    server.disconnect()

    def _carry(self, deliver: Callable[[], None]) -> None:
        faults, random = self.faults, self.random
        copies = 0 if random.randrange(100) < faults.lose else 1
        copies += random.randrange(100) < faults.repeat
        for _ in range(copies):
            self.later(random.randint(1, faults.delay_us_max), deliver)

    def deliver_to_master(self, connection: int, message: messages.FromServer) -> None:
        """Carry a message to the master, as well as the link can."""
        decoded = messages.decode_from_server(messages.encode(message))

        def deliver() -> None:
            if self.master is not None and connection in self.servers_by_connection:
                self.master.received(connection, decoded, self.now_us)
                self.begin_round(self.master)

        if isinstance(message, messages.Hello):
            deliver()
        else:
            self._carry(deliver)

    # operators

    def command(self, command: MetaCommand) -> object:
        """An operator's command, and its answer."""
        assert self.master is not None
        token = next(self.tokens)
        self.master.command(token, command, "operator", "", self.now_us)
        self.begin_round(self.master)
        self.run(5_000)
        return self.command_answers.get(token)

    def define(self, cap: str, total: int, **fields: object) -> object:
        """Define a cap."""
        return self.command(Define(cap=cap, definition=Definition(total=total, **fields)))  # type: ignore[arg-type]  # the caller's fields

    # clients

    def ask(
        self, server: ServerProcess, command: Command, idempotency: Idempotency | None = None
    ) -> object:
        """What a client is answered."""
        token = server.submit(command, idempotency)
        return self.answer(server, token)

    def answer(self, server: ServerProcess, token: int) -> object:
        """The answer to an earlier call, when it is there."""
        for _ in range(1000):
            if token in server.answers:
                return server.answers[token]
            self.run(1000)
        raise AssertionError(f"{server.name} did not answer call {token}")

    def consume(self, server: ServerProcess, cap: str, amount: int = 1) -> object:
        """What a client is answered to a consume of exactly this amount."""
        return self.ask(server, Consume(cap=cap, minimum=amount, maximum=amount))

    def take_all(self, cap: str, servers: "list[ServerProcess] | None" = None) -> int:
        """The units that callers at these servers get, one by one, until all are refused."""
        asked, taken = list(servers or self.servers), 0
        while asked:
            server = self.random.choice(asked)
            if isinstance(self.consume(server, cap), Consumed):
                taken += 1
            else:
                asked.remove(server)
        return taken

    # what is true

    @property
    def state(self) -> DataCentre:
        """The live state of the master."""
        assert self.master is not None
        return self.master.state

    def pool(self, cap: str, number: int = 0) -> Pool:
        """The pool of an interval that is not closed."""
        found = self.state.interval(cap, number)
        assert found is not None, f"{cap} {number} is closed or was never open"
        return found.pool

    def facts(self, kind: type[F]) -> list[F]:
        """All facts of one kind that are on the log."""
        return [fact for fact in self.log if isinstance(fact, kind)]

    def replay(self) -> Fold:
        """The state that the log gives from the beginning."""
        fold = Fold()
        for fact in self.log:
            fold.evolve(fact)
        return fold
