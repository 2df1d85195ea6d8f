"""One master of a simulated data centre: its core, its ballot, its log, and its links."""

from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec import structs

from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.replica import Cut, Store, StoredLog
from vcap_es.components.consensus.voter import Ballot, founded
from vcap_es.components.decisions.primacy import Config, master_id
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.master import Master
from vcap_es.components.master.outputs import Halt, MasterOutput, Renew, Restart
from vcap_es.components.messages import encoding
from vcap_es.components.primary_master.outputs import (
    Acknowledge,
    Answer,
    Close,
    Fetch,
    Forward,
    Send,
    Spawn,
)
from vcap_es.events.log import Head
from vcap_es.events.units import MS
from vcap_es.projections.states.data_centre import Fold
from vcap_es.sim.environment.disks import BallotDisk, LogDisk
from vcap_es.sim.environment.gates import Gate
from vcap_es.sim.environment.network import US, Party, SimulatedLink
from vcap_es.sim.environment.oracle import Claim
from vcap_es.sim.environment.processes import SimulatedProcess
from vcap_es.sim.environment.site import Site
from vcap_es.sim.environment.violations import Violation

REDIAL_MS = (20, 500)
TICK_NS_MIN = MS
"""Like the shell of a master, it ticks no more often than this."""

RETRY_FULL_MS = 50
LOOK_AGAIN_MS = 50
RESTART_MS = 5


