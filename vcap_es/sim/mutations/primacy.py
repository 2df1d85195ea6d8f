"""Planted bugs that whole lives find: elections, the register, replication, what is kept."""

from collections.abc import Collection
from functools import partial
from itertools import islice

from msgspec import structs

from vcap_es.components.consensus import candidacy
from vcap_es.components.consensus.candidacy import Candidacy, Ineligible, VoteRequest
from vcap_es.components.consensus.replica import Cut, Replica, Store, common_position
from vcap_es.components.consensus.voter import Ballot, SaveBallot, Voter
from vcap_es.components.decisions import primacy
from vcap_es.components.decisions.primacy import Config, is_witness
from vcap_es.components.local_handler.allocator import Allocator
from vcap_es.components.master.master import Master
from vcap_es.components.messages.client import Idempotency
from vcap_es.components.messages.master import Append, Mismatch, Prepare
from vcap_es.components.messages.outcomes import Outcome
from vcap_es.components.primary_master import leadership
from vcap_es.components.primary_master.followers import Follower, Followers
from vcap_es.components.primary_master.leadership import Leadership, PendingRound
from vcap_es.components.secondary_master import SecondaryMaster
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.components.volumecap_server.idempotency import IdempotencyKeys, Pending, key_digest
from vcap_es.components.volumecap_server.slices.returns import Returns
from vcap_es.events.chain import Stored
from vcap_es.events.codec import decode
from vcap_es.events.facts import ConfigDecided
from vcap_es.sim.environment.disks import BallotDisk, Disk
from vcap_es.sim.lives.life import live
from vcap_es.sim.lives.patient_clients import live_exactly
from vcap_es.sim.lives.profiles import (
    COPIES,
    DEPOSED,
    FAILOVER,
    FLAPPING,
    FORCED,
    GROWTH,
    JOINT,
    LOSSY,
    PROMISES,
    SOLO,
    TAILS,
    VOTERS,
    Profile,
)
from vcap_es.sim.mutations import Mutation, Plant, change, together
from vcap_es.sim.mutations.finders import by_scenario
from vcap_es.sim.scenarios import copying, founding, growing, stalling
from vcap_es.sim.world.servers import ServerProcess


def _yes(*_: object) -> bool:
    return True


def _no(*_: object) -> bool:
    return False


def _no_obstacle(*_: object) -> str:
    return ""


def _join_whoever_leads(self: Master, leader: str) -> None:
    known = self._links.masters.get(leader)
    if known is not None and known.cluster:
        self.voter.ballot = structs.replace(self.voter.ballot, cluster=known.cluster)
        self._outputs.append(SaveBallot(self.voter.ballot))


# ---- elections


def _obstacle_but_isr(self: Candidacy) -> Ineligible | None:
    seen = max(each.committed for each in self._promises.values())
    self.missed = max(0, seen - self._position)
    return Ineligible("behind", is_suspect=True) if self.missed else None


def _obstacle_but_watermark(self: Candidacy) -> Ineligible | None:
    return None if self._node in self.best.isr else Ineligible("not in sync")


def _begin_without_prevote(self: Candidacy) -> list[VoteRequest]:
    self._promises = {self._node: self._own_promise(is_firm=False)}
    return []


def _prevoted_at_once(self: Candidacy) -> bool:
    return not self._is_firm


def _quorum_of_new_voters(config: Config, answered: Collection[str]) -> bool:
    return primacy.is_quorum(structs.replace(config, before=()), answered)


# ---- voters


def _promise_forgotten(self: Voter, epoch: int, candidate: str) -> SaveBallot:
    kept = self.ballot
    self.ballot = structs.replace(self.ballot, promised=epoch, promised_to=candidate)
    return SaveBallot(kept)


def _promise_told_first(self: Voter, sender: str, message: object, now_ns: int) -> list[object]:
    outputs = _heard(self, sender, message, now_ns)  # type: ignore[arg-type]  # as it was heard
    is_promise = isinstance(message, Prepare)
    return sorted(outputs, key=lambda each: isinstance(each, SaveBallot)) if is_promise else outputs  # type: ignore[return-value]  # the same outputs


def _lose_disk_but_name(self: ServerProcess) -> None:
    self.disk = Disk()
    if self.ballots is not None:
        self.ballots = BallotDisk(Ballot(node=self.ballots.ballot.node))


# ---- the register


def _needed_but_growth(self: Leadership) -> set[str]:
    return set(self.config.isr)


def _decide_at_once(self: Leadership) -> None:
    if self.proposal is not None:
        self.config, self.proposal, self.awaited = self.proposal, None, ""
        self._primary.note(self._decided(), 0)


