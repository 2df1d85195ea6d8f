"""What makes a primary master safe: nothing leaves it that is not on every master in sync.

It replicates each commit round and lets it out when all of `isr` have it; it changes `isr` by a
majority of the voters, alone before its first lone answer; it counts who still follows it.
"""

from collections import deque
from collections.abc import Callable, Collection

from msgspec import Struct

from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.replica import Replica, Store
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import SaveBallot, Voter
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.components.decisions.primacy import (
    Config,
    electorate,
    is_quorum,
    settled,
    wanted_voters,
    with_isr,
    with_voters,
    withdrawn,
)
from vcap_es.components.messages.master import (
    Accept,
    Append,
    Appended,
    Heartbeat,
    HeartbeatAnswer,
    Mismatch,
)
from vcap_es.components.primary_master.followers import DOUBLINGS_MAX, Follower, Followers
from vcap_es.components.primary_master.outputs import CommitRound, Fetch, PrimaryOutput
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.events.chain import Stored
from vcap_es.events.facts import ConfigDecided
from vcap_es.events.log import BATCH_EVENTS_MAX
from vcap_es.events.sealing import seal
from vcap_es.events.units import MS

ROUNDS_UNDER_WAY_MAX = 8
ENTRIES_UNDER_WAY_MAX = 1024
"""With more decided and not committed, the next round waits; the round that got there may pass."""

LAG_TO_JOIN = 1024
"""Events that a follower may lack, at most, to be waited for until it is in sync."""


class PendingRound(Struct, frozen=True, gc=False):
    """A commit round that ends at the position `end`.

    `asked` are the sequences whose answers show that each follower still followed when it began,
    which was at `begun_ns`.
    """

    round: CommitRound
    end: int
    asked: dict[str, int]
    begun_ns: int


ToFollower = Append | Accept | Heartbeat
LeaderOutput = SaveBallot | Store | Fetch | Remark | PrimaryOutput


