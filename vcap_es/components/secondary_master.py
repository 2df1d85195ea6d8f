"""The secondary master: copies the log, makes it durable, acknowledges, and folds as it copies.

It is warm: what is committed is in its state already, so it can lead at once. It believes no
clock, only links: an event is here if the one before it is, with the same link.
"""

from collections import deque

from vcap_es.components.consensus.replica import Cut, Replica, Store
from vcap_es.components.consensus.voter import Voter
from vcap_es.components.messages.master import Append, Appended, Diverged, Heartbeat, Mismatch
from vcap_es.errors import PrefixLost
from vcap_es.events.chain import Stored

MISMATCH_EPOCHS_MAX = 1000


class SecondaryMaster:
    """Follows one leader at a time, and whoever leads a later epoch from there on."""

    def __init__(self, replica: Replica, voter: Voter) -> None:
        """Copy into `replica`, as far as `voter` has promised nothing else."""
        self.leader, self.epoch = "", 0
        self.leader_committed = 0
        self._replica, self._voter = replica, voter
        self._matched = 0
        self._unanswered: deque[tuple[int, int]] = deque()
        self._cuts: deque[int] = deque()

    @property
    def lag(self) -> int:
        """How many committed events are not durable here."""
        return max(0, self.leader_committed - min(self._matched, self._replica.head.position))

    def forget_leader(self) -> None:
        """The leader is gone, or this master has promised another epoch."""
        self.leader = ""
        self._unanswered.clear()

    def heard_of(self, leader: str, epoch: int) -> None:
        """`leader` leads `epoch`: what was matched with an earlier one does not count."""
        if (epoch, leader) != (self.epoch, self.leader):
            self.leader, self.epoch = leader, epoch
            self._matched = 0
            self._unanswered.clear()

    def heartbeat(self, message: Heartbeat) -> list[Store]:
        """The leader lives, and tells what is committed; a quiet log is told so too."""
        self._learn(message.committed)
        store = self._replica.remember()
        return [store] if store is not None else []

    def append(self, message: Append) -> list[Store | Cut | Appended | Mismatch]:
        """Copy what is new here; whatever is not the leader's is set aside.

        Raises `PrefixLost` where the leader has another event than one committed here.
        """
        after, entries = message.after, message.entries
        if after < self._replica.base.position:
            known = self._skip(message)
            if known is None:
                at = min(after + len(entries), self._replica.base.position)
                return [self._answer(message.sequence, at)]
            after, entries = self._replica.base.position, known
        elif self._replica.link_at(after) != message.link:
            return [self._mismatch(message)]
        outputs = self._take(after, entries)
        self._matched = max(self._matched, after + len(entries))
        self._learn(message.committed)
        return [*outputs, *self._answer_when_durable(message.sequence)]

    def stored(self) -> list[Appended]:
        """The oldest store is durable."""
        self._replica.stored()
        return self._answers()

    def was_cut(self, count: int, link: bytes) -> Diverged:
        """The oldest cut is done; so many events were set aside, the last with that link."""
        self._replica.was_cut()
        return Diverged(epoch=self.epoch, after=self._cuts.popleft(), count=count, link=link)

    # ---- inside

    @property
    def _committed(self) -> int:
        return self._replica.committed

    def _skip(self, message: Append) -> list[Stored] | None:
        """What of a message that begins before anything at hand is behind it; None: nothing.

        All of that is committed, so it should be the leader's too. An epoch has one leader, so
        events of the same epoch and position are the same; others mean that one was lost.
        """
        base = self._replica.base
        known = [(message.after, message.prior), *((e.position, e.epoch) for e in message.entries)]
        for position, epoch in known:
            if 0 < position <= base.position and self._replica.epoch_at(position) != epoch:
                raise PrefixLost(_lost(position))
        ahead = base.position - message.after
        if len(message.entries) < ahead:
            return None
        return message.entries[ahead:]

    def _take(self, after: int, entries: list[Stored]) -> list[Store | Cut]:
        """Add what is not here, behind setting aside what contradicts it."""
        known = self._known(after, entries)
        rest = entries[known:]
        if not rest:
            return []
        at = after + known
        outputs: list[Store | Cut] = []
        if at < self._replica.end.position:
            if at < self._committed:
                raise PrefixLost(_lost(at + 1))
            self._cuts.append(at)
            outputs.append(self._replica.cut(at))
        outputs.append(self._replica.extend(rest))
        return outputs

    def _known(self, after: int, entries: list[Stored]) -> int:
        """How many of the first `entries` are here already."""
        known = 0
        while known < len(entries) and self._replica.link_at(after + known + 1) == (
            entries[known].link
        ):
            known += 1
        return known

    def _learn(self, committed: int) -> None:
        """What is committed at the leader is so here, as far as the logs are known to agree."""
        self.leader_committed = max(self.leader_committed, committed)
        self._replica.commit(min(committed, self._matched))

    def _mismatch(self, message: Append) -> Mismatch:
        if message.after <= self._committed and self._replica.link_at(message.after) is not None:
            raise PrefixLost(_lost(message.after))
        history = self._replica.history[-MISMATCH_EPOCHS_MAX:]
        return Mismatch(epoch=message.epoch, sequence=message.sequence, history=history)

    def _answer_when_durable(self, sequence: int) -> list[Appended]:
        self._unanswered.append((sequence, self._matched))
        return self._answers()

    def _answers(self) -> list[Appended]:
        """The newest answer that is true now; it stands for the earlier ones."""
        durable, answered = self._replica.head.position, 0
        while self._unanswered and self._unanswered[0][1] <= durable:
            answered = self._unanswered.popleft()[0]
        if not answered or not self._may_answer:
            return []
        return [self._answer(answered, min(self._matched, durable))]

    @property
    def _may_answer(self) -> bool:
        """Nothing was promised since that forbids to hold for this leader."""
        return bool(self.leader) and self._voter.follows(self.leader, self.epoch)

    def _answer(self, sequence: int, position: int) -> Appended:
        return Appended(epoch=self.epoch, sequence=sequence, position=position)


def _lost(position: int) -> str:
    return (
        f"the event at position {position} is committed here, and the leader has another one: an "
        "acknowledged event was lost. If a promotion was forced (`vcap primacy status` at the "
        "leader tells), move this directory away and start with an empty one; if none was, stop "
        "both masters and compare their logs"
    )