def _with_voters_at_once(config: Config, voters: Collection[str]) -> Config:
    return structs.replace(config, version=config.version + 1, voters=tuple(sorted(voters)))


def _voters_not_admitted(
    self: Leadership, _now_ns: int, witnesses: Collection[str]
) -> tuple[str, ...]:
    return primacy.wanted_voters(self.config, self.config.isr, witnesses)


def _send_newest_to_voters(self: Leadership, _witnesses: Collection[str] = ()) -> None:
    _send_newest(self)


def _send_only_proposals(self: Leadership, witnesses: Collection[str] = ()) -> None:
    if self.proposal is not None:
        _send_newest(self, witnesses)


def _voters_but_renewed(
    config: Config, masters: Collection[str], linked: Collection[str]
) -> tuple[str, ...]:
    kept = [each for each in config.voters if is_witness(each)]
    witnesses = list(dict.fromkeys((*kept, *sorted(linked))))
    if len(masters) < 2 or not witnesses:
        return config.voters
    return tuple(sorted((*masters, *witnesses[: 3 if len(witnesses) >= 3 else 1])))


def _retry_as_if_it_moved(self: Followers, now_ns: int) -> None:
    _retry(self, now_ns)
    for found in self.known.values():
        if found.asked_ns == now_ns:
            found.moved_ns = now_ns


def _committed_unheard(self: Leadership, under_way: PendingRound) -> bool:
    return under_way.end <= self._replica.committed


# ---- replication


def _mismatched_but_match(self: Followers, node: str, message: Mismatch, now_ns: int) -> None:
    found = self.known.get(node)
    if found is None or message.epoch != self._epoch or message.sequence <= found.confirmed:
        return
    found.heard_ns = found.moved_ns = now_ns
    found.confirmed = message.sequence
    common = common_position(self._replica.history, message.history)
    found.agreed = max(found.match, common)
    found.turned, found.is_probing = found.sequence, False
    found.go_to(found.agreed)
    self.pump(found, now_ns)


def _go_to_and_await_the_fetch(self: Follower, position: int) -> None:
    self.next = position


def _fetch_once_and_for_all(self: Followers, found: Follower, now_ns: int) -> None:
    if not found.fetches:
        found.fetches, found.fetching_ns = 1, now_ns
        self._fetch(found.node, found.next, self._window.message)


def _retry_by_going_back(self: Followers, now_ns: int) -> None:
    for found in self.known.values():
        is_late = now_ns - found.asked_ns > self._patience_ns
        if found.is_linked and found.is_awaited and is_late:
            found.asked_ns, found.fetches = now_ns, 0
            found.next = found.next if found.is_probing else found.agreed
            before = found.sequence
            self.pump(found, now_ns)
            if found.sequence == before and not found.fetches:
                self._question(found, now_ns)


def _committable_alone(self: Leadership) -> int:
    return self._replica.head.position


def _committable_before_fsync(self: Leadership) -> int:
    others = self.needed - {self._node}
    return min([self._replica.end.position, *map(self._match, others)])


def _answers_before_fsync(self: SecondaryMaster) -> list[object]:
    answers: list[object] = []
    while self._unanswered:
        answers = [self._answer(self._unanswered.popleft()[0], self._matched)]
    return answers


def _take_without_cutting(
    self: SecondaryMaster,
    after: int,  # noqa: ARG001  # the signature of what it stands for
    entries: list[Stored],
) -> list[Store | Cut]:
    at = self._replica.end.position
    rest = [each for each in entries if each.position > at]
    return [self._replica.extend(rest)] if rest else []


def _mismatch_without_check(self: SecondaryMaster, message: Append) -> Mismatch:
    return Mismatch(epoch=message.epoch, sequence=message.sequence, history=self._replica.history)


def _take_without_check(
    self: SecondaryMaster, after: int, entries: list[Stored]
) -> list[Store | Cut]:
    known = self._known(after, entries)
    rest, at = entries[known:], after + known
    outputs: list[Store | Cut] = []
    if rest and at < self._replica.end.position:
        self._cuts.append(at)
        self._replica.committed = min(self._replica.committed, at)
        outputs.append(self._replica.cut(at))
    return [*outputs, self._replica.extend(rest)] if rest else []


def _fold_with_gaps(self: Replica, until: int) -> None:
    start = self._folded - self._base.position
    for entry in islice(self._recent, start, until - self._base.position):
        fact = decode(entry.fact)
        if not isinstance(fact, ConfigDecided):
            self.fold.evolve(fact)
    self._folded = max(self._folded, until)


