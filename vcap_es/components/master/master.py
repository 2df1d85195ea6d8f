"""One master: it follows, stands for election or leads, and everything is told to it from outside.

Plain code: it is told the time and rolls no dice of its own. What it wants done comes out of
`take`, in order; what stands behind a `SaveBallot` leaves only when that ballot is durable.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from msgspec import structs

from vcap_es.components.consensus.candidacy import Candidacy
from vcap_es.components.consensus.election import Election
from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.replica import Cut, Replica, Store, StoredLog
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot, SaveBallot, Voter
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.node import seen
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.hybrid_clock import departure
from vcap_es.components.master.connections import Connections
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.outputs import (
    Elsewhere,
    Halt,
    MasterOutput,
    Renew,
    Restart,
    SwitchedOver,
)
from vcap_es.components.messages.centre import BetweenCentres, Reception, Sender
from vcap_es.components.messages.encoding import AtMaster
from vcap_es.components.messages.master import (
    Accept,
    Accepted,
    Append,
    Appended,
    BetweenMasters,
    Diverged,
    Greeting,
    Heartbeat,
    HeartbeatAnswer,
    Leading,
    Mismatch,
    Prepare,
    Prevote,
    Promise,
    Refusal,
    Transfer,
)
from vcap_es.components.messages.server import (
    PROTOCOL,
    FromMaster,
    Hello,
    Readmitted,
    Report,
    Watch,
)
from vcap_es.components.meta_handler import OperatorCommand
from vcap_es.components.primary_master.approvals import Approved
from vcap_es.components.primary_master.leadership import Leadership
from vcap_es.components.primary_master.outputs import Answer, Close, Fetch, Send, Spawn
from vcap_es.components.primary_master.primary_master import COPIED, PrimaryMaster
from vcap_es.components.secondary_master import SecondaryMaster
from vcap_es.errors import PrefixLost
from vcap_es.events.chain import Stored
from vcap_es.events.clusters import difference, obstacle
from vcap_es.events.facts import (
    ClusterCreated,
    DivergenceTruncated,
    PromotionForced,
    SecondarySpawned,
    SwitchoverStarted,
)
from vcap_es.events.facts.node import Role
from vcap_es.events.units import MS
from vcap_es.projections.states.data_centre import DataCentre

APPROVAL_MS = 600_000
"""Milliseconds that a forced promotion waits for its second operator; then it is forgotten."""

BACKLOG_MAX = 20_000
"""With more facts than this that no majority lets it commit, a leader listens to no server."""

STRANGERS_MAX = 1000
"""Servers of earlier generations that are remembered, at most, by when they knocked last.
"""

Message = BetweenMasters | FromMaster | Readmitted


class Approval(NamedTuple):
    """What an operator said of a forced promotion: it holds until then, without those voters."""

    until_ns: int
    gone: tuple[str, ...]


class Master:
    """A master in one of its roles."""

    def __init__(
        self,
        identity: Identity,
        ballot: Ballot,
        held: StoredLog,
        timings: Timings,
        *,
        random: Callable[[int], int],
        moment: Moment,
        suspicion: str = "",
        window: LogWindow = WINDOW,
    ) -> None:
        """Begin with what the disk has; `random(n)` gives 0 to n-1.

        `suspicion` says why the log may not be what was acknowledged, "" where nothing does.
        """
        self.identity, self.timings = identity, timings
        self.replica, self._window = Replica(held, window.recent), window
        self.voter = Voter(ballot, timings, moment.boot_ns)
        self.secondary = SecondaryMaster(self.replica, self.voter)
        self.primary: PrimaryMaster | None = None
        self.leadership: Leadership | None = None
        self.suspicion = suspicion or _short_of(ballot, held)
        self.promotion: dict[str, Approval] = {}
        self.strangers: dict[str, Hello] = {}
        self._random = random
        self._outputs: list[MasterOutput] = []
        self._links = Connections()
        self._standing = Election(
            identity.slot,
            self.voter,
            timings,
            random=random,
            ask=lambda asked: self._tell(asked.node, asked.message),
            keep=self._outputs.append,
            doubt=self._doubt,
            remark=self._outputs.append,
            now_ns=moment.boot_ns,
        )
        self.departures: dict[int, tuple[str, int]] = {}
        """Who connected with another clock, by connection: its name, and microseconds ahead."""
        self._tokens: dict[int, None] = {}
        self._switching: int | None = None
        self._switched: int | None = None
        self._transfer_ns = 0
        self._unheard: dict[int, None] = {}
        self._alone_ns, self._spawn_delay_ms = moment.boot_ns, timings.spawn_ms
        self._is_over = False

    # ---- what is true

    @property
    def node(self) -> str:
        """This node's id."""
        return self.voter.ballot.node

    @property
    def cluster(self) -> str:
        """The cluster that it belongs to, "" while it waits to be admitted to one."""
        return self.voter.ballot.cluster

    @property
    def role(self) -> str:
        """`leading`, `standing` for election, `following`, or `suspect`."""
        if self.suspicion:
            return "suspect"
        if self.leadership is not None:
            return "leading"
        return "standing" if self._standing.is_under_way else "following"

    @property
    def state(self) -> DataCentre:
        """What is true as far as it is folded here; only a leader's is up to date."""
        return self.replica.fold.state

    @property
    def epoch(self) -> int:
        """The epoch that is led or followed, as far as is known here."""
        return self.leadership.epoch if self.leadership is not None else self.secondary.epoch

    @property
    def stamp(self) -> int:
        """The instant that stamps have come to, as far as is known here, in microseconds UTC."""
        return self.primary.now if self.primary is not None else self.replica.recorded_at

    @property
    def config(self) -> Config | None:
        """The newest configuration that is known here."""
        return self.leadership.config if self.leadership else self.voter.ballot.config

    @property
    def leader(self) -> Greeting | None:
        """Who leads, as it introduced itself; None where nobody is known to."""
        if self.leadership is not None:
            return self.greeting()
        return self._links.masters.get(self.secondary.leader)

    @property
    def masters(self) -> dict[str, Greeting]:
        """The other masters that are or were linked."""
        return self._links.masters

    @property
    def witnesses(self) -> list[str]:
        """The witnesses that are linked."""
        return self._links.witnesses

    def is_linked(self, node: str) -> bool:
        """Whether another master or a witness can be reached."""
        return self._links.has(node)

    def greeting(self, utc: int = 0) -> Greeting:
        """How this master introduces itself, and what its wall clock shows."""
        return Greeting(
            protocol=PROTOCOL,
            node=self.node,
            slot=self.identity.slot,
            name=self.identity.name,
            address=self.identity.address,
            stamp=self.voter.ballot.start,
            cluster=self.cluster,
            utc=utc,
        )

    def _leading(self) -> Leading:
        return Leading(epoch=self.epoch, node=self.node, cluster=self.cluster)

    # ---- connections

    def connected(self, connection: int, moment: Moment) -> None:
        """This node has connected to another master."""
        self._send(connection, self.greeting(moment.utc))

    def heard(self, connection: int, message: AtMaster, moment: Moment) -> None:
        """A message has come; the first one on a connection says who speaks."""
        if self._is_over:
            return
        try:
            self._hear(connection, message, moment)
        except PrefixLost as error:
            self._end(Halt(str(error)))

    def forwarded(
        self,
        delivery: int,
        sender: Sender,
        messages: Sequence[BetweenCentres],
        moment: Moment,
    ) -> Reception:
        """The primary of another data centre says something.

        If it is heard or met, `Acknowledge` of that `delivery` comes when what follows is durable.
        """
        if not self._is_serving or self._is_swamped:
            return "nobody"
        assert self.primary is not None
        return self.primary.forwarded(delivery, sender, messages, moment.utc)

    def disconnected(self, connection: int, moment: Moment) -> None:
        """A connection is gone."""
        was_way = self._links.is_way_to(connection)
        hello, node = self._links.gone(connection)
        self._unheard.pop(connection, None)
        self.departures.pop(connection, None)
        if hello is not None and self.primary is not None:
            self.primary.disconnected(connection)
        if node and not self._links.has(node):
            self._lost(node, moment)
        elif was_way and self.leadership is not None:
            self.leadership.followers.rerouted(node, moment.boot_ns)

    def _lost(self, node: str, moment: Moment) -> None:
        self.voter.lost(node)
        if self.leadership is not None:
            self.leadership.followers.unlinked(node, moment.boot_ns)
        elif node == self.secondary.leader:
            self.secondary.forget_leader()
            self._standing.hurry(moment.boot_ns)

    def _hear(self, connection: int, message: AtMaster, moment: Moment) -> None:
        if isinstance(message, Hello):
            self._hello(connection, message, moment)
            return
        if isinstance(message, Greeting):
            self._greeted(connection, message, moment)
            return
        if isinstance(message, Watch | Report):
            if self.primary is None or connection not in self._links.hellos:
                return
            if not self._is_serving or self._is_swamped:
                self._unheard[connection] = None
            else:
                self.primary.received(connection, message, moment.utc)
            return
        node = self._links.node_of(connection)
        if not node:
            self._close(connection, "say who you are first")
        elif self.suspicion:
            self._hear_suspect(message)
        else:
            self._hear_node(node, message, moment)

    def _hello(self, connection: int, hello: Hello, moment: Moment) -> None:
        trouble = _other_protocol(hello.protocol) or self._other_cluster(hello.cluster)
        if trouble and hello.cluster in self.state.primacy.before:
            self._hear_stranger(connection, hello, hello.cluster, trouble)
            return
        if not trouble and self._has_forgotten_its_cluster(hello):
            was = self.state.primacy.before[-1]
            self._hear_stranger(connection, hello, was, difference(self.cluster, was))
            return
        if trouble:
            self._close(connection, trouble)
            return
        if not self._lets_in(connection, hello, moment):
            return
        self._compare_clocks(connection, hello.name, hello.utc, moment)
        self._links.greeted_by_server(connection, hello)
        if hello.voter:
            self._send(connection, self.greeting())  # a voter must know who asks for its promise
        if self.primary is not None:
            self._send(connection, self._leading())

    def _compare_clocks(self, connection: int, name: str, utc: int, moment: Moment) -> None:
        """Nothing follows from it but words: nobody can tell which of two clocks is right."""
        self.departures.pop(connection, None)
        if ahead := departure(utc, moment.utc):
            self.departures[connection] = name, ahead

    def _lets_in(self, connection: int, hello: Hello, moment: Moment) -> bool:
        """Whether a server is not refused by who leads here: others hear of nobody who is.

        Its line is closed at once, and not when something is committed: it may be the witness that
        is needed for that, of which an older line is not known to be broken. It comes again.
        """
        if self.primary is None:
            return True
        self.primary.received(connection, hello, moment.utc)
        if not self.primary.has_let_in(connection, hello.incarnation):
            self._close(connection, COPIED)
            return False
        self._see(hello.incarnation, hello.name, "server", hello.address, hello.stamp, moment)
        return True

    def _has_forgotten_its_cluster(self, hello: Hello) -> bool:
        """Whether a server that names none was given something before the log was restored."""
        if hello.cluster or self.primary is None or not self.state.primacy.before:
            return False
        return self.primary.locals.was_given(hello.incarnation)

    def _hear_stranger(self, connection: int, hello: Hello, was: str, trouble: str) -> None:
        """A server of a generation before is refused, until an operator has readmitted it."""
        if self.primary is not None and hello.incarnation in self.state.primacy.readmitted:
            readmitted = Readmitted(
                incarnation=hello.incarnation, was=hello.cluster, cluster=self.cluster
            )
            self.primary.afterwards(Send(connection, readmitted))  # it is not known elsewhere yet
            return
        self.strangers.pop(hello.incarnation, None)
        self.strangers[hello.incarnation] = structs.replace(hello, cluster=was)
        if len(self.strangers) > STRANGERS_MAX:
            del self.strangers[next(iter(self.strangers))]
        self._close(connection, f"{trouble}; an operator can readmit {hello.name}")

    def _greeted(self, connection: int, greeting: Greeting, moment: Moment) -> None:
        trouble = self._trouble(greeting)
        if trouble:
            self._close(connection, trouble)
            return
        self._compare_clocks(connection, greeting.name, greeting.utc, moment)
        is_new = self._links.greeted_by_master(connection, greeting)
        if is_new:
            self._send(connection, self.greeting(moment.utc))
        if self.leadership is not None:
            self._send(connection, self._leading())
            if is_new:
                self.leadership.followers.linked(greeting.node, moment.boot_ns)
                self._spawn_delay_ms = self.timings.spawn_ms
            self._see(
                greeting.node, greeting.name, "master", greeting.address, greeting.stamp, moment
            )

    def _trouble(self, greeting: Greeting) -> str:
        trouble = _other_protocol(greeting.protocol) or self._other_cluster(greeting.cluster)
        if trouble:
            return trouble
        if greeting.node == self.node:
            return "you are me: one directory serves one process"
        known = self._links.masters.get(greeting.node)
        if known is not None and greeting.stamp < known.stamp:
            return (
                f"this is start {greeting.stamp} of {greeting.name}, after its start {known.stamp}:"
                " its directory is an older copy; move it away, and start with an empty one"
            )
        if greeting.slot == self.identity.slot:
            return f"slot {greeting.slot} is mine: give the other master the other slot"
        return ""

    def _other_cluster(self, theirs: str) -> str:
        """Why who is of the cluster `theirs` has no business here; "" where it may have."""
        return obstacle(self.cluster, theirs)

    def _join_cluster_of(self, leader: str) -> None:
        """An empty store joins the first cluster whose leader speaks to it, and no other one."""
        known = self._links.masters.get(leader)
        if self.cluster or known is None or not known.cluster:
            return
        self._outputs.append(self.voter.join(known.cluster))
        for connection, theirs in self._links.part_with_others(known.cluster).items():
            self._close(connection, self._other_cluster(theirs))

    def _see(
        self, node: str, name: str, role: Role, address: str, stamp: int, moment: Moment
    ) -> None:
        """Note on the log where a node is reached, if that is news."""
        assert self.primary is not None
        fact = seen(self.state, node=node, name=name, role=role, address=address, stamp=stamp)
        if fact is not None:
            self.primary.note(fact, moment.utc)

    # ---- what nodes say

    def _hear_suspect(self, message: AtMaster) -> None:
        """Whose log is not sound votes for nobody; with a leader there, it can be made anew."""
        if isinstance(message, Heartbeat | Append | Leading):
            self._end(Renew(self.suspicion))

    def _hear_node(self, node: str, message: AtMaster, moment: Moment) -> None:
        match message:
            case Append():
                self._append(node, message, moment)
            case Appended() if self.leadership is not None:
                self.leadership.appended(node, message, moment.boot_ns)
            case Mismatch() if self.leadership is not None:
                self.leadership.mismatched(node, message, moment.boot_ns)
            case Heartbeat():
                self._heartbeat(node, message, moment)
            case HeartbeatAnswer() if self.leadership is not None:
                self.leadership.answered(node, message, moment.boot_ns)
            case Prevote() | Prepare() | Accept():
                self._vote(node, message, moment)
            case Promise():
                won = self._standing.promised(node, message, moment.boot_ns)
                self._lead_if_won(won, moment)
            case Accepted():
                self._accepted(node, message, moment)
            case Refusal():
                self._refused(node, message, moment)
            case Diverged() if self.primary is not None and message.epoch == self.epoch:
                self._note_divergence(node, message, moment)
            case Transfer():
                self._transferred(node, message, moment)
            case _:
                pass  # late news of a role that this master has no more

    def _append(self, node: str, message: Append, moment: Moment) -> None:
        if self._follow(node, message.epoch, message.committed, moment):
            for output in self.secondary.append(message):
                self._reply(node, output)

    def _heartbeat(self, node: str, message: Heartbeat, moment: Moment) -> None:
        if self._follow(node, message.epoch, message.committed, moment):
            self._outputs += self.secondary.heartbeat(message)
            self._tell(node, HeartbeatAnswer(epoch=message.epoch, sent_ns=message.sent_ns))

    def _follow(self, node: str, epoch: int, committed: int, moment: Moment) -> bool:
        """Whether `node` leads `epoch` as far as this master may believe; then it is followed."""
        self._join_cluster_of(node)
        kept = self.voter.hears(node, epoch, committed, moment.boot_ns)
        if kept is None:
            self._tell(node, Refusal(epoch=epoch, promised=self.voter.ballot.promised))
            return False
        self._outputs += kept
        self._heed_promise(moment)
        if self._is_over:
            return False
        self._standing.led(epoch, moment.boot_ns)
        self.promotion.clear()  # somebody leads: that is not what was approved
        self.secondary.heard_of(node, epoch)
        self._tell_switched()
        return True

    def _tell_switched(self) -> None:
        """Who asked for the switchover hears that another master leads."""
        leader, token = self.leader, self._switched
        if token is not None and leader is not None:
            self._switched = None
            outcome = SwitchedOver(leader=leader.name, address=leader.address)
            self._outputs.append(Answer(token, outcome))

    def _give_up_switched(self, moment: Moment) -> None:
        """Nobody is heard to lead: who asked for the switchover must not wait for that for ever."""
        if self._switched is not None and moment.boot_ns >= self._transfer_ns:
            token, self._switched = self._switched, None
            self._answer_elsewhere(token)

    def _vote(self, node: str, message: Prevote | Prepare | Accept, moment: Moment) -> None:
        if isinstance(message, Accept):
            self._join_cluster_of(node)
        for output in self.voter.heard(node, message, moment.boot_ns):
            if isinstance(output, SaveBallot):
                self._outputs.append(output)
            else:
                self._tell(node, output)
        self._heed_promise(moment)

    def _heed_promise(self, moment: Moment) -> None:
        """A higher epoch was promised: stop leading, standing or following a lower one."""
        promised = self.voter.ballot.promised
        self._standing.outbid(promised)
        if self.leadership is not None and promised > self.leadership.epoch:
            self._step_down(f"epoch {promised} was promised", moment)
        if promised > self.secondary.epoch and self.secondary.leader:
            self.secondary.forget_leader()
            self._standing.put_off(moment.boot_ns)

    def _accepted(self, node: str, message: Accepted, moment: Moment) -> None:
        if self.leadership is not None:
            self.leadership.accepted(node, message.epoch, message.version)
        else:
            won = self._standing.accepted(node, message, moment.boot_ns)
            self._lead_if_won(won, moment)

    def _refused(self, node: str, message: Refusal, moment: Moment) -> None:
        told: dict[str, str | int] = {"by": node, "epoch": message.epoch}
        self._outputs.append(Remark("refused", told | {"promised": message.promised}))
        self._standing.refused(message.promised, moment.boot_ns)
        if self.leadership is not None and message.promised > self.leadership.epoch:
            self._step_down(f"a voter has promised epoch {message.promised}", moment)

    def _note_divergence(self, node: str, message: Diverged, moment: Moment) -> None:
        assert self.primary is not None
        fact = DivergenceTruncated(
            node=node, after=message.after, count=message.count, link=message.link
        )
        self.primary.note(fact, moment.utc)

    # ---- the disk

    def stored(self, moment: Moment) -> None:
        """The oldest `Store` is durable."""
        del moment
        for answer in self.secondary.stored():
            self._tell(self.secondary.leader, answer)

    def cut(self, count: int, link: bytes, moment: Moment) -> None:
        """The oldest `Cut` is done: so many events were set aside, the last with that link."""
        del moment
        diverged = self.secondary.was_cut(count, link)
        if self.secondary.leader:
            self._tell(self.secondary.leader, diverged)

    def fetched(self, wanted: Fetch, link: bytes, entries: list[Stored], moment: Moment) -> None:
        """What a `Fetch` asked for, with the link of the event at its `after`."""
        if self.leadership is not None:
            self.leadership.fetched(wanted, link, entries, moment.boot_ns)

    def disk_full(self, *, is_full: bool, moment: Moment) -> None:
        """The oldest `Store` finds no room, and will be tried again; or it found some.

        A leader hands over to who has room; alone, it acknowledges nothing until there is.
        """
        if self.leadership is None:
            return
        self.leadership.is_full = is_full
        if is_full:
            self._leave_to_partner("the disk is full", moment)

    def _leave_to_partner(self, reason: str, moment: Moment) -> None:
        """Whoever is in sync, and linked, shall lead at once."""
        assert self.leadership is not None
        partner = self.leadership.partner
        if partner is not None and partner.is_linked:
            self._tell(partner.node, Transfer(epoch=self.epoch))
            self._step_down(reason, moment)

    # ---- operators

    def command(
        self,
        token: int,
        command: OperatorCommand,
        actor: str,
        correlation: str,
        moment: Moment,
    ) -> None:
        """An operator asks for something: `Done`, `Denied` or `Elsewhere` will be the answer."""
        if self._is_led_here(token):
            assert self.primary is not None
            self.primary.command(token, command, actor, correlation, moment.utc)

    def read(self, token: int, view: Callable[[DataCentre], object]) -> None:
        """What `view` gives, answered when all that it saw is committed; or `Elsewhere`."""
        if self._is_led_here(token):
            assert self.primary is not None
            self.primary.read(token, view)

    def pass_stamp(self, token: int, stamp: int, moment: Moment) -> None:
        """Let what is recorded later be stamped `stamp` or more: None, `Denied` or `Elsewhere`."""
        if self._is_led_here(token):
            assert self.primary is not None
            self.primary.pass_stamp(token, stamp, moment.utc)

    def switch_over(self, token: int, actor: str, moment: Moment) -> None:
        """Hand over to the other master: `SwitchedOver`, `Denied` or `Elsewhere`."""
        if not self._is_led_here(token):
            return
        assert self.primary is not None
        partner = self.leadership.partner if self.leadership is not None else None
        if partner is None or not partner.is_linked:
            del self._tokens[token]
            detail = "no secondary master is in sync: start one and wait until it is"
            self._outputs.append(Answer(token, Denied(code="not_in_sync", detail=detail)))
            return
        self.primary.note(SwitchoverStarted(to=partner.node), moment.utc, actor)
        self._switching = token
        self._transfer_ns = moment.boot_ns + self.timings.transfer_ms * MS

    def approve_promotion(
        self, token: int, operator: str, moment: Moment, gone: Collection[str] = ()
    ) -> None:
        """An operator says that this master shall lead, though acknowledged events may be lost.

        With the second operator, within ten minutes, it stands for election. `gone` are voters
        that both say are gone for good: it stands without them, and they vote no more.
        """
        self.promotion = {
            each: said for each, said in self.promotion.items() if said.until_ns > moment.boot_ns
        }
        if self.leadership is not None:
            detail = "this master leads already: nothing needs to be forced"
            self._outputs.append(Answer(token, Denied(code="leads_already", detail=detail)))
            return
        if self.voter.ballot.config is None or not self.replica.end.position:
            detail = "this master has nothing to lead with: it was never admitted, or has no event"
            self._outputs.append(Answer(token, Denied(code="never_admitted", detail=detail)))
            return
        until_ns = moment.boot_ns + APPROVAL_MS * MS
        self.promotion[operator] = Approval(until_ns, tuple(sorted(gone)))
        is_forced = self._is_forced(moment)
        approved = Approved(approved_by=list(self.promotion), is_under_way=is_forced)
        self._outputs.append(Answer(token, approved))
        if is_forced:
            self.suspicion = ""
            self._stand(moment)

    def _is_forced(self, moment: Moment) -> bool:
        """Whether two operators want the same, and nobody has led since they said so."""
        wanted = [said for said in self.promotion.values() if said.until_ns > moment.boot_ns]
        return len(wanted) > 1 and len({said.gone for said in wanted}) == 1

    def _is_led_here(self, token: int) -> bool:
        self._tokens[token] = None
        if self._is_serving:
            return True
        self._answer_elsewhere(token)
        return False

    @property
    def _is_serving(self) -> bool:
        return self.primary is not None and self._switching is None and not self._is_over

    @property
    def _is_swamped(self) -> bool:
        """Whether much was decided that cannot be committed: servers will tell it again."""
        if self.primary is None or self.leadership is None or self.leadership.is_active:
            return False
        return self.primary.backlog > BACKLOG_MAX

    def _answer_elsewhere(self, token: int) -> None:
        self._tokens.pop(token, None)
        leader = self.leader if self.leadership is None else None
        name, address = (leader.name, leader.address) if leader else ("", "")
        self._outputs.append(Answer(token, Elsewhere(leader=name, address=address)))

    # ---- time

    def tick(self, moment: Moment) -> None:
        """Time has passed."""
        if self._is_over:
            return
        self._give_up_switched(moment)
        if self.suspicion:
            return
        if self.leadership is not None:
            self._lead_on(moment)
        elif moment.boot_ns >= self._standing.due_ns:
            self._stand(moment)

    def next_tick_ns(self, moment: Moment) -> int:
        """When `tick` is wanted next, on the boot clock."""
        if self.suspicion or self._is_over:
            return moment.boot_ns + self.timings.heartbeat_ms * MS
        if self.leadership is None or self.primary is None:
            wanted = self._standing.due_ns
            if self._switched is not None:
                wanted = min(wanted, self._transfer_ns)
            return max(wanted, moment.boot_ns)
        wanted = self.leadership.next_tick_ns
        due = self.primary.next_tick(moment.utc)
        if due is not None:
            wanted = min(wanted, moment.boot_ns + (due - moment.utc) * 1000)
        return max(wanted, moment.boot_ns)

    def take(self, moment: Moment) -> list[MasterOutput]:
        """Everything that is to be done now, in order."""
        if self.leadership is not None and not self._is_over:
            self.leadership.go_on(moment.boot_ns, moment.utc)
            self._hand_over()
        outputs = self._outputs[:]
        self._outputs.clear()  # the leadership appends to this very list
        for output in outputs:
            if isinstance(output, Answer):
                self._tokens.pop(output.token, None)
        return outputs

    # ---- leading

    def _lead_on(self, moment: Moment) -> None:
        assert self.leadership is not None
        assert self.primary is not None
        self.leadership.tick(moment.boot_ns, self._links.witnesses)
        if self.leadership.is_held_up(moment.boot_ns):
            self._leave_to_partner("the disk does not answer", moment)
            return
        self._listen_again()
        if self.leadership.is_active and self._switching is None:
            self.primary.tick(moment.utc)
            self._spawn_if_alone(moment)
        if self._switching is not None and moment.boot_ns > self._transfer_ns:
            token, self._switching = self._switching, None
            self._refuse_switchover(token)

    def _refuse_switchover(self, token: int) -> None:
        detail = "the other master did not take over in time: this one leads on"
        self._outputs.append(Answer(token, Denied(code="switchover_failed", detail=detail)))

    def _listen_again(self) -> None:
        """A server takes for told what it has sent: whom nobody heard must connect anew."""
        if self._unheard and self._is_serving and not self._is_swamped:
            for connection in self._unheard:
                self._close(connection, "not everything was heard: tell it again")
            self._unheard.clear()

    def _spawn_if_alone(self, moment: Moment) -> None:
        """Start a secondary where none has been there for a while; more and more rarely."""
        assert self.leadership is not None
        assert self.primary is not None
        if any(each.is_linked for each in self.leadership.followers.known.values()):
            self._alone_ns = moment.boot_ns
            return
        if not self.identity.spawns:
            return
        if moment.boot_ns - self._alone_ns >= self._spawn_delay_ms * MS:
            self._alone_ns = moment.boot_ns
            self._spawn_delay_ms = min(2 * self._spawn_delay_ms, self.timings.spawn_max_ms)
            slot, spawn = 1 - self.identity.slot, f"{self._random(1 << 64):016x}"
            fact = SecondarySpawned(slot=slot, spawn=spawn, host=self.identity.host)
            self.primary.note(fact, moment.utc)
            self.primary.afterwards(Spawn(slot, spawn))

    def _hand_over(self) -> None:
        """Everything is on both: let the other lead. It is asked again until it does."""
        if self._switching is None or self.leadership is None:
            return
        partner = self.leadership.partner
        if partner is not None and self.leadership.is_handed_over:
            self._tell(partner.node, Transfer(epoch=self.epoch))

    def _step_down(self, reason: str, moment: Moment) -> None:
        """Lead no more. Where something was decided that is not committed, start from the log."""
        assert self.leadership is not None
        is_settled = self.leadership.is_settled
        self.leadership = self.primary = None
        switching, self._switching = self._switching, None
        for token in list(self._tokens):
            if not (is_settled and token == switching):
                self._answer_elsewhere(token)
        self._alone_ns = moment.boot_ns
        self._standing.put_off(moment.boot_ns)
        if is_settled:
            self.replica.follow()
            self._switched = switching
        else:
            self._end(Restart(reason))

    # ---- standing for election

    def _transferred(self, node: str, message: Transfer, moment: Moment) -> None:
        """The leader asks this master to lead."""
        is_led = (node, message.epoch) == (self.secondary.leader, self.secondary.epoch)
        if is_led and not self._standing.is_under_way:
            self._stand(moment, transfer=message.epoch)

    def _stand(self, moment: Moment, transfer: int = 0) -> None:
        """Ask to be elected; where it comes to nothing, again after a while."""
        is_forced = self._is_forced(moment)
        won = self._standing.begin(
            moment.boot_ns,
            position=self.replica.end.position,
            transfer=transfer,
            is_forced=is_forced,
            gone=next(iter(self.promotion.values())).gone if is_forced else (),
        )
        self._lead_if_won(won, moment)

    def _doubt(self, reason: str) -> None:
        self.suspicion = reason

    def _lead_if_won(self, candidacy: Candidacy | None, moment: Moment) -> None:
        if candidacy is not None:
            self._lead(candidacy, moment)

    def _lead(self, candidacy: Candidacy, moment: Moment) -> None:
        assert candidacy.proposal is not None
        self.secondary.forget_leader()
        self.replica.lead()
        founding = None
        if not self.replica.end.position:
            dc = self.identity.dc
            founding = ClusterCreated(cluster=self.cluster, dc=dc, master=self.node)
        self.primary = PrimaryMaster(
            self.replica.fold,
            dc=self.identity.dc,
            name=self.identity.name,
            epoch=candidacy.epoch,
            now=max(moment.utc, self.replica.recorded_at),
            founding=founding,
        )
        if candidacy.is_forced:
            self._note_force(candidacy, moment)
        self.leadership = Leadership(
            self.node,
            candidacy.proposal,
            primary=self.primary,
            replica=self.replica,
            voter=self.voter,
            timings=self.timings,
            tell=self._tell,
            emit=self._outputs.append,
            now_ns=moment.boot_ns,
            window=self._window,
        )
        self.promotion.clear()
        self._unheard.clear()  # they hear of a new epoch, and tell everything anew
        self._alone_ns = moment.boot_ns
        self._spawn_delay_ms = self.timings.spawn_ms
        if self._switched is not None:
            token, self._switched = self._switched, None
            self._refuse_switchover(token)
        self._greet_all(moment)
        self._lead_on(moment)

    def _note_force(self, candidacy: Candidacy, moment: Moment) -> None:
        assert self.primary is not None
        fact = PromotionForced(
            leader=self.node,
            approved_by=list(self.promotion),
            isr=list(candidacy.best.isr),
            committed=self.replica.end.position + candidacy.missed,
        )
        self.primary.note(fact, moment.utc)

    def _greet_all(self, moment: Moment) -> None:
        """Tell everybody who is linked, and begin with them."""
        assert self.leadership is not None
        for connection in self._links.connections:
            self._send(connection, self._leading())
        for connection, hello in list(self._links.hellos.items()):
            if not self._lets_in(connection, hello, moment):
                self._links.gone(connection)
        for each in (self.greeting(), *self._links.masters.values()):
            self._see(each.node, each.name, "master", each.address, each.stamp, moment)
            if self._links.has(each.node):
                self.leadership.followers.linked(each.node, moment.boot_ns)

    # ---- inside

    def _reply(self, node: str, output: Store | Cut | Appended | Mismatch) -> None:
        if isinstance(output, Store | Cut):
            self._outputs.append(output)
        else:
            self._tell(node, output)

    def _tell(self, node: str, message: BetweenMasters) -> None:
        """Send to a node, if it is linked."""
        connection = self._links.connection_to(node)
        if connection is not None:
            self._send(connection, message)

    def _send(self, connection: int, message: Message) -> None:
        self._outputs.append(Send(connection, message))

    def _close(self, connection: int, reason: str) -> None:
        self._outputs.append(Close(connection, reason))

    def _end(self, output: Restart | Renew | Halt) -> None:
        """Nothing more comes from this object."""
        self._is_over = True
        self._outputs.append(output)


def _other_protocol(protocol: int) -> str:
    """Why who speaks `protocol` cannot be understood; "" where it can."""
    if protocol == PROTOCOL:
        return ""
    return f"protocol {protocol} is spoken here as {PROTOCOL}: upgrade one of us"


def _short_of(ballot: Ballot, held: StoredLog) -> str:
    """What the log of a master in sync must have, and has not; "" where it is whole."""
    config, head = ballot.config, held.head
    if config is None or ballot.node not in config.isr:
        return ""
    if head.position < ballot.committed:
        return f"position {ballot.committed} was committed, and the log ends at {head.position}"
    if len(config.isr) > 1 and head.epoch < config.epoch:
        return f"this copy was in sync in epoch {config.epoch}, and the log ends in {head.epoch}"
    return ""
