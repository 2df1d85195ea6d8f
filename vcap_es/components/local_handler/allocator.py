"""The allocator of one interval: where volumecap servers queue for amounts of its pool.

Who needs most urgently is served first in, first out, with the whole need or nothing. When the pool
has too little, slices that lie idle elsewhere are recalled; when everybody has answered and it is
still too little, the head of the queue gets a verdict of exhaustion. All of it is memory of one
epoch: it is lost at a failover and comes back with the servers' reports.
"""

from collections import deque
from itertools import islice
from typing import Protocol

from vcap_es.components.decisions.volumecap import free, released_at, share
from vcap_es.components.local_handler.demands import Left, PoolDemand, ServerDemand
from vcap_es.components.local_handler.recall import RecallRound
from vcap_es.components.messages.server import Grant, Holding, MessageNumber, PoolVersion, Verdict
from vcap_es.errors import SuspectServer
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import (
    AmountWithheld,
    Fact,
    HoldingRecovered,
    Returned,
    Spend,
    ToppedUp,
    TopupRecovered,
)
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.places import Account

RECALL_US = 2_000_000
DEBT_RECALL_US = 1_000_000
NEVER: PoolVersion = (1 << 62, 0)
ELSEWHERE = "elsewhere"
"""The head of a round that is for another data centre."""


class AllocatorHost(Protocol):
    """What an allocator needs of the local handler."""

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""

    @property
    def may_lack_topups(self) -> bool:
        """Whether the log has lost acknowledged events, by a forced promotion."""

    def is_from_before(self, incarnation: str, allocator: "Allocator", /) -> bool:
        """Whether a generation before the restore of this log may have dealt with it here."""

    def doubt_log(self, why: str) -> None:
        """The log lacks what was acknowledged, though nobody has given it up."""

    def record(self, fact: Fact) -> None:
        """Let `fact` become true, and be appended with the next commit round."""

    def tell(self, incarnation: str, allocator: "Allocator") -> None:
        """Let this incarnation hear where it stands, after the next commit round."""

    def is_connected(self, incarnation: str) -> bool:
        """Whether the incarnation has a connection now."""

    def may_come(self, allocator: "Allocator", missing: int, now: int, /) -> bool:
        """Whether other data centres may have so many units more; then they are asked for."""

    def may_be_freed(self, allocator: "Allocator", /) -> bool:
        """Whether servers give units of the same period back, which are not counted here yet."""

    def left_elsewhere(self, allocator: "Allocator", /) -> "Left":
        """What other data centres may have, though fewer units than were asked of them."""

    def is_scarce(self, allocator: "Allocator", /) -> bool:
        """Whether nobody should get more than it needs now."""

    def reserved(self, allocator: "Allocator", now: int, /) -> int:
        """Units of the pool that are another data centre's before they are anybody's here."""


