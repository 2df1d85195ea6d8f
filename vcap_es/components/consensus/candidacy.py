"""Standing for election: ask whether it would succeed, ask for promises, propose to lead alone.

Who may lead is decided by the newest configuration that a majority knows of: only a master that
it names as in sync holds every acknowledged event. A longer log decides nothing.
"""

from collections.abc import Collection

from msgspec import Struct

from vcap_es.components.consensus.voter import Voter
from vcap_es.components.decisions.primacy import (
    Config,
    elected,
    electorate,
    is_quorum,
    newest,
    without,
)
from vcap_es.components.messages.master import Accept, Prepare, Prevote, Promise


class VoteRequest(Struct, frozen=True, gc=False):
    """Send `message` to the voter `node`."""

    node: str
    message: Prevote | Prepare | Accept


class Ineligible(Struct, frozen=True, gc=False):
    """This master must not lead, and why."""

    reason: str
    is_suspect: bool = False


class Candidacy:
    """One attempt to lead `epoch`.

    `forced` waives the two conditions that protect acknowledged events: two operators said so.
    They also said which voters are `gone` for good: those are not asked, and vote no more.
    """

    def __init__(
        self,
        node: str,
        epoch: int,
        voter: Voter,
        *,
        position: int,
        transfer: int,
        forced: bool,
        gone: Collection[str] = (),
    ) -> None:
        """Stand for `epoch`, with a log up to `position`."""
        assert voter.ballot.config is not None, "who was never admitted cannot stand"
        self.epoch = epoch
        self.is_forced = forced
        self.proposal: Config | None = None
        self.missed = 0
        self._node, self._voter = node, voter
        self.transfer = transfer
        self._position, self._gone = position, gone
        self._is_firm = False
        self._promises: dict[str, Promise] = {}
        self._accepted: set[str] = set()
        self._asked: set[str] = set()

    def begin(self) -> list[VoteRequest]:
        """Ask everybody whether they would promise."""
        self._promises = {self._node: self._own_promise(is_firm=False)}
        return self._ask(Prevote(epoch=self.epoch, transfer=self.transfer))

    def promised(self, voter: str, promise: Promise) -> list[VoteRequest] | Ineligible:
        """A voter has said yes."""
        is_current = promise.epoch == self.epoch and promise.is_firm == self._is_firm
        if not is_current or self.proposal is not None:
            return []
        self._promises[voter] = promise
        return self._repeat()

    def accepted(self, voter: str, epoch: int, version: int) -> None:
        """A voter holds what was proposed."""
        if self.proposal is not None and self.proposal.stamp == (epoch, version):
            self._accepted.add(voter)

    # ---- what has come of it

    @property
    def is_prevoted(self) -> bool:
        """Whether it would succeed, so that this master may promise the epoch to itself."""
        return not self._is_firm and self._has_quorum

    @property
    def is_promised(self) -> bool:
        """Whether a majority has promised, so that it may be proposed."""
        return self._is_firm and self.proposal is None and self._has_quorum

    @property
    def is_elected(self) -> bool:
        """Whether a majority holds the proposal: this master leads."""
        return self.proposal is not None and is_quorum(self.proposal, self._accepted)

    @property
    def best(self) -> Config:
        """The newest configuration that the voters told of."""
        found = newest(each.config for each in self._promises.values())
        return without(found, self._gone, self._node)

    def obstacle(self) -> Ineligible | None:
        """Why this master must not lead, as far as the voters told."""
        best = self.best
        told = [each for each in self._promises.values() if each.config.forced == best.forced]
        seen = max((each.committed for each in told), default=0)
        self.missed = max(0, seen - self._position)
        if self.is_forced:
            return None
        if self._node not in best.isr:
            return Ineligible(f"only {', '.join(best.isr)} may lead: this copy may be incomplete")
        if self.missed:
            reason = f"position {seen} was committed, and the log here ends at {self._position}"
            return Ineligible(reason, is_suspect=True)
        return None

    def prepare(self) -> list[VoteRequest]:
        """Ask for promises; this master has promised itself."""
        self._is_firm = True
        self._asked.clear()
        self._promises = {self._node: self._own_promise(is_firm=True)}
        return self._ask(Prepare(epoch=self.epoch, transfer=self.transfer))

    def propose(self) -> list[VoteRequest]:
        """Propose to lead alone; this master accepts it first."""
        self.proposal = elected(self.best, self._node, self.epoch, is_forced=self.is_forced)
        self._asked.clear()
        self._accepted.add(self._node)
        return self._ask(Accept(config=self.proposal))

    # ---- inside

    @property
    def _has_quorum(self) -> bool:
        return is_quorum(self.best, self._promises)

    def _repeat(self) -> list[VoteRequest]:
        """A newer configuration may have voters that were not asked."""
        kind = Prepare if self._is_firm else Prevote
        return self._ask(kind(epoch=self.epoch, transfer=self.transfer))

    def _ask(self, message: Prevote | Prepare | Accept) -> list[VoteRequest]:
        others = [each for each in electorate(self.best) if each != self._node]
        fresh = [each for each in others if each not in self._asked]
        self._asked.update(fresh)
        return [VoteRequest(each, message) for each in fresh]

    def _own_promise(self, *, is_firm: bool) -> Promise:
        config = self._voter.ballot.config
        assert config is not None
        return Promise(
            epoch=self.epoch, is_firm=is_firm, config=config, committed=self._voter.committed
        )
