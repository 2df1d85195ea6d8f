"""When a master stands for election, and how its attempts go on.

An attempt that comes to nothing is followed by another one, until somebody leads.
"""

from collections.abc import Callable, Collection

from vcap_es.components.consensus.candidacy import Candidacy, Ineligible, VoteRequest
from vcap_es.components.consensus.remark import Remark
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import SaveBallot, Voter
from vcap_es.components.decisions.primacy import is_quorum, next_epoch
from vcap_es.components.messages.master import Accepted, Promise
from vcap_es.events.units import MS

FAST_TRIES = 8
FAST_RETRY_MS = 20
"""Milliseconds between tries after a connection broke: others may see that a moment later."""


class Election:
    """The attempts of one master. Whatever takes a step gives the candidacy that won by it."""

    def __init__(
        self,
        slot: int,
        voter: Voter,
        timings: Timings,
        *,
        random: Callable[[int], int],
        ask: Callable[[VoteRequest], None],
        keep: Callable[[SaveBallot], None],
        doubt: Callable[[str], None],
        remark: Callable[[Remark], None],
        now_ns: int,
    ) -> None:
        """Stand with epochs of `slot`.

        `random(n)` gives 0 to n-1; `ask` sends, `keep` makes a ballot durable before what is sent
        behind it, `doubt` hears why this master must not lead, where its log is to blame, and
        `remark` what people may want to read.
        """
        self._slot, self._voter, self._timings = slot, voter, timings
        self._random, self._ask, self._keep, self._doubt = random, ask, keep, doubt
        self._remark = remark
        self._candidacy: Candidacy | None = None
        self._highest = voter.ballot.promised
        self._tries = 0
        self.due_ns = self._first_ns(now_ns)

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt is open."""
        return self._candidacy is not None

    # ---- when

    def put_off(self, now_ns: int) -> None:
        """Somebody leads, or may be about to: be patient."""
        self.due_ns = now_ns + self._patience_ms() * MS

    def hurry(self, now_ns: int) -> None:
        """The connection to who led is gone: there is nothing to be patient for."""
        self._tries, self.due_ns = FAST_TRIES, now_ns

    def led(self, epoch: int, now_ns: int) -> None:
        """Somebody leads `epoch`: an attempt is over, unless that leader has asked for it."""
        if self._candidacy is not None and self._candidacy.transfer == epoch:
            return
        self._candidacy, self._tries = None, 0
        self.put_off(now_ns)

    def outbid(self, promised: int) -> None:
        """This master has promised an epoch: an attempt at a lower one is over."""
        self._highest = max(self._highest, promised)
        if self._candidacy is not None and promised > self._candidacy.epoch:
            self._candidacy = None

    # ---- the steps of an attempt

    def begin(
        self,
        now_ns: int,
        *,
        position: int,
        transfer: int,
        is_forced: bool,
        gone: Collection[str] = (),
    ) -> Candidacy | None:
        """Ask to be elected with a log up to `position`; if it comes to nothing, again later."""
        self.due_ns = now_ns + self._retry_ms() * MS
        config = self._voter.ballot.config
        if config is None:
            return None
        self.outbid(max(self._voter.ballot.promised, config.epoch))
        self._candidacy = Candidacy(
            self._voter.ballot.node,
            next_epoch(self._slot, self._highest),
            self._voter,
            position=position,
            transfer=transfer,
            forced=is_forced,
            gone=gone,
        )
        self._remark(Remark("stands for election", {"epoch": self._candidacy.epoch}))
        return self._go_on(self._candidacy.begin(), now_ns)

    def promised(self, voter: str, promise: Promise, now_ns: int) -> Candidacy | None:
        """A voter has promised, or would."""
        if self._candidacy is None:
            return None
        return self._go_on(self._candidacy.promised(voter, promise), now_ns)

    def accepted(self, voter: str, message: Accepted, now_ns: int) -> Candidacy | None:
        """A voter holds what was proposed."""
        if self._candidacy is None:
            return None
        self._candidacy.accepted(voter, message.epoch, message.version)
        return self._go_on([], now_ns)

    def refused(self, promised: int, now_ns: int) -> None:
        """A voter has promised `promised` to somebody; who only refuses need not be needed."""
        if promised > self._voter.ballot.promised and not self._voter.is_next(promised):
            return  # nobody can have got there
        self._highest = max(self._highest, promised)
        if self._candidacy is not None and promised >= self._candidacy.epoch:
            self._give_up(now_ns)

    # ---- inside

    def _go_on(self, asks: list[VoteRequest] | Ineligible, now_ns: int) -> Candidacy | None:
        """Take the next step, as far as the answers allow."""
        candidacy = self._candidacy
        if candidacy is None or isinstance(asks, Ineligible):
            return None
        self._send(asks)
        if candidacy.is_prevoted and self._is_eligible(candidacy, now_ns):
            self._keep(self._voter.promise(candidacy.epoch, self._voter.ballot.node))
            self._send(candidacy.prepare())
            self._persist(now_ns)
        if candidacy.is_promised and self._is_eligible(candidacy, now_ns):
            asks = candidacy.propose()
            assert candidacy.proposal is not None
            self._keep(self._voter.accept(candidacy.proposal))
            self._send(asks)
            self._persist(now_ns)
        if not candidacy.is_elected:
            return None
        self._candidacy = None
        return candidacy

    def _persist(self, now_ns: int) -> None:
        """A step forward deserves patience: the next one is as far away as this one was."""
        self.due_ns = now_ns + self._unhurried_ms() * MS

    def _is_eligible(self, candidacy: Candidacy, now_ns: int) -> bool:
        obstacle = candidacy.obstacle()
        if obstacle is None:
            return True
        self._remark(Remark("must not lead", {"epoch": candidacy.epoch, "why": obstacle.reason}))
        if obstacle.is_suspect:
            self._doubt(obstacle.reason)
        self._give_up(now_ns)
        return False

    def _give_up(self, now_ns: int) -> None:
        self._candidacy = None
        self.due_ns = now_ns + self._retry_ms() * MS

    def _send(self, asks: list[VoteRequest]) -> None:
        for each in asks:
            self._ask(each)

    def _first_ns(self, now_ns: int) -> int:
        node, config = self._voter.ballot.node, self._voter.ballot.config
        if config is not None and is_quorum(config, {node}) and node in config.isr:
            return now_ns  # nobody else is to be asked
        return now_ns + self._patience_ms() * MS

    def _patience_ms(self) -> int:
        return self._timings.sticky_ms + self._random(self._timings.spread_ms)

    def _retry_ms(self) -> int:
        if self._tries > 0:
            self._tries -= 1
            return FAST_RETRY_MS
        return self._unhurried_ms()

    def _unhurried_ms(self) -> int:
        return self._timings.retry_ms + self._random(2 * self._timings.retry_ms)
