"""One volumecap server of a simulated data centre: its core, its disk, its links, its answers.

It keeps a link to every master and serves from the one that leads the highest epoch it has heard
of. As a witness it votes as well, with a ballot of its own.
"""

from collections.abc import Callable, Iterable
from functools import partial

from msgspec import structs

from vcap_es.components.consensus.voter import Ballot, SaveBallot, Voter
from vcap_es.components.decisions.primacy import witness_id
from vcap_es.components.messages import encoding
from vcap_es.components.messages import server as messages
from vcap_es.components.messages.client import Cancel, Command, Idempotency, Refund
from vcap_es.components.messages.master import (
    FromVoter,
    Greeting,
    Leading,
    ToVoter,
)
from vcap_es.components.messages.server import FromMaster, FromServer, Hello
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.components.volumecap_server.keys.ledger import SECRET_BYTES
from vcap_es.components.volumecap_server.keys.records import KeyEntry
from vcap_es.components.volumecap_server.leader_tracker import LeaderTracker
from vcap_es.components.volumecap_server.slices.journal import Begun
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import (
    Abandon,
    DropKeys,
    Reply,
    RewriteKeys,
    SendToMaster,
    TurnKeys,
    Write,
    WriteKeys,
)
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.events.units import MS
from vcap_es.sim.environment.disks import BOOT, BallotDisk, Disk
from vcap_es.sim.environment.gates import Gate
from vcap_es.sim.environment.network import Party, SimulatedLink
from vcap_es.sim.environment.processes import SimulatedProcess
from vcap_es.sim.environment.site import Site
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.world.promises import Life, Promises

REDIAL_MS = 20
WORKS_PER_PERIOD = 20
"""Like the shell of a server, it surveys so often in each period of its reports."""

Vote = tuple[SimulatedLink, FromVoter]


def _new_belonging() -> Belonging:
    """That of a server with an empty disk; the simulated one keeps it at once."""
    return Belonging("", lambda _: None)


