"""A voter: it promises epochs to candidates and holds the newest configuration.

Masters vote, and so do witnesses, which are volumecap servers that keep nothing but a ballot. A
promise is durable before it is told, and is never taken back: that alone fences an old leader.
"""

from msgspec import Struct, structs

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.decisions.primacy import Config, created
from vcap_es.components.messages.master import (
    Accept,
    Accepted,
    FromVoter,
    Heartbeat,
    HeartbeatAnswer,
    Prepare,
    Prevote,
    Promise,
    Refusal,
    ToVoter,
)
from vcap_es.events.clusters import ClusterName
from vcap_es.events.units import MS

EPOCH_LEAP_MAX = 1 << 30
"""An epoch further than this above all that was promised is not believed: no elections come to it.
"""


class Ballot(Struct, frozen=True, kw_only=True, gc=False):
    """What a voter keeps through everything.

    `node` was made with the empty store, so who lost the store is somebody else; `start` counts
    its starts. `config` is None where no leader has admitted this voter yet. `committed` is the
    highest position that it knew to be committed, and not given up, when it last wrote. `cluster`
    is the one that it belongs to for ever, "" until it is admitted to one.
    """

    node: str
    start: int = 0
    promised: int = 0
    promised_to: str = ""
    config: Config | None = None
    committed: int = 0
    cluster: ClusterName = ""


def founded(ballot: Ballot, cluster: str) -> Ballot:
    """The ballot of who founds `cluster`: its only voter, who has promised nothing yet."""
    return structs.replace(ballot, config=created(ballot.node), cluster=cluster)


class SaveBallot(Struct, frozen=True, gc=False):
    """Make the ballot durable; what stands behind this in the outputs leaves only then."""

    ballot: Ballot


class Voter:
    """One voter. Plain code: it is told the boot clock, which only decides when it is patient."""

    def __init__(self, ballot: Ballot, timings: Timings, now_ns: int) -> None:
        """Go on where `ballot` left off."""
        self.ballot = ballot
        self.committed = ballot.committed
        self._timings = timings
        self._leader = ballot.config.leader if ballot.config else ""
        self._leading_epoch = 0
        self._free_ns = now_ns + timings.sticky_ms * MS

    def heard(self, sender: str, message: ToVoter, now_ns: int) -> list[SaveBallot | FromVoter]:
        """Answer `sender`; a `SaveBallot` comes before what rests on it."""
        match message:
            case Prevote():
                if self._may_promise(sender, message.epoch, message.transfer, now_ns):
                    return [self._promise(message.epoch, is_firm=False)]
                return [self._refusal(message.epoch)]
            case Prepare():
                if self._may_promise(sender, message.epoch, message.transfer, now_ns):
                    return [
                        self.promise(message.epoch, sender),
                        self._promise(message.epoch, is_firm=True),
                    ]
                return [self._refusal(message.epoch)]
            case Accept():
                return self._accept(message.config)
            case Heartbeat():
                outputs = self.hears(sender, message.epoch, message.committed, now_ns)
                if outputs is None:
                    return [self._refusal(message.epoch)]
                return [*outputs, HeartbeatAnswer(epoch=message.epoch, sent_ns=message.sent_ns)]

    def hears(
        self, sender: str, epoch: int, committed: int, now_ns: int
    ) -> list[SaveBallot] | None:
        """A sign of life of the leader of `epoch`; None where `sender` must not be followed.

        An epoch that is followed is promised, or a late message of an earlier one could undo it.
        """
        if not self.follows(sender, epoch):
            return None
        outputs = [self.promise(epoch, sender)] if epoch > self.ballot.promised else []
        self._leader, self._leading_epoch = sender, epoch
        self._free_ns = now_ns + self._timings.sticky_ms * MS
        self.committed = max(self.committed, committed)
        return outputs

    def follows(self, sender: str, epoch: int) -> bool:
        """Whether nothing was promised that forbids to follow `sender` in `epoch`."""
        is_promised = (epoch, sender) == (self.ballot.promised, self.ballot.promised_to)
        return is_promised or self.is_next(epoch)

    def is_next(self, epoch: int) -> bool:
        """Whether an epoch comes after what was promised, and is none that nobody can have got to.

        Else a single message could use up all that can be counted.
        """
        return self.ballot.promised < epoch <= self.ballot.promised + EPOCH_LEAP_MAX

    def join(self, cluster: str) -> SaveBallot:
        """Belong to `cluster` from now on, and to no other one ever."""
        assert not self.ballot.cluster, "a voter belongs to one cluster"
        return self._keep(cluster=cluster)

    def lost(self, node: str) -> None:
        """The connection to `node` broke: if it leads, there is nothing to be patient for."""
        if node == self._leader:
            self._free_ns = 0

    def promise(self, epoch: int, candidate: str) -> SaveBallot:
        """Promise `epoch`; accept and follow nothing lower from now on."""
        assert epoch >= self.ballot.promised, "a promise is never taken back"
        return self._keep(promised=epoch, promised_to=candidate)

    def accept(self, config: Config) -> SaveBallot:
        """Hold `config`, which is newer than what was held."""
        held = self.ballot.config
        if config.forced > (held.forced if held is not None else 0):
            self.committed = 0  # what was given up is missed by nobody
        return self._keep(promised=config.epoch, promised_to=config.leader, config=config)

    def _may_promise(self, candidate: str, epoch: int, transfer: int, now_ns: int) -> bool:
        if self.ballot.config is None:
            return False  # no leader has admitted this voter: an empty store must not decide
        if (epoch, candidate) == (self.ballot.promised, self.ballot.promised_to):
            return True
        return self.is_next(epoch) and self._is_free(candidate, transfer, now_ns)

    def _is_free(self, candidate: str, transfer: int, now_ns: int) -> bool:
        """Nobody else leads, as far as can be heard; or who led has asked for this."""
        is_wanted = 0 < transfer >= self._leading_epoch
        return is_wanted or candidate == self._leader or now_ns >= self._free_ns

    def _accept(self, config: Config) -> list[SaveBallot | FromVoter]:
        held = self.ballot.config
        answer = Accepted(epoch=config.epoch, version=config.version)
        if not self.follows(config.leader, config.epoch):
            return [self._refusal(config.epoch)]
        if held is not None and held.stamp >= config.stamp:
            return [answer] if held == config else []
        return [self.accept(config), answer]

    def _promise(self, epoch: int, *, is_firm: bool) -> Promise:
        assert self.ballot.config is not None, "who was never admitted promises nothing"
        return Promise(
            epoch=epoch, is_firm=is_firm, config=self.ballot.config, committed=self.committed
        )

    def _refusal(self, epoch: int) -> Refusal:
        return Refusal(epoch=epoch, promised=self.ballot.promised)

    def _keep(self, **changes: object) -> SaveBallot:
        self.ballot = structs.replace(self.ballot, committed=self.committed, **changes)
        return SaveBallot(self.ballot)