# ---- servers


def _admit_again(
    self: IdempotencyKeys, caller: str, key: Idempotency, token: int
) -> Pending | Outcome | None:
    if (caller, key_digest(key.key)) not in self._waiting:
        self.ledger.shares.pop(caller, None)
    return _admit(self, caller, key, token)


def _nothing(*_: object) -> None:
    pass


def _incarnation_by_name(self: ServerProcess) -> str:
    return f"{self.name}-again"


_heard = Voter.heard
_admit = IdempotencyKeys.admit
_send_newest = Leadership._send_newest
_retry = Followers.retry


def _mutation(name: str, rule: str, plant: Plant, profile: Profile, seeds: int) -> Mutation:
    return Mutation(name=name, rule=rule, plant=plant, life=partial(live, profile), seeds=seeds)


NO_ISR_CHECK = change(Candidacy, "obstacle", _obstacle_but_isr)

MUTATIONS = [
    _mutation("no_isr_check", "only who is in sync is elected", NO_ISR_CHECK, SOLO, 100),
    _mutation(
        "ack_before_replication",
        "what is acknowledged is on every master in sync",
        change(Leadership, "committable", property(_committable_alone)),
        FAILOVER,
        50,
    ),
    _mutation(
        "ack_before_fsync",
        "what is acknowledged is durable at the leader",
        change(Leadership, "committable", property(_committable_before_fsync)),
        FAILOVER,
        100,
    ),
    _mutation(
        "copy_before_fsync",
        "a follower answers when it is durable",
        change(SecondaryMaster, "_answers", _answers_before_fsync),
        FAILOVER,
        100,
    ),
    _mutation(
        "promise_forgotten",
        "a promise outlives a crash",
        change(Voter, "promise", _promise_forgotten),
        PROMISES,
        300,
    ),
    _mutation(
        "promise_told_first",
        "a promise is durable before it is told",
        change(Voter, "heard", _promise_told_first),
        PROMISES,
        300,
    ),
    _mutation(
        "lower_epoch_followed",
        "nobody follows an epoch below the one promised",
        change(Voter, "follows", _yes),
        FAILOVER,
        200,
    ),
    _mutation(
        "no_truncation",
        "a returning master sets aside what it has and the leader has not",
        change(SecondaryMaster, "_take", _take_without_cutting),
        FAILOVER,
        200,
    ),
    _mutation(
        "grown_before_caught_up",
        "who is taken in sync has everything",
        together(
            change(Leadership, "_has_all", _yes),
            change(Leadership, "_is_near", _yes),
        ),
        GROWTH,
        200,
    ),
    _mutation(
        "pending_growth_not_awaited",
        "while a growth is under way its events wait for the one to come",
        change(Leadership, "needed", property(_needed_but_growth)),
        GROWTH,
        400,
    ),
    _mutation(
        "change_before_majority",
        "a change of the register holds when a majority has it",
        change(Leadership, "_decide", _decide_at_once),
        FAILOVER,
        200,
    ),
    _mutation(
        "watermark_off",
        "a log shorter than what is known to be committed is suspect",
        change(Candidacy, "obstacle", _obstacle_but_watermark),
        TAILS,
        300,
    ),
    _mutation(
        "prevote_off",
        "who comes back does not depose a leader that is well",
        together(
            change(Candidacy, "begin", _begin_without_prevote),
            change(Candidacy, "is_prevoted", property(_prevoted_at_once)),
        ),
        FLAPPING,
        20,
    ),
    _mutation(
        "voters_not_joint",
        "the voters change by majorities of the old and of the new",
        change(leadership, "with_voters", _with_voters_at_once),
        JOINT,
        300,
    ),
    _mutation(
        "joint_ignored_at_elections",
        "an election too needs majorities of the old and of the new",
        change(candidacy, "is_quorum", _quorum_of_new_voters),
        JOINT,
        300,
    ),
    _mutation(
        "self_check_off",
        "nobody sets aside what was committed, whoever leads",
        together(
            NO_ISR_CHECK,
            change(SecondaryMaster, "_mismatch", _mismatch_without_check),
            change(SecondaryMaster, "_take", _take_without_check),
        ),
        SOLO,
        100,
    ),
    _mutation(
        "wiped_voter_keeps_its_name",
        "who has lost its ballot is another voter",
        change(ServerProcess, "lose_disk", _lose_disk_but_name),
        PROMISES,
        300,
    ),
    _mutation(
        "lost_copy_counts",
        "what a disk has lost does not count, though it was acknowledged",
        change(Followers, "mismatched", _mismatched_but_match),
        TAILS,
        20,
    ),
    _mutation(
        "fetch_awaited_for_ever",
        "a fetch that was overtaken is not awaited, and one that does not come is made again",
        together(
            change(Follower, "go_to", _go_to_and_await_the_fetch),
            change(Followers, "_fetch_once", _fetch_once_and_for_all),
            change(Followers, "retry", _retry_by_going_back),
        ),
        COPIES,
        100,
    ),
    by_scenario(
        "silence_is_answered_by_all_again",
        "who is silent on a connection that lasts is asked what it has, and sent nothing again",
        change(Followers, "retry", _retry_by_going_back),
        copying.a_follower_that_is_silent_for_long_is_not_sent_all_again,
    ),
    _mutation(
        "decided_is_not_repeated",
        "a voter that missed a configuration is told it until it holds it",
        change(Leadership, "_send_newest", _send_only_proposals),
        LOSSY,
        150,
    ),
    _mutation(
        "wiped_witness_votes_on",
        "a witness that lost its store gives its vote to the one that it is now",
        change(leadership, "wanted_voters", _voters_but_renewed),
        VOTERS,
        50,
    ),
    _mutation(
        "answers_unheard",
        "who is in sync still followed when a round began that answers somebody",
        change(Leadership, "_is_committed", _committed_unheard),
        DEPOSED,
        50,
    ),
    by_scenario(
        "voters_not_admitted",
        "who is to vote holds a configuration before",
        together(
            change(Leadership, "_voters", _voters_not_admitted),
            change(Leadership, "_send_newest", _send_newest_to_voters),
        ),
        growing.a_leader_that_dies_while_it_lets_voters_in_leads_again,
    ),
    by_scenario(
        "silent_voters_awaited",
        "a change of the voters that cannot be decided is withdrawn",
        change(Leadership, "_is_hopeless", _no),
        growing.voters_that_fall_silent_before_they_are_let_in_are_given_up,
    ),
    by_scenario(
        "foreign_leader_obeyed",
        "masters of two clusters do not speak with each other",
        change(Master, "_other_cluster", _no_obstacle),
        founding.a_foreign_leader_is_not_obeyed,
    ),
    by_scenario(
        "foreign_leader_served_from",
        "a server speaks with no master of another cluster",
        together(
            change(Master, "_other_cluster", _no_obstacle),
            change(Belonging, "obstacle", _no_obstacle),
        ),
        founding.a_server_does_not_serve_from_a_foreign_leader,
    ),
    by_scenario(
        "joined_store_joins_again",
        "an empty store joins one cluster, and stays there",
        together(
            change(Master, "_other_cluster", _no_obstacle),
            change(Master, "_join_cluster_of", _join_whoever_leads),
        ),
        founding.an_empty_store_stays_in_the_cluster_that_it_joined,
    ),
    by_scenario(
        "stalled_follower_kept",
        "who stores nothing for a while is not in sync",
        change(Followers, "retry", _retry_as_if_it_moved),
        stalling.a_follower_that_stores_nothing_falls_out_of_sync,
    ),
    by_scenario(
        "hung_disk_leads",
        "a leader whose disk does not answer leaves it to who has everything",
        change(Leadership, "is_held_up", _no),
        stalling.a_leader_whose_disk_hangs_leaves_it_to_the_other_master,
    ),
    by_scenario(
        "joining_held_up_for_long",
        "who is let in and does not get on holds up nobody for long",
        change(Leadership, "_has_waited_for", Leadership._is_gone),
        stalling.who_is_let_in_holds_up_nothing_for_long,
    ),
    _mutation(
        "fold_with_gaps",
        "a follower folds everything that is committed",
        change(Replica, "_fold", _fold_with_gaps),
        FAILOVER,
        20,
    ),
    _mutation(
        "lost_topups_not_recovered",
        "what servers were given before a forced promotion is taken up again",
        change(Allocator, "_recover_topup", _nothing),
        FORCED,
        20,
    ),
    _mutation(
        "recall_unheard",
        "a server gives back what is recalled, so that nothing is stranded",
        change(Returns, "give", _nothing),
        FAILOVER,
        50,
    ),
    Mutation(
        name="answered_call_done_again",
        rule="a call with the key of an answered one is answered, and not done again",
        plant=change(IdempotencyKeys, "admit", _admit_again),
        life=live_exactly,
        seeds=20,
    ),
    _mutation(
        "incarnation_comes_again",
        "who has lost its journal is another incarnation",
        change(ServerProcess, "new_incarnation", _incarnation_by_name),
        VOTERS,
        50,
    ),
]