class ServerProcess(SimulatedProcess):
    """One server: what it has on disk outlives its core."""

    def __init__(self, site: Site, name: str, limits: Limits, *, is_witness: bool = False) -> None:
        super().__init__(site, name)
        self.limits = limits
        self.disk = Disk()
        self.answers: dict[int, object] = {}
        self.keyed: set[int] = set()
        self.promises = Promises(name)
        self.machines_lost = 0
        self.undone: list[str] = []
        self.incarnations: list[str] = []
        self.abandoned = ""
        self.dies_after: int | None = None
        self.ballots: BallotDisk | None = None
        self.voter: Voter | None = None
        if is_witness:
            self.ballots = BallotDisk(Ballot(node=witness_id(name, site.new_id())))
        site.oracle.votes.append(lambda: self.ballots.ballot if self.ballots is not None else None)
        self._work_ns = limits.report_ms * MS // WORKS_PER_PERIOD
        self.belonging = _new_belonging()
        self.start(same_boot=True)

    # ---- life and death

    def start(self, *, same_boot: bool) -> None:
        """Start from what the disk has."""
        self.begin_life()
        if not same_boot:
            self.machines_lost += 1
            self.disk.lose_power(self.site.streams.disk)
            self.machine.boot()
        journal = self.disk.read(
            same_boot=same_boot,
            limits=self.limits,
            now_ns=self.now_ns,
            secret=self.site.streams.secrets.randbytes(SECRET_BYTES),
        )
        begun = Begun(
            incarnation=journal.incarnation or self.new_incarnation(),
            start=journal.start + 1,
            session=f"session{self.lives}",
            boot=BOOT,
        )
        journal.fold(begun)
        self.disk.rewrite(journal)
        if begun.incarnation not in self.incarnations:
            self.incarnations.append(begun.incarnation)
        self.core = VolumecapServer(journal, self.disk.cells, self.limits)
        self._links: dict[Party, SimulatedLink] = {}
        self._nodes: dict[SimulatedLink, str] = {}
        self._serving: SimulatedLink | None = None
        self._followed = LeaderTracker()
        self._alarm_ns = 0
        self._start_voting()
        for master in self.site.master_parties:
            self.later(1000, partial(self._dial, master))
        self.later(self._work_ns, self._work)

    def new_incarnation(self) -> str:
        """The id that an empty journal is begun with."""
        return f"{self.name}-{self.site.new_id()}"

    def _start_voting(self) -> None:
        if self.ballots is None:
            return
        ballot = self.ballots.ballot
        self.ballots.ballot = structs.replace(ballot, start=ballot.start + 1)
        self.voter = Voter(self.ballots.ballot, self.site.timings, self.now_ns)
        self._gate: Gate[Vote] = Gate(self.ballots, self._after_fsync, self._cast)

    def kill(self, *, is_power_lost: bool = False) -> None:
        """End the process at once; without power, the machine ends with it."""
        if not self.is_running:
            return
        self.end_life(is_power_lost=is_power_lost)
        self.promises.dies(self.core)
        self._serving = None
        if self.ballots is not None:
            self.ballots.crash(self.site.streams.disk)

    def restart(self, *, same_boot: bool = True) -> None:
        """Kill the process and start it again; without the same boot, the machine was lost."""
        self.kill()
        self.start(same_boot=same_boot)

    def start_unless_running(self) -> None:
        """Start, unless it runs; where the machine was lost, from what outlived it."""
        if not self.is_running:
            self.start(same_boot=self.machine.is_up)

    def start_anew(self) -> None:
        """Put the journal aside and begin a new one."""
        self.disk, self.abandoned = Disk(), ""
        self.start(same_boot=True)

    def lose_disk(self) -> None:
        """Everything on the disk is gone: another incarnation and another witness will begin."""
        self.disk, self.belonging = Disk(), _new_belonging()
        if self.ballots is not None:
            self.ballots = BallotDisk(Ballot(node=witness_id(self.name, self.site.new_id())))

    # ---- links

    @property
    def connection(self) -> int:
        """The number of the connection to the master that it serves from; 0: none."""
        return self._serving.number if self._serving is not None else 0

    @property
    def serves_from(self) -> Party | None:
        """The master that it serves from, if it is linked to one."""
        return None if self._serving is None else self._serving.acceptor.party

    def disconnect(self) -> None:
        """Break all links; they are made again a little later."""
        for master in list(self._links):
            self.site.network.reset(self, master)

    def _dial(self, master: Party) -> None:
        if master in self._links:
            return
        made = self.site.network.dial(self, master) if master.is_running else None
        if made is None:
            self._redial(master)
            return
        self._links[master] = made
        hello = Hello(
            protocol=messages.PROTOCOL,
            incarnation=self.core.incarnation,
            session=f"session{self.lives}",
            name=self.name,
            address="",
            voter=self.voter.ballot.node if self.voter is not None else "",
            stamp=self.lives,
            cluster=self.belonging.cluster,
            committed=self.voter.committed if self.voter is not None else 0,
        )
        self._send(made, hello)

    def _redial(self, master: Party) -> None:
        wait_ms = REDIAL_MS * (1 + self.site.streams.net.random())
        self.later(int(wait_ms * MS), partial(self._dial, master))

    def _send(self, connection: SimulatedLink, message: FromServer | FromVoter) -> None:
        self.site.network.send(connection, self, encoding.encode(message))

    def on_end(self, connection: SimulatedLink) -> None:
        """A link is gone: it is made again, and its master is not the leader any more."""
        _, there = connection.sides(self)
        if self._links.get(there.party) is connection:
            del self._links[there.party]
            self._redial(there.party)
        node = self._nodes.pop(connection, "")
        if self.voter is not None and node and node not in self._nodes.values():
            self.voter.lost(node)
        if self._followed.gone(connection.number):
            self._serving = None
            self.core.disconnected()
            self.flush()

    def on_message(self, connection: SimulatedLink, data: bytes) -> None:
        """Take in what a master says."""
        message = encoding.decode_at_server(data)
        if isinstance(message, Greeting | Leading) and self.belonging.obstacle(message.cluster):
            self.site.network.close(connection, self)
            self.later(0, partial(self.on_end, connection))
            return
        match message:
            case Leading():
                self.belonging.join(message.cluster)
                self._nodes[connection] = message.node
                self._heed(connection, message.epoch)
            case Greeting():
                self._nodes[connection] = message.node
            case messages.Readmitted():
                self.later(0, partial(self._move, message))
            case messages.Keyring() | messages.NodeDirectory():
                pass
            case messages.Grants() | messages.Broadcast():
                self.received(connection.number, message)
            case _:
                self._vote(connection, message)

    def _move(self, message: messages.Readmitted) -> None:
        """Begin again as a server of the restored cluster, and as a witness that never voted."""
        if self.belonging.obstacle_to_moving(message, self.core.incarnation):
            return
        self.kill()
        if self.ballots is not None:
            self.ballots = BallotDisk(Ballot(node=witness_id(self.name, self.site.new_id())))
        self.belonging.move(message)
        self.start(same_boot=True)

    def received(self, connection: int, message: FromMaster) -> None:
        """The master that it serves from has said something; others are not listened to."""
        if self.is_running and connection and connection == self.connection:
            self.core.received(message, self.now_ns)
            self.flush()

    def _heed(self, connection: SimulatedLink, epoch: int) -> None:
        """A master says that it leads: who leads the latest epoch is served from."""
        if not self._followed.leads(connection.number, epoch):
            return
        if self._serving is not None:
            self.core.disconnected()
        self._serving = connection
        self.core.connected(self.now_ns)
        self.flush()

    # ---- voting

    def _vote(self, connection: SimulatedLink, message: ToVoter) -> None:
        if self.voter is None:
            return
        sender = self._nodes.get(connection, "")
        for output in self.voter.heard(sender, message, self.now_ns):
            self._gate.put(output if isinstance(output, SaveBallot) else (connection, output))

    def _cast(self, vote: Vote) -> None:
        self._send(*vote)

    def _after_fsync(self, call: Callable[[], None]) -> None:
        self.later(self.site.fsync_ns(self.machine.slowness), call)

    # ---- clients

    def submit(
        self, command: Command, idempotency: Idempotency | None = None, owner: str = ""
    ) -> int:
        """Ask something; the token under which the answer will be found."""
        token = next(self.site.tokens)
        if idempotency is not None:
            self.keyed.add(token)
            self.core.tick(self.now_ns)
            self.promises.asks(token, owner, idempotency, self.core, self._life)
        if isinstance(command, Cancel | Refund):
            self.undone.append(command.id)
        self.core.submit(token, command, idempotency, self.now_ns, owner)
        self.flush()
        return token

    # ---- the shell

    @property
    def _life(self) -> Life:
        return self.machines_lost, self.core.incarnation

    def _work(self) -> None:
        """What the shell does every now and then."""
        self.core.tick(self.now_ns)
        self.core.holdings.survey(self.now_ns)
        if self.core.holdings.is_hungry:
            self.core.holdings.repeat(self.now_ns)
        self.flush()
        self.later(self._work_ns, self._work)

    def flush(self) -> None:
        """Do what the core wants done."""
        outputs = self.core.take(self.now_ns)
        for output in outputs:
            if self._is_dying():
                self.kill()
                return
            match output:
                case Write(entries, ticket):
                    self.disk.write(entries)
                    if ticket:
                        self._fsync(ticket)
                case WriteKeys(keys):
                    self.disk.write_keys(keys)
                case TurnKeys(number, begun):
                    self.disk.turn_keys(number, begun)
                case DropKeys(number):
                    self.disk.drop_keys(number)
                case RewriteKeys(number, pieces):
                    self._rewrite_keys(number, pieces)
                case SendToMaster(message):
                    if self._serving is not None:
                        self._send(self._serving, message)
                case Reply(token, outcome):
                    self.answers[token] = outcome
                    self.promises.answers(token, outcome, self.core, self._life)
                case Abandon(reason):
                    self._abandon(reason)
                    return
        self._set_alarm()
        if outputs:
            for watch in self.site.watchers:
                watch(self)

    def _is_dying(self) -> bool:
        """A test may let the process die between any two outputs."""
        if self.dies_after is None:
            return False
        self.dies_after -= 1
        if self.dies_after >= 0:
            return False
        self.dies_after = None
        return True

    def _abandon(self, reason: str) -> None:
        self.abandoned = reason
        self.kill()
        if not self.site.may_abandon:
            raise Violation("abandoned", f"{self.name}: {reason}")

    def _rewrite_keys(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        """Write all that is kept of keys into one file, a little later."""
        disk = self.disk

        def done() -> None:
            disk.rewrite_keys(number, pieces)
            self.core.keys.rewritten(number)
            self.flush()

        self.later(self.site.fsync_ns(self.machine.slowness), done)

    def _fsync(self, ticket: int) -> None:
        """Make the journal durable a little later."""
        disk, written = self.disk, self.disk.written

        def done() -> None:
            disk.sync(written)
            self.core.written(ticket, self.now_ns)
            self.flush()

        self.later(self.site.fsync_ns(self.machine.slowness), done)

    def _set_alarm(self) -> None:
        alarm_ns = self.core.holdings.next_alarm_ns()
        if alarm_ns is None or self.now_ns < self._alarm_ns <= alarm_ns:
            return
        delay_ns = self.machine.wait_ns(alarm_ns)
        if delay_ns < self._work_ns:
            self._alarm_ns = alarm_ns
            self.later(delay_ns, self._ring)

    def _ring(self) -> None:
        self.core.tick(self.now_ns)
        self.flush()
