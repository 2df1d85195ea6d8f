"""The primary master: composes the handlers, and lets nothing out before it is durable.

Output commit, in one place: whatever is decided waits for a commit round that started after it
was decided. `begin_round` hands out the facts to append; `round_committed` releases the outputs.
A failed append is not reported here: the process stops and comes back by replay.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from vcap_es.components.decisions.centre import NEEDS_TWO
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import CapCommand
from vcap_es.components.decisions.restore import AcceptLoss
from vcap_es.components.hybrid_clock import AHEAD_US, HybridClock
from vcap_es.components.interval_handler import IntervalHandler
from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.local_handler.other_centres import NoOtherCentres
from vcap_es.components.messages.centre import (
    BetweenCentres,
    Clock,
    CommandAnswer,
    CommandRequest,
    Members,
    Reception,
    Sender,
)
from vcap_es.components.messages.server import (
    PROTOCOL,
    FromServer,
    Hello,
    Report,
    Watch,
)
from vcap_es.components.meta_handler import MetaHandler, OperatorCommand
from vcap_es.components.primary_master.approvals import Approvals
from vcap_es.components.primary_master.confirmations import Confirmations
from vcap_es.components.primary_master.outputs import (
    Acknowledge,
    Answer,
    Close,
    CommitRound,
    Done,
    Forward,
    ForwardedBy,
    PrimaryOutput,
    Send,
)
from vcap_es.components.remote_handler.command_forwarder import CommandForwarder
from vcap_es.components.remote_handler.remote_handler import RemoteHandler
from vcap_es.errors import SuspectServer
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import (
    ApiKeyCreated,
    ApiKeyRevoked,
    CentreChanged,
    CentreIdentified,
    CentreReadmitted,
    ClockPassed,
    ClusterCreated,
    EpochStarted,
    Fact,
    HoldingRecovered,
    HomeMoved,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    NodeAddressChanged,
    PlacementChanged,
    Returned,
    SpendReported,
    TemplateDefined,
    TemplateRetired,
    ToppedUp,
    TopupRecovered,
    TransferRecovered,
    WithheldReleased,
)
from vcap_es.projections.states.data_centre import DataCentre, Fold

DESKS_EVERY_US = 20_000
"""How often allocators are looked at where time alone may change something."""

PASS_EVERY_US = 1_000_000
"""An idle data centre lets its stamps pass those of the others no more often than this."""

BACKLOG_FACTS_MAX = 1000
"""With more facts than this undurable, intervals wait: servers come before the calendar."""


COPIED = "this incarnation is connected already: its journal was copied"
"""Why a second line of a server is refused, unless the first one is about to break."""


class Decided(Struct, frozen=True):
    """A command whose facts are committed up to `position`, and who asked for it."""

    asked: int | ForwardedBy
    facts: list[Fact]
    position: int


class PrimaryMaster:
    """One data centre's single writer. Plain code: it is told the time and never waits."""

    def __init__(
        self,
        fold: Fold,
        *,
        dc: str,
        name: str,
        epoch: int,
        now: int,
        founding: ClusterCreated | None = None,
        on_demand: bool = False,
    ) -> None:
        """Lead `epoch` from the folded state; `EpochStarted` is the first fact to be appended.

        On a log of a new cluster, `founding` comes before it. `on_demand`, an interval is opened
        when somebody asks for it (`open_now`), and not by time.
        """
        self.dc = dc
        self.name = name
        self.state: DataCentre = fold.state
        self._fold = fold
        self._now, self.clock = now, HybridClock(now)
        self._actor, self._correlation = name, ""
        self._sequence = self._recorded_at = self._news_at = self._wanted_stamp = 0
        self._passes_at = now
        self._drafts: list[Draft] = []
        self._outputs: list[PrimaryOutput] = []
        self._commands: list[tuple[int | ForwardedBy, int, int]] = []
        self.metas = MetaHandler(
            self.state,
            self._record,
            dc=dc,
            await_cap=lambda cap, home: self.remote.await_cap(cap, home),
        )
        self.intervals = IntervalHandler(self.state, self._record, now, on_demand=on_demand)
        self.locals = LocalHandler(self.state, self._record, self.metas.define_by_template, now)
        self.remote = RemoteHandler(
            self.state,
            self._record,
            dc=dc,
            local=self.locals,
            define=self.metas.define_by_template,
            now=now,
        )
        self._look_abroad()
        self._forwarder = CommandForwarder(
            self.state,
            dc=dc,
            epoch=epoch,
            tell=lambda centre, message: self._outputs.append(Forward(centre, message)),
            conclude=lambda token, answered: self._outputs.append(
                Answer(
                    token,
                    Done(
                        facts=answered.facts,
                        position=answered.position,
                        unheard=answered.unheard,
                    ),
                )
            ),
            deny=lambda token, denied: self._outputs.append(Answer(token, denied)),
        )
        self._epoch, self._approvals = epoch, Approvals()
        self._confirmations = Confirmations[Decided](self.locals, self.remote.serving)
        if founding is not None:
            self._record(founding)
        self._record(EpochStarted(epoch=epoch, leader=name))

    # inputs

    def received(self, connection: int, message: FromServer, now: int) -> None:
        """A message has come from a volumecap server."""
        self._advance(now)
        try:
            self._take(connection, message)
        except SuspectServer as suspicion:
            self._outputs.append(Close(connection, str(suspicion)))
        finally:
            self._actor = self.name

    def has_let_in(self, connection: int, incarnation: str) -> bool:
        """Whether a server that said hello on `connection` is served there."""
        server = self.locals.servers.get(incarnation)
        return server is not None and server.connection == connection

    def _take(self, connection: int, message: FromServer) -> None:
        match message:
            case Hello():
                self._hello(connection, message)
            case Watch():
                self.locals.watch(connection, message, self._now)
            case Report():
                self._actor = message.incarnation
                self.locals.report(connection, message, self._now)
                self._release()

    def forwarded(
        self,
        delivery: int,
        sender: Sender,
        messages: Sequence[BetweenCentres],
        now: int,
    ) -> Reception:
        """Messages have come as `delivery` from the primary master of another data centre."""
        self._advance(now)
        meeting = self.remote.meet(sender, self._now)
        if meeting in ("mistaken", "namesake"):
            return "namesake"
        if meeting == "restored":
            for each in messages:
                if isinstance(each, Members):
                    self.remote.knocked(sender.centre, each, self._now)
        if meeting == "known":
            self._take_forwarded(sender.centre, messages)
        self._outputs.append(Acknowledge(delivery))
        return "heard" if meeting == "known" else "met"

    def _take_forwarded(self, centre: str, messages: Sequence[BetweenCentres]) -> None:
        for message in messages:
            match message:
                case CommandRequest():
                    self._asked(centre, message)
                case CommandAnswer():
                    self._forwarder.answered(centre, message)
                case Clock(stamp=stamp, recorded=recorded):
                    self._hear_clock(centre, stamp, recorded)
                case Members() if centre in self.clock.ahead:
                    pass  # who takes part from when on must have its place in the order
                case _:
                    self.remote.received(centre, message, self._now)
        self._release()

    def _hear_clock(self, centre: str, stamp: int, recorded: int) -> None:
        """Who is not in yet is heard too: its stamps must come before those of its part."""
        if self.state.is_lost(centre):
            return
        self.clock.hear(centre, stamp, self._now)
        if centre not in self.clock.ahead:
            self._wanted_stamp = max(self._wanted_stamp, recorded + 1)

    def _asked(self, centre: str, ask: CommandRequest) -> None:
        """Another data centre carries a command here; it has checked who may give it."""
        if centre not in self.remote.others or self._now > ask.until + AHEAD_US:
            return
        actor = f"{ask.actor}@{centre}"
        denied = self._handle(ForwardedBy(centre, ask.number), ask.command, actor, ask.correlation)
        if denied is not None:
            self._outputs.append(Forward(centre, CommandAnswer(number=ask.number, denied=denied)))

    def open_now(self, cap: str, now: int) -> None:
        """Somebody asks for `cap`: let its current interval be open, if it has one."""
        self._advance(now)
        self.intervals.open(cap, self._now)

    def disconnected(self, connection: int) -> None:
        """A connection is gone."""
        self.locals.goodbye(connection, self._now)
        self._release()

    def command(
        self,
        token: int,
        command: OperatorCommand,
        actor: str,
        correlation: str,
        now: int,
    ) -> None:
        """An operator asks for something; `token` is answered with `Done` or `Denied`.

        What two must want is answered with `Approved` where another one is still needed.
        """
        self._advance(now)
        if isinstance(command, (*NEEDS_TWO, AcceptLoss)):
            approved = self._approvals.approve(command, actor, self._now)
            if not approved.is_under_way:
                self._outputs.append(Answer(token, approved))
                return
            if isinstance(command, AcceptLoss):
                told = tuple(self.remote.all_told().items()) if command.if_told else ()
                approved_by = tuple(approved.approved_by)
                command = structs.replace(command, approved_by=approved_by, told=told)
        denied = self._handle(token, command, actor, correlation)
        if denied is None:
            return
        if denied.home and isinstance(command, CapCommand):
            self._forwarder.carry(token, denied.home, command, actor, correlation, self._now)
        else:
            self._outputs.append(Answer(token, denied))

    def _handle(
        self, asked: int | ForwardedBy, command: OperatorCommand, actor: str, correlation: str
    ) -> Denied | None:
        """Record what follows; unless it is denied, who `asked` hears when that is durable."""
        before = len(self._drafts)
        self._actor, self._correlation = actor, correlation
        try:
            denied = self.metas.handle(command)
        finally:
            self._actor, self._correlation = self.name, ""
        if denied is None:
            self._commands.append((asked, before, len(self._drafts)))
        return denied

    def read(self, token: int, view: Callable[[DataCentre], object]) -> None:
        """Somebody reads: `token` is answered with what `view` gives now, when that is durable."""
        self._outputs.append(Answer(token, view(self.state)))

    def pass_stamp(self, token: int, stamp: int, now: int) -> None:
        """Answer `token` with None when whatever is recorded later is stamped `stamp` or more."""
        self._advance(now)
        if stamp > self._now + AHEAD_US:
            ahead_s = (stamp - self._now) // 1_000_000
            detail = f"that is {ahead_s} s ahead of the clock here: set the clocks right"
            self._outputs.append(Answer(token, Denied(code="clock_ahead", detail=detail)))
            return
        self.clock.tick(stamp)
        if self._recorded_at < stamp:
            self._record(ClockPassed(stamp=stamp))
        self._outputs.append(Answer(token, None))

    def _follow_stamps(self) -> None:
        """Others have recorded later than the last event here: let their place be permanent soon.

        Passing a stamp is no news to others, so all is quiet where nothing else happens.
        """
        is_behind = self._recorded_at < self._wanted_stamp <= self._now + AHEAD_US
        if is_behind and self._now >= self._passes_at:
            self._passes_at = self._now + PASS_EVERY_US
            self.clock.tick(self._wanted_stamp)
            self._record(ClockPassed(stamp=self._wanted_stamp))

    def note(self, fact: Fact, now: int, actor: str = "") -> None:
        """Let a fact of primacy become true; `actor` asked for it, or else this master did."""
        self._advance(now)
        self._actor = actor or self.name
        try:
            self._record(fact)
        finally:
            self._actor = self.name

    def afterwards(self, output: PrimaryOutput) -> None:
        """Let `output` leave when everything decided so far is committed."""
        self._outputs.append(output)

    def tick(self, now: int) -> None:
        """Time has passed. Wanted every second at least, to hear who is silent."""
        self._advance(now)
        if len(self._drafts) < BACKLOG_FACTS_MAX:
            self.intervals.step(self._now)
        self._follow_stamps()
        self.remote.step(self._now)
        self._forwarder.step(self._now)
        for connection in self.locals.step(self._now):
            self._outputs.append(Close(connection, "this server was silent for too long"))
        self._release()

    def next_tick(self, now: int) -> int | None:
        """The instant at which `tick` is wanted next, in microseconds UTC."""
        is_busy = self.locals.busy or self._confirmations.busy
        allocators = now + DESKS_EVERY_US if is_busy else None
        remote = (self.remote.next_due(), self._forwarder.next_due())
        instants = (self.intervals.next_due(now), *remote, allocators)
        return min((each for each in instants if each is not None), default=None)

    @property
    def now(self) -> int:
        """The instant up to which time has come on this log, in microseconds UTC."""
        return self._now

    @property
    def backlog(self) -> int:
        """How many facts were decided that no commit round has taken yet."""
        return len(self._drafts)

    # commit rounds

    def begin_round(self, now: int) -> CommitRound | None:
        """Start a commit round with all that was decided so far; None where nothing waits."""
        self._advance(now)
        self.remote.look(self._now)
        sends: list[PrimaryOutput] = [Send(*each) for each in self.locals.compose(self._now)]
        sends += [Forward(*each) for each in self.remote.compose()]
        told = {each.centre for each in (*self._outputs, *sends) if isinstance(each, Forward)}
        clock = Clock(stamp=self.clock.tick(self._now), recorded=self._news_at)
        sends = [*(Forward(each, clock) for each in sorted(told)), *sends]
        if not (self._drafts or self._outputs or self._commands or sends):
            return None
        started = CommitRound(
            drafts=self._drafts, outputs=self._outputs + sends, commands=self._commands
        )
        self._drafts, self._outputs, self._commands = [], [], []
        return started

    def round_committed(self, committed: CommitRound, position: int) -> list[PrimaryOutput]:
        """The round is committed, and ends at `position` of the log: what may leave now."""
        facts = [draft.fact for draft in committed.drafts] if committed.commands else []
        answers = list[PrimaryOutput]()
        for asked, start, end in committed.commands:
            decided = Decided(asked, facts[start:end], position)
            waiting = self._confirmations.awaits(decided.facts, self._now)
            if waiting is None:
                answers.append(self._answer(decided))
            else:
                self._confirmations.wait(decided, waiting)
        return answers + committed.outputs

    def _release(self) -> None:
        """Servers have heard of changed definitions, or had their time to."""
        self._outputs += map(self._answer, self._confirmations.release(self._now))

    def _answer(self, decided: Decided) -> PrimaryOutput:
        asked, facts, position = decided.asked, decided.facts, decided.position
        unheard = [
            structs.replace(each, centre=each.centre or self.dc)
            for each in self._confirmations.unheard(facts, self._now, self._name_of)
        ]
        if isinstance(asked, int):
            return Answer(asked, Done(facts=facts, position=position, unheard=unheard))
        answered = CommandAnswer(
            number=asked.number, facts=facts, position=position, unheard=unheard
        )
        return Forward(asked.centre, answered)

    def _name_of(self, incarnation: str) -> str:
        node = self.state.nodes.get(incarnation)
        return node.name if node is not None else ""

    # inside

    def _advance(self, now: int) -> None:
        """The stamp of facts never runs backwards."""
        self._now = max(self._now, now)

    def _hello(self, connection: int, message: Hello) -> None:
        if message.protocol != PROTOCOL:
            reason = f"protocol {message.protocol} is spoken here as {PROTOCOL}: upgrade one of us"
            self._outputs.append(Close(connection, reason))
            return
        before = self.locals.servers.get(message.incarnation)
        is_let_in = self.locals.hello(connection, message, self._now)
        if is_let_in and before is not None:
            self._outputs.append(Close(before.connection, "the server has connected anew"))

    def _record(self, fact: Fact) -> None:
        """Let `fact` become true now, and durable with the next round.

        It is folded first: what cannot be folded raises here, and never comes to the log, which
        nobody could replay then.
        """
        self._fold.evolve(fact)
        self._drafts.append(
            Draft(
                event_id=self._event_id(),
                recorded_at=self.clock.tick(self._now),
                dc=self.dc,
                actor=self._actor,
                correlation=self._correlation,
                fact=fact,
            )
        )
        self._recorded_at = self.clock.stamp
        if not isinstance(fact, ClockPassed):
            self._news_at = self._recorded_at
        self._react(fact)

    def _event_id(self) -> bytes:
        """Unique for ever: an epoch has one leader, and the leader counts."""
        self._sequence += 1
        return self._epoch.to_bytes(8, "big") + self._sequence.to_bytes(8, "big")

    def _react(self, fact: Fact) -> None:
        match fact:
            case (
                MetaDefined()
                | MetaChanged()
                | MetaPaused()
                | MetaResumed()
                | MetaRetired()
                | HomeMoved()
            ):
                self.intervals.look_at(fact.cap, self._now)
                self.locals.redefined(fact.cap, self._now)
                self.remote.definition_changed(fact.cap)
                self._forwarder.learned(fact.cap)
            case MetaLearned():
                self._forwarder.learned(fact.cap)
                self.intervals.look_at(fact.cap, self._now)
                self.locals.redefined(fact.cap, self._now)
            case IntervalOpened():
                self.locals.changed(fact.cap)
                self.remote.opened(fact.cap, fact.number)
            case IntervalLearned() | IntervalRecovered():
                self.intervals.look_later(fact.cap)
                self.locals.changed(fact.cap)
            case TransferRecovered():
                self.locals.changed(fact.cap)
                self.remote.touch((fact.cap, fact.number))
            case IntervalTotalChanged() | WithheldReleased():
                self.locals.total_changed(fact.cap, fact.number, self._now)
                self.locals.changed(fact.cap)
                self.remote.total_changed((fact.cap, fact.number))
            case IntervalBounded():
                self.intervals.look_later(fact.cap)
                self.locals.changed(fact.cap)
                self.remote.touch((fact.cap, fact.number))
            case IntervalEnded():
                self.locals.ended(fact.cap, fact.number, self._now)
                self.locals.changed(fact.cap)
                self.remote.touch((fact.cap, fact.number))
            case ToppedUp() | TopupRecovered() | HoldingRecovered():
                self.locals.topped_up(fact)
                self.remote.touch((fact.cap, fact.number))
            case IntervalClosed():
                self.locals.closed(fact.cap, fact.number)
            case Returned():
                self._settle_return(fact)
            case SpendReported():
                self._settle(fact)
            case ApiKeyCreated() | ApiKeyRevoked():
                self.locals.access_changed()
            case NodeAddressChanged():
                self.locals.nodes_changed()
            case TemplateDefined() | TemplateRetired() | PlacementChanged():
                self.remote.settings_changed()
            case CentreChanged() | CentreIdentified():
                self.remote.centres_changed()
                self._look_abroad()
            case CentreReadmitted():
                self.remote.readmitted(fact.centre)
                self._look_abroad()

    def _look_abroad(self) -> None:
        """Who is alone asks nobody."""
        self.locals.abroad = self.remote if self.remote.others else NoOtherCentres()

    def _settle(self, fact: SpendReported) -> None:
        for entry in fact.entries:
            if entry.final:
                self.intervals.look_later(entry.cap)

    def _settle_return(self, fact: Returned) -> None:
        """A return after the last report may have been all that an ended interval waited for."""
        self.remote.touch((fact.cap, fact.number))
        interval = self.state.interval(fact.cap, fact.number)
        if interval is not None and interval.pool.ended:
            self.intervals.look_later(fact.cap)