class Allocator:
    """The queue, the recall round and the verdicts of one interval."""

    def __init__(self, cap: str, interval: Interval, paced: bool, host: AllocatorHost) -> None:
        self.cap = cap
        self.interval = interval
        self.paced = paced
        self._pool = interval.pool
        self._host = host
        self._version = 0
        self._rounds = 0
        self._round: RecallRound | None = None
        self._queue: deque[str] = deque()
        self._wishes: dict[str, ServerDemand] = {}
        self._eager: dict[str, None] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._unaware: dict[str, PoolVersion] = {}
        self._refunders: dict[str, None] = {}

    @property
    def busy(self) -> bool:
        """Whether time alone may change something here."""
        return bool(self._queue) or self._round is not None or self._pool.available < 0

    def hear(
        self, incarnation: str, connection: int, order: MessageNumber, holding: Holding
    ) -> list[Spend]:
        """Take in what one server tells; returns what it newly spent, to be recorded together."""
        wish = self._wishes.get(incarnation)
        if wish is None:
            wish = self._wishes[incarnation] = ServerDemand()
        newer = order > wish.order
        self._count_hearing(incarnation, holding)
        if newer:
            first = connection != wish.connection
            self._take_newest(wish, incarnation, connection, order, holding)
            if first and self._pool.peek(incarnation).held > 0:
                self.bump()
        self._recover_holding(incarnation, holding)
        self._doubt_log(incarnation, holding)
        self._recover_topup(incarnation, holding)
        news = self._take_totals(incarnation, holding, wish)
        self._count_answer(incarnation, holding)
        if newer:
            self._queue_up(incarnation, wish)
        return news

    def _take_newest(
        self,
        wish: ServerDemand,
        incarnation: str,
        connection: int,
        order: MessageNumber,
        holding: Holding,
    ) -> None:
        wish.order, wish.connection, wish.received = order, connection, holding.received
        wish.need, wish.want, wish.queued = holding.need, holding.want, holding.queued
        wish.final = holding.final and holding.received >= self._pool.peek(incarnation).out

    def _recover_holding(self, incarnation: str, holding: Holding) -> None:
        """What a readmitted server tells first is how it stood with the generation before."""
        account = self._pool.peek(incarnation)
        if not account.recovered and self._host.is_from_before(incarnation, self):
            self._take_recovered(incarnation, self._recovered(incarnation, holding))

    def _doubt_log(self, incarnation: str, holding: Holding) -> None:
        """Nothing leaves before it is durable: who was given more has seen a longer log than this.

        Somebody put an older one back. Whatever is available may have been granted by the end that
        is missing, and so counts as spent, until two operators accept that.
        """
        out = self._pool.peek(incarnation).out
        if holding.received <= out or self._host.may_lack_topups:
            return
        told, number = self._recovered(incarnation, holding), self.interval.number
        if self._pool.old is None:
            amount = self._pool.available
            self._host.record(AmountWithheld(cap=self.cap, number=number, amount=amount))
        self._take_recovered(incarnation, told)
        self._host.doubt_log(
            f"{incarnation} was given {holding.received} units of {self.cap}, interval {number}, "
            f"and this log knows of {out}: its end is missing"
        )

    def _recovered(self, incarnation: str, holding: Holding) -> HoldingRecovered:
        """What a server tells of a log that is not this one, if it can be true."""
        account = self._pool.peek(incarnation)
        told = HoldingRecovered(
            cap=self.cap,
            number=self.interval.number,
            incarnation=incarnation,
            moved=max(account.out, holding.received),
            returned=max(account.back, holding.returned),
            spent=max(account.spent, holding.spent),
            refunded=max(account.refunded, holding.refunded),
        )
        is_sound = told.refunded <= told.spent and (
            told.returned + told.spent - told.refunded <= told.moved
        )
        more, back = told.moved - account.out, told.returned - account.back
        pool = self._pool
        there = pool.available if pool.old is None else pool.old
        is_amount = more <= MAX_AMOUNT - max(pool.held, -pool.available)
        if not (is_sound and is_amount and abs(there + back - more) <= MAX_AMOUNT):
            raise SuspectServer(f"{incarnation} tells what cannot be of {self.cap}: {holding}")
        return told

    def _take_recovered(self, incarnation: str, told: HoldingRecovered) -> None:
        self._host.record(told)
        if self._pool.peek(incarnation).held:
            self.bump()  # it may give back what others were told was nowhere

    def _recover_topup(self, incarnation: str, holding: Holding) -> None:
        """A topup may have been lost with who acknowledged it; who was given it has it still."""
        more = holding.received - self._pool.peek(incarnation).out
        if more > 0 and self._host.may_lack_topups:
            if more > MAX_AMOUNT - max(self._pool.held, -self._pool.available):
                raise SuspectServer(
                    f"{incarnation} tells of {more} units more than are known of {self.cap},"
                    f" interval {self.interval.number}: with what others hold, they are no amount"
                )
            number, moved = self.interval.number, holding.received
            self._host.record(
                TopupRecovered(cap=self.cap, number=number, incarnation=incarnation, moved=moved)
            )
            self.bump()  # it may give back what others were told was nowhere

    def _take_totals(self, incarnation: str, holding: Holding, wish: ServerDemand) -> list[Spend]:
        account = self._pool.peek(incarnation)
        returned = max(account.back, holding.returned)
        spent = max(account.spent, holding.spent)
        refunded = max(account.refunded, holding.refunded)
        refused = max(account.refused, holding.refused)
        # The last word comes after the last return: a server repeats it until the books are closed.
        is_last = wish.final and account.out > 0 and returned == account.back
        final = account.final or is_last
        if refunded > spent or returned + spent - refunded > account.out:
            raise SuspectServer(
                f"{incarnation} tells of more than the {account.out} units that it was given of "
                f"{self.cap}, interval {self.interval.number}: {holding}"
            )
        told = (account.spent, account.refunded, account.refused, account.final)
        if (spent, refunded, refused, final) == told:
            return []
        if refunded > account.refunded:
            self.bump()
            self._refunders[incarnation] = None
        return [
            Spend(
                cap=self.cap,
                number=self.interval.number,
                spent=spent,
                refunded=refunded,
                refused=refused,
                final=final,
            )
        ]

    def take_back(self, incarnation: str, holding: Holding) -> None:
        """Record what one server has returned, after what it newly spent.

        A unit that was refunded and then returned was not there before its refund.
        """
        if holding.returned > self._pool.peek(incarnation).back:
            self._host.record(
                Returned(
                    cap=self.cap,
                    number=self.interval.number,
                    incarnation=incarnation,
                    returned=holding.returned,
                )
            )

    def _count_answer(self, incarnation: str, holding: Holding) -> None:
        """An answer covers all units there: while a round is open nobody but its head gets more."""
        current = self._round
        if current and tuple(holding.answered) == current.number:
            current.waiting.discard(incarnation)

    def _queue_up(self, incarnation: str, wish: ServerDemand) -> None:
        out = self._pool.peek(incarnation).out
        if wish.need > out and incarnation not in self._queue:
            self._queue.append(incarnation)
        if wish.want > out:
            self._eager[incarnation] = None

    @property
    def demand(self) -> PoolDemand:
        """What the servers need, and would have ahead of need."""
        waiting, short = [], 0
        for each in self._queue:
            wish, out = self._wishes[each], self._pool.peek(each).out
            if wish.need > out:
                waiting.append(wish.need - out)
                short += max(wish.need, wish.queued) - out
        ahead = sum(
            max(0, wish.want - self._pool.peek(each).out)
            for each, wish in self._wishes.items()
            if self._host.is_connected(each)
        )
        return PoolDemand(waiting, short, ahead)

    def recall(self, missing: int, now: int) -> bool:
        """Let servers give back so many units for another data centre; whether some have yet to.

        With 0 units nothing is asked, and a need of this data centre goes first.
        """
        if missing > 0 and (self._round is None or self._round.head in ("", ELSEWHERE)):
            self._start_recall(ELSEWHERE, missing, now)
        current = self._round
        if current is None or current.head != ELSEWHERE:
            return False
        current.waiting = {each for each in current.waiting if self._host.is_connected(each)}
        return bool(current.waiting)

    def bump(self) -> None:
        """There may be more than the verdicts said: wake those who were told otherwise."""
        self._version += 1
        told, self._verdicts = self._verdicts, {}
        for incarnation in told:
            self._unaware[incarnation] = self._pool_version()
            self._host.tell(incarnation, self)

    def _count_hearing(self, incarnation: str, holding: Holding) -> None:
        """Who was refused and has heard that there may be more refuses nobody for that any more."""
        if tuple(holding.version) >= self._unaware.get(incarnation, NEVER):
            self._unaware.pop(incarnation, None)
        if self._refunders and self._all_are_aware:
            refunders, self._refunders = self._refunders, {}
            for each in refunders:
                self._host.tell(each, self)

    @property
    def _all_are_aware(self) -> bool:
        """Whether nobody who is connected refuses by an older verdict."""
        return not any(map(self._host.is_connected, self._unaware))

    def serve(self, now: int) -> None:
        """Grant what can be granted at the instant `now`, and ask back what is needed."""
        if self._pool.ended:
            self._stop_serving()
            return
        while self._queue:
            if not self._serve_head(self._queue[0], now):
                return
        if self._pool.available < 0:
            self._recall_debt(now)
            return
        if self._round and self._round.head == "":
            self._round = None
        self._serve_eager(now)

    def _stop_serving(self) -> None:
        self._queue.clear()
        self._eager.clear()
        self._round = None

    def _serve_head(self, head: str, now: int) -> bool:
        """Whether the head left the queue; if not, nobody else gets anything meanwhile."""
        missing = self._wishes[head].need - self._pool.peek(head).out
        if missing <= 0 or not self._host.is_connected(head):
            return self._leave(head)
        available = self._free(now)
        if available >= missing:
            self._grant_head(head, available)
            return self._leave(head)
        recall = self._recall_for(head, missing - available, now)
        recall.waiting = {each for each in recall.waiting if self._host.is_connected(each)}
        if now - recall.since > RECALL_US:
            return self._leave(head)
        if recall.waiting:
            return False
        if recall.version != self._version:
            self._start_recall(head, missing - available, recall.since)
            return not self._round_is_waiting()
        if self._host.may_be_freed(self) or self._host.may_come(self, missing - available, now):
            return False
        self._give_verdict(head, available)
        return self._leave(head)

    def _round_is_waiting(self) -> bool:
        return self._round is not None and bool(self._round.waiting)

    def _leave(self, head: str) -> bool:
        self._queue.remove(head)
        if self._round and self._round.head == head:
            self._round = None
        return True

    def _grant_head(self, head: str, available: int) -> None:
        wish, out = self._wishes[head], self._pool.peek(head).out
        others = islice(self._queue, 1, None)
        behind = sum(max(0, self._wishes[each].need - self._pool.peek(each).out) for each in others)
        target = max(wish.need, min(wish.queued, out + available - behind))
        if len(self._queue) == 1:
            target = max(target, self._eager_target(wish, available))
        self._top_up(head, min(target, out + available))

    def _serve_eager(self, now: int) -> None:
        eager, self._eager = self._eager, {}
        if self._host.is_scarce(self):
            return
        for incarnation in eager:
            out, available = self._pool.peek(incarnation).out, self._free(now)
            target = min(self._eager_target(self._wishes[incarnation], available), out + available)
            if target > out and self._host.is_connected(incarnation):
                self._top_up(incarnation, target)

    def _eager_target(self, wish: ServerDemand, available: int) -> int:
        """The total up to which a wish ahead of need is met; it counts from what was received."""
        return min(wish.want, wish.received + share(available, self._active()))

    def _active(self) -> int:
        return sum(map(self._host.is_connected, self._wishes))

    def _free(self, now: int) -> int:
        units = free(self.interval, now) if self.paced else self._pool.available
        return units - self._host.reserved(self, now)

    def _top_up(self, incarnation: str, moved: int) -> None:
        is_own = self._round is not None and self._round.head not in ("", ELSEWHERE)
        asked = self._round.targets if self._round is not None and is_own else ()
        assert incarnation not in asked, "who is asked to give back gets nothing meanwhile"
        self._host.record(
            ToppedUp(
                cap=self.cap, number=self.interval.number, incarnation=incarnation, moved=moved
            )
        )
        self._host.tell(incarnation, self)

    def _recall_for(self, head: str, missing: int, now: int) -> RecallRound:
        current = self._round
        if current is None or current.head != head:
            return self._start_recall(head, missing, now)
        if current.need != self._wishes[head].need:
            # The others waited since the first need of this head, and will not wait longer.
            return self._start_recall(head, missing, current.since)
        return current

    def _start_recall(self, head: str, missing: int, since: int) -> RecallRound:
        targets = {
            place: account.back + min(account.held, missing)
            for place, account in self._pool.places.items()
            if place != head and account.held > 0 and self._host.is_connected(place)
        }
        self._rounds += 1
        number = (self._host.epoch, self._rounds)
        need = self._wishes[head].need if head in self._wishes else 0
        self._round = RecallRound(number, head, need, self._version, since, targets, set(targets))
        for place in targets:
            self._host.tell(place, self)
        return self._round

    def _recall_debt(self, now: int) -> None:
        current = self._round
        fresh = current and current.version == self._version and current.head == ""
        if not fresh or now - current.since > DEBT_RECALL_US:  # type: ignore[union-attr]  # fresh implies a round
            self._start_recall("", -self._pool.available, now)

    def _give_verdict(self, head: str, available: int) -> None:
        returned, rest = self._pool.peek(head).back, max(0, available)
        more = self.paced and rest < self._pool.available
        until = released_at(self.interval, rest + 1) if more else 0
        left = self._host.left_elsewhere(self)
        rest = min(rest + left.units, MAX_AMOUNT)
        version = self._pool_version()
        self._verdicts[head] = Verdict(rest, returned, version, until, left.is_counted_out)
        self._host.tell(head, self)

    def _pool_version(self) -> PoolVersion:
        return (self._host.epoch, self._version)

    def grant(self, incarnation: str) -> Grant:
        """Where `incarnation` stands with this interval.

        One that was readmitted says first how it stood: the generation before may have closed the
        interval since, and the server have forgotten it.
        """
        account = self._pool.peek(incarnation)
        if not account.recovered and self._host.is_from_before(incarnation, self):
            account = Account()
        current = self._round
        recall = None
        if current and incarnation in current.waiting:
            recall = (current.number, current.targets[incarnation])
        return Grant(
            cap=self.cap,
            number=self.interval.number,
            moved=account.out,
            returned=account.back,
            spent=account.spent,
            refunded=account.refunded,
            ended=self._pool.ended,
            closed=self._pool.closed,
            version=self._pool_version(),
            recall=recall,
            verdict=self._verdicts.get(incarnation),
            available=max(0, self._pool.available),
            final=account.final,
            withheld=self._pool.withheld,
            free=account.refunded if self._all_are_aware else 0,
        )