class MasterProcess(SimulatedProcess):
    """One slot: what it has on disk outlives its core."""

    def __init__(self, site: Site, slot: int, *, is_founder: bool, spawns: bool = False) -> None:
        super().__init__(site, f"m{slot}")
        self.slot, self.spawns = slot, spawns
        self.core: Master | None = None
        self.is_sound = True
        self.fails_fsync = False
        self._begun_ahead_us, self._moment_ns = 0, -1
        ballot = Ballot(node=master_id(slot, site.new_id()))
        self.ballots = BallotDisk(founded(ballot, site.cluster) if is_founder else ballot)
        self.log = LogDisk()
        site.oracle.copies.append(self)
        site.oracle.votes.append(lambda: self.ballots.ballot)
        site.master_parties.append(self)

    @property
    def node(self) -> str:
        """Who the disk says that it is."""
        return self.ballots.ballot.node

    @property
    def moment(self) -> Moment:
        """Now, as this machine has it."""
        true_ns = self.site.scheduler.now_ns
        if true_ns != self._moment_ns:
            self._moment_ns = true_ns
            self._moment = Moment(self.machine.boot_ns, self.machine.utc(self._begun_ahead_us))
        return self._moment

    # ---- life and death

    def start(self) -> None:
        """Start from what the disk has."""
        self.begin_life()
        if not self.machine.is_up:
            self.machine.boot()
        self._begun_ahead_us = self.machine.wall_ahead_us
        self._moment_ns = -1
        self._links: dict[int, SimulatedLink] = {}
        self._dialled: dict[Party, SimulatedLink] = {}
        self._redial_ms = REDIAL_MS[0]
        self._writes: deque[Store | Cut] = deque()
        self._is_writing = self._was_full = False
        self._alarm_ns = 0
        self._claimed: tuple[int, Config | None, int] = (0, None, -1)
        ballot = self.ballots.ballot
        self.ballots.ballot = structs.replace(ballot, start=ballot.start + 1)
        self._gate: Gate[MasterOutput | Claim] = Gate(self.ballots, self._after_fsync, self._do)
        random = self.site.streams.cores
        self.core = Master(
            Identity(
                dc=self.site.dc,
                slot=self.slot,
                name=self.name,
                address="",
                spawns=self.spawns,
            ),
            self.ballots.ballot,
            self._held(),
            self.site.timings,
            random=random.randrange,
            moment=self.moment,
            window=self.site.window,
        )
        for other in self.site.master_parties:
            if other is not self:
                self.later(US, partial(self._dial, other))
        self.core.tick(self.moment)
        self.flush()

    def head_at(self, position: int) -> Head:
        """The log's end, if it ended at `position`."""
        if not position:
            return Head()
        last = self.log.entries[position - 1]
        return Head(position=position, epoch=last.epoch, link=last.link)

    def _held(self) -> StoredLog:
        log, fold = self.log, Fold()
        for entry in log.entries[: log.committed]:
            fold.evolve(self.site.oracle.decode(entry))
        history: dict[int, int] = {}
        for entry in log.entries:
            history[entry.epoch] = entry.position
        return StoredLog(
            head=self.head_at(len(log.entries)),
            committed=log.committed,
            fold=fold,
            folded=self.head_at(log.committed),
            tail=log.entries[log.committed :],
            history=list(history.items()),
            recorded_at=log.entries[-1].recorded_at if log.entries else 0,
        )

    def kill(self, *, is_power_lost: bool = False) -> None:
        """End the process at once; without power, the machine ends with it."""
        if not self.is_running:
            return
        self.end_life(is_power_lost=is_power_lost)
        self.core = None
        self.site.crashes += 1
        self.ballots.crash(self.site.streams.disk)
        if self._is_writing:
            self._leave_half_done(self._writes[0])

    def _leave_half_done(self, write: Store | Cut) -> None:
        """What was being written is there, or only its first part, or not at all."""
        random = self.site.streams.disk
        if isinstance(write, Cut):
            if random.random() < 0.5:
                self._cut(write)
            return
        kept = random.choice((0, len(write.entries), random.randint(0, len(write.entries))))
        if not self.log.is_full:
            is_whole = kept == len(write.entries)
            self.log.append(write.entries[:kept], write.committed if is_whole else 0)

    def lose_disk(self) -> None:
        """Everything on the disk is gone: an empty node of another id will begin."""
        self.ballots = BallotDisk(Ballot(node=master_id(self.slot, self.site.new_id())))
        self.log = LogDisk()
        self.is_sound = True

    # ---- links

    def _dial(self, other: Party) -> None:
        if other in self._dialled:
            return
        made = self.site.network.dial(self, other) if other.is_running else None
        if made is None:
            self._redial(other)
            return
        self._dialled[other] = self._links[made.number] = made
        self._redial_ms = REDIAL_MS[0]
        assert self.core is not None
        self.core.connected(made.number, self.moment)
        self.flush()

    def _redial(self, other: Party) -> None:
        wait_ms = self._redial_ms * (0.5 + self.site.streams.net.random() / 2)
        self._redial_ms = min(2 * self._redial_ms, REDIAL_MS[1])
        self.later(int(wait_ms * MS), partial(self._dial, other))

    def on_message(self, connection: SimulatedLink, data: bytes) -> None:
        """Take in what a server or the other master says."""
        assert self.core is not None
        self._links[connection.number] = connection
        self.core.heard(connection.number, encoding.decode_at_master(data), self.moment)
        self.flush()

    def on_end(self, connection: SimulatedLink) -> None:
        """A link is gone; one that was made here is made again."""
        assert self.core is not None
        if self._links.pop(connection.number, None) is not None:
            self.core.disconnected(connection.number, self.moment)
        other = connection.acceptor.party
        if self._dialled.get(other) is connection:
            del self._dialled[other]
            self._redial(other)
        self.flush()

    # ---- outputs

    def flush(self) -> None:
        """Do what the core wants done."""
        core = self.core
        if core is None:
            return
        for output in core.take(self.moment):
            self._gate.put(output)
            if self.core is not core:
                return
        claim = self._claim(core)
        if claim is not None:
            self._gate.put(claim)
        self._set_alarm(core)

    def _do(self, output: MasterOutput | Claim) -> None:
        match output:
            case Claim():
                self._tell_truth(output)
            case Send(connection, message):
                if connection in self._links:
                    self.site.network.send(self._links[connection], self, encoding.encode(message))
            case Store() | Cut():
                self._writes.append(output)
                self._write()
            case Fetch():
                self.later(self.site.read_ns(self.machine.slowness), partial(self._fetch, output))
            case Close(connection, reason):
                self.site.closings.append(reason)
                if connection in self._links:
                    self._close(self._links[connection])
            case Answer(token, outcome):
                self.site.command_answers[token] = outcome
            case Spawn(slot):
                self.site.spawn(slot)
            case Forward(centre, message):
                if self.site.forward is not None:
                    self.site.forward(centre, encoding.encode(message))
            case Acknowledge(delivery):
                if self.site.acknowledged is not None:
                    self.site.scheduler.later(US, partial(self.site.acknowledged, delivery))
            case Remark():
                self.site.note(self.name, output)
            case Restart() | Renew() | Halt():
                self._stop(output)

    def _close(self, connection: SimulatedLink) -> None:
        self.site.network.close(connection, self)
        self.later(0, partial(self.on_end, connection))

    def _stop(self, output: Restart | Renew | Halt) -> None:
        self.site.note(self.name, output)
        if isinstance(output, Halt):
            raise Violation("halt", f"{self.name}: {output.reason}")
        self.kill()
        if isinstance(output, Renew):
            self.lose_disk()
        self.site.scheduler.later(RESTART_MS * MS, self.start_unless_running)

    def start_unless_running(self) -> None:
        """Start, unless somebody did."""
        if not self.is_running:
            self.start()

    def _claim(self, core: Master) -> Claim | None:
        """What it takes for true now, if that is news."""
        leadership, replica = core.leadership, core.replica
        config = leadership.config if leadership is not None else None
        news = (core.epoch if config is not None else 0, config, replica.committed)
        if news == self._claimed:
            return None
        is_elected = config is not None and core.epoch != self._claimed[0]
        self._claimed = news
        link = replica.link_at(replica.committed)
        if link is None:
            return None
        return Claim(
            node=core.node,
            epoch=core.epoch,
            is_elected=is_elected,
            config=config,
            committed=replica.committed,
            link=link,
        )

    def _tell_truth(self, claim: Claim) -> None:
        """Let a claim be checked when what it rests on is durable."""
        if claim.is_elected:
            self.site.elections += 1
            self.site.note(self.name, f"leads epoch {claim.epoch}")
        self.site.oracle.hear(self, claim)

    # ---- the log

    def _after_fsync(self, call: Callable[[], None]) -> None:
        self.later(self.site.fsync_ns(self.machine.slowness), call)

    def _write(self) -> None:
        if self._writes and not self._is_writing:
            self._is_writing = True
            self._after_fsync(partial(self._written))

    def _written(self) -> None:
        assert self.core is not None
        if self.log.is_hung:
            self.later(LOOK_AGAIN_MS * MS, self._written)
            return
        if self.fails_fsync:
            self.fails_fsync = False
            self.site.note(self.name, "fsync failed")
            self.kill()
            self.site.scheduler.later(RESTART_MS * MS, self.start_unless_running)
            return
        write = self._writes[0]
        if self.log.is_full and isinstance(write, Store):
            self._find_no_room()
            return
        self._is_writing = False
        self._writes.popleft()
        self._mind_room(is_full=False)
        if isinstance(write, Store):
            self.log.append(write.entries, write.committed)
            self.core.stored(self.moment)
        else:
            count, link = self._cut(write)
            self.core.cut(count, link, self.moment)
        self._write()
        self.flush()

    def _find_no_room(self) -> None:
        self._mind_room(is_full=True)
        self.later(RETRY_FULL_MS * MS, self._written)
        self.flush()

    def _mind_room(self, *, is_full: bool) -> None:
        if is_full != self._was_full:
            assert self.core is not None
            self._was_full = is_full
            self.core.disk_full(is_full=is_full, moment=self.moment)

    def _cut(self, write: Cut) -> tuple[int, bytes]:
        self.site.oracle.is_cut(self, write.after)
        return self.log.cut(write.after)

    def _fetch(self, wanted: Fetch) -> None:
        assert self.core is not None
        log = self.log
        if wanted.after <= len(log.entries):
            entries = log.entries[wanted.after : wanted.after + wanted.limit]
            link = log.link_at(wanted.after)
            self.core.fetched(wanted, link, entries, self.moment)
            self.flush()

    # ---- time

    def _set_alarm(self, core: Master) -> None:
        if core.role == "suspect":
            return
        moment = self.moment
        due_ns = max(core.next_tick_ns(moment), moment.boot_ns + TICK_NS_MIN)
        if moment.boot_ns < self._alarm_ns <= due_ns:
            return
        self._alarm_ns = due_ns
        self.later(self.machine.wait_ns(due_ns), partial(self._ring, due_ns))

    def _ring(self, due_ns: int) -> None:
        if due_ns == self._alarm_ns and self.core is not None:
            self._alarm_ns = 0
            self.core.tick(self.moment)
            self.flush()