class Leadership:
    """One epoch of one leader."""

    def __init__(
        self,
        node: str,
        config: Config,
        *,
        primary: PrimaryMaster,
        replica: Replica,
        voter: Voter,
        timings: Timings,
        tell: Callable[[str, ToFollower], None],
        emit: Callable[[LeaderOutput], None],
        now_ns: int,
        window: LogWindow = WINDOW,
    ) -> None:
        """Lead by `config`, which a majority holds."""
        self.config = config
        self.proposal: Config | None = None
        self.awaited = ""
        self._awaited_ns = 0
        self.is_full = False
        self.followers = Followers(
            config.epoch,
            replica,
            tell,
            lambda node, after, limit: emit(Fetch(config.epoch, node, after, limit)),
            patience_ns=3 * timings.heartbeat_ms * MS,
            window=window,
        )
        self._node, self._primary, self._replica, self._voter = node, primary, replica, voter
        self._timings, self._tell, self._emit = timings, tell, emit
        self._rounds: deque[PendingRound] = deque()
        self._accepted: set[str] = set()
        self._admitted = {node}
        self._proposed_ns = 0
        self._first = replica.end.position + 1
        self._answered_ns: dict[str, int] = dict.fromkeys(electorate(config), now_ns)
        self._heartbeat_ns = now_ns
        self._has_majority = True
        self._stored, self._stored_ns = replica.head.position, now_ns
        self._witnesses: Collection[str] = ()
        self._is_news = False
        primary.note(self._decided(), 0)

    # ---- what is true

    @property
    def epoch(self) -> int:
        """The epoch that is led."""
        return self.config.epoch

    @property
    def needed(self) -> set[str]:
        """Who must have an event before anybody hears of it: also who is about to be in sync."""
        proposed = self.proposal.isr if self.proposal is not None else ()
        return {*self.config.isr, *proposed, *filter(None, [self.awaited])}

    @property
    def committable(self) -> int:
        """The last position that everybody has who must have it."""
        others = self.needed - {self._node}
        return min([self._replica.head.position, *map(self._match, others)])

    @property
    def is_active(self) -> bool:
        """Whether a majority answered lately, so that this leader acknowledges what it commits."""
        return self._has_majority and not self.is_full

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and everything decided is committed."""
        at_rest = not self._rounds and not self._primary.backlog
        return at_rest and self._replica.committed == self._replica.end.position

    @property
    def partner(self) -> Follower | None:
        """The follower that is in sync, if there is one."""
        found = [each for each in self.config.isr if each != self._node]
        return self.followers.known.get(found[0]) if found else None

    @property
    def is_handed_over(self) -> bool:
        """Whether the partner has everything, durably, so that it may lead."""
        partner = self.partner
        is_equal = partner is not None and partner.match == self._replica.end.position
        return self.is_settled and is_equal

    def hindrance(self, now_ns: int) -> tuple[int, str]:
        """How many nanoseconds the oldest round has waited, and for what; (0, "") without one."""
        if not self._rounds:
            return 0, ""
        oldest = self._rounds[0]
        reasons = [] if self._has_majority else ["a majority of the voters to answer"]
        if self._replica.head.position < oldest.end:
            reasons.append("its own disk")
        for node in sorted(self.needed - {self._node}):
            if self._match(node) < oldest.end or self._confirmed(node) < oldest.asked.get(node, 0):
                reasons.append(f"{node}{' (being let in)' if node not in self.config.isr else ''}")
        return now_ns - oldest.begun_ns, ", ".join(reasons)

    def is_held_up(self, now_ns: int) -> bool:
        """Whether its own disk alone keeps it from acknowledging, and for so long that it must go.

        Voters hear it all the while, so nobody else would stand for election.
        """
        partner = self.partner
        if not self._rounds or partner is None or self._is_gone(partner, now_ns):
            return False
        oldest = self._rounds[0]
        has_it = self._replica.head.position < oldest.end <= partner.match
        since_ns = max(oldest.begun_ns, self._stored_ns)
        return has_it and now_ns - since_ns > self._timings.degrade_ms * MS

    # ---- what is heard

    def answered(self, node: str, message: HeartbeatAnswer, now_ns: int) -> None:
        """A voter or follower has heard a heartbeat."""
        self.followers.heard(node, now_ns)
        if message.epoch == self.epoch:
            before = self._answered_ns.get(node, 0)
            self._answered_ns[node] = max(before, message.sent_ns)
            self._count(now_ns)

    def accepted(self, node: str, epoch: int, version: int) -> None:
        """A node holds a configuration of this leader's, so from now on it may vote."""
        if epoch == self.epoch and node not in self._admitted:
            self._admitted.add(node)
            self._is_news = True
        if self._newest.stamp == (epoch, version):
            self._accepted.add(node)
            self._decide()

    def appended(self, node: str, message: Appended, now_ns: int) -> None:
        """A follower has copied something."""
        self.followers.appended(node, message, now_ns)
        self._is_news |= node not in self.config.isr

    def mismatched(self, node: str, message: Mismatch, now_ns: int) -> None:
        """A follower's log is another."""
        self.followers.mismatched(node, message, now_ns)

    def fetched(self, wanted: Fetch, link: bytes, entries: list[Stored], now_ns: int) -> None:
        """What a `Fetch` asked for; that of another epoch may have been set aside since."""
        if wanted.epoch == self.epoch:
            self.followers.fetched(wanted.node, wanted.after, link, entries, now_ns)

    # ---- what is done

    def tick(self, now_ns: int, witnesses: Collection[str]) -> None:
        """Time has passed: beat, ask again, and see to who is in sync. `witnesses` are linked."""
        self._witnesses = witnesses
        if self._replica.head.position > self._stored:
            self._stored, self._stored_ns = self._replica.head.position, now_ns
        self._count(now_ns)
        if now_ns >= self._heartbeat_ns:
            self._heartbeat_ns = now_ns + self._timings.heartbeat_ms * MS
            self._beat(now_ns, witnesses)
            self.followers.retry(now_ns)
        self.steer(now_ns)

    def steer(self, now_ns: int) -> None:
        """Propose the next configuration, if there should be one; one at a time."""
        self._is_news = False
        if self.proposal is None:
            wanted = self._wanted(now_ns, self._witnesses)
        else:
            wanted = withdrawn(self.proposal) if self._is_hopeless(now_ns) else None
        if wanted is not None:
            self._propose(wanted, now_ns)

    def go_on(self, now_ns: int, utc: int) -> None:
        """Let out what is committed, and begin the next round.

        Where something was decided, somebody was admitted, or a follower got on that is not in
        sync, what is to be proposed next is so at once: until both masters are in sync, and all
        vote who should, the loss of one of them stops everything.
        """
        if self._is_news:
            self.steer(now_ns)
        self._release()
        while self._may_begin:
            started = self._primary.begin_round(utc)
            if started is None:
                return
            self._begin(started, now_ns)
            self._release()

    @property
    def next_tick_ns(self) -> int:
        """When the next heartbeat is due."""
        return self._heartbeat_ns

    # ---- rounds

    @property
    def _may_begin(self) -> bool:
        under_way = self._replica.end.position - self._replica.committed
        has_room = not self._rounds or under_way < ENTRIES_UNDER_WAY_MAX
        is_free = not self._replica.is_storing and len(self._rounds) < ROUNDS_UNDER_WAY_MAX
        return self.is_active and is_free and has_room

    def _begin(self, started: CommitRound, now_ns: int) -> None:
        drafts = started.drafts
        for at in range(0, len(drafts), BATCH_EVENTS_MAX):
            part = drafts[at : at + BATCH_EVENTS_MAX]
            self._emit(self._replica.extend(seal(part, self.epoch, self._replica.end)))
        asked = {each: self._ask(each, now_ns) for each in sorted(self.needed - {self._node})}
        for node, follower in self.followers.known.items():
            if node not in asked:
                self.followers.pump(follower, now_ns)
        self._rounds.append(PendingRound(started, self._replica.end.position, asked, now_ns))

    def _ask(self, node: str, now_ns: int) -> int:
        return self.followers.ask(node, now_ns) if node in self.followers.known else 1

    def _release(self) -> None:
        self._replica.commit(max(self.committable, self._replica.committed))
        while self._rounds and self.is_active and self._is_committed(self._rounds[0]):
            done = self._rounds.popleft()
            for output in self._primary.round_committed(done.round, done.end):
                self._emit(output)

    def _is_committed(self, under_way: PendingRound) -> bool:
        """Everybody needed has it, and followed still when it had begun."""
        is_heard = all(
            self._confirmed(node) >= sequence
            for node, sequence in under_way.asked.items()
            if node in self.needed
        )
        return is_heard and under_way.end <= self._replica.committed

    def _match(self, node: str) -> int:
        follower = self.followers.known.get(node)
        return follower.match if follower is not None else 0

    def _confirmed(self, node: str) -> int:
        follower = self.followers.known.get(node)
        return follower.confirmed if follower is not None else 0

    # ---- the register

    def _wanted(self, now_ns: int, witnesses: Collection[str]) -> Config | None:
        if self.config.before:
            return settled(self.config)
        if len(self.config.isr) > 1:
            if self._is_degraded(now_ns):
                return self._without_partner(now_ns)
            self.awaited = ""
        elif (joining := self._joining(now_ns)) is not None:
            return with_isr(self.config, {self._node, joining})
        voters = self._voters(now_ns, witnesses)
        return with_voters(self.config, voters) if voters != self.config.voters else None

    def _voters(self, now_ns: int, witnesses: Collection[str]) -> tuple[str, ...]:
        """Who should vote, of those who could at once: they answer, and hold a configuration."""
        ready = self._admitted & self._answering(now_ns)
        masters = [each for each in self.config.isr if each in ready]
        return wanted_voters(self.config, masters, ready.intersection(witnesses))

    def _is_hopeless(self, now_ns: int) -> bool:
        """New voters were proposed, and have fallen silent since, so they cannot decide that."""
        if self.proposal is None or not self.proposal.before or not self._has_majority:
            return False
        is_late = now_ns - self._proposed_ns > self._timings.lead_ms * MS
        return is_late and not is_quorum(self.proposal, self._answering(now_ns))

    def _is_degraded(self, now_ns: int) -> bool:
        """The partner does not keep up, so that nothing can be acknowledged."""
        partner = self.partner
        return partner is None or self._is_gone(partner, now_ns)

    def _without_partner(self, now_ns: int) -> Config | None:
        """Alone; or where that is not wanted, with another one, which then has everything."""
        if not self._timings.is_strict:
            return with_isr(self.config, {self._node})
        joining = self._joining(now_ns)
        return None if joining is None else with_isr(self.config, {self._node, joining})

    def _is_gone(self, follower: Follower, now_ns: int) -> bool:
        if not follower.is_linked:
            return now_ns - follower.gone_ns > self._timings.reset_ms * MS
        moved_ns = now_ns if follower.is_at_rest else follower.moved_ns
        return now_ns - min(follower.heard_ns, moved_ns) > self._timings.degrade_ms * MS

    def _joining(self, now_ns: int) -> str | None:
        """Who is to be in sync: first it is waited for, then it has all that was let out."""
        if self.awaited:
            follower = self.followers.known[self.awaited]
            if follower.is_linked and self._has_all(follower):
                return self.awaited
            if not follower.is_linked:
                self.awaited = ""
            elif self._has_waited_for(follower, now_ns):
                self._put_off(follower, now_ns)
            return None
        for node, follower in self.followers.known.items():
            if node not in self.config.isr and self._is_near(follower, now_ns):
                self.awaited, self._awaited_ns = node, now_ns
                lag = self._replica.end.position - follower.match
                self._emit(Remark("is let in", {"follower": node, "lag": lag}))
                return self._joining(now_ns)
        return None

    def _has_waited_for(self, follower: Follower, now_ns: int) -> bool:
        """Whether who is let in has held up what all others wait for, for long enough."""
        patience_ms = self._timings.join_ms << min(follower.put_offs, DOUBLINGS_MAX)
        return now_ns - self._awaited_ns > min(patience_ms, self._timings.degrade_ms) * MS

    def _put_off(self, follower: Follower, now_ns: int) -> None:
        """Go on without who was to be let in; it is tried again later, and then longer."""
        follower.put_offs += 1
        follower.put_off_ns = now_ns + self._timings.degrade_ms * MS
        self.awaited = ""
        self._emit(Remark("is not let in", {"follower": follower.node}))

    def _is_near(self, follower: Follower, now_ns: int) -> bool:
        lag = self._replica.end.position - follower.match
        is_there = follower.is_linked and not follower.is_probing and now_ns >= follower.put_off_ns
        return is_there and lag <= LAG_TO_JOIN and not self._is_gone(follower, now_ns)

    def _has_all(self, follower: Follower) -> bool:
        """Everything that anybody was ever told of is there; from now on the rest waits for it.

        Something of this epoch is among that, so who is in sync can tell an older log by its end.
        """
        return follower.match >= self._replica.committed >= self._first

    @property
    def _newest(self) -> Config:
        """What is proposed, or was decided last."""
        return self.proposal or self.config

    def _propose(self, config: Config, now_ns: int) -> None:
        self.proposal, self._accepted = config, {self._node}
        self._emit(_remark("proposed", config))
        self._proposed_ns = now_ns
        self._emit(self._voter.accept(config))
        self._send_newest()
        self._decide()

    def _send_newest(self, witnesses: Collection[str] = ()) -> None:
        """Tell it to whom has not accepted it, also when it is decided: a voter must hold it.

        Who is in sync without a vote hears of it too, so that it knows what it may do; and a
        witness does once, so that it may vote when it is to.
        """
        config = self._newest
        missing = {*electorate(config), *config.isr} - self._accepted
        for node in sorted(missing | (set(witnesses) - self._admitted)):
            if node != self._node:
                self._tell(node, Accept(config=config))

    def _decide(self) -> None:
        if self.proposal is None or not is_quorum(self.proposal, self._accepted):
            return
        self.config, self.proposal, self.awaited = self.proposal, None, ""
        self._is_news = True
        self._emit(_remark("decided", self.config))
        self._primary.note(self._decided(), 0)

    def _decided(self) -> ConfigDecided:
        return ConfigDecided(
            epoch=self.config.epoch,
            version=self.config.version,
            isr=list(self.config.isr),
            voters=list(self.config.voters),
        )

    # ---- who follows

    def _beat(self, now_ns: int, witnesses: Collection[str]) -> None:
        message = Heartbeat(epoch=self.epoch, committed=self._replica.committed, sent_ns=now_ns)
        nodes = {*electorate(self._newest), *self.followers.known, *witnesses}
        for node in sorted(nodes - {self._node}):
            self._tell(node, message)
        self._send_newest(witnesses)

    def _count(self, now_ns: int) -> None:
        """See whether a majority answered lately; own vote and patience count as an answer."""
        self._has_majority = is_quorum(self.config, self._answering(now_ns))
        if self._has_majority:
            self._voter.hears(self._node, self.epoch, self._replica.committed, now_ns)

    def _answering(self, now_ns: int) -> set[str]:
        """Who has answered lately, this node among them."""
        oldest_ns = now_ns - self._timings.lead_ms * MS
        answered = {node for node, at_ns in self._answered_ns.items() if at_ns >= oldest_ns}
        return answered | {self._node}


def _remark(what: str, config: Config) -> Remark:
    told = {"isr": config.isr, "voters": config.voters, "before": config.before}
    words = {name: ", ".join(nodes) for name, nodes in told.items()}
    return Remark(what, {"epoch": config.epoch, "version": config.version, **words})
