"""What a volumecap server tells the master: what it has, what it needs, and what it would know."""

from itertools import islice

from vcap_es.components.messages.server import Holding, MessageNumber, Report, Watch
from vcap_es.components.volumecap_server.slices.outputs import SendToMaster, ServerOutput
from vcap_es.components.volumecap_server.slices.slice import Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import Version
from vcap_es.events.units import MS

HOLDINGS_PER_REPORT = 2000
CAPS_PER_WATCH = 2000
SIGN_OF_LIFE_NS = 5_000 * MS
"""Nanoseconds with nothing to tell, after which a server tells that: silence counts as death.
"""

QUEUED_MAX = 100
"""A report adds up at most this many waiting consumes in `queued`."""

ANEW_PER_TURN = 500
"""A new master hears of everything in turns: what somebody waits for must not queue behind it."""

TURN_NS = 500 * MS
"""A turn begins when the one before it was answered, or after this many nanoseconds."""

Wish = tuple[int, int]
"""What somebody waits for: the need, with what was received."""


class Reporter:
    """Gathers what must be told soon, and repeats it while somebody waits for an answer."""

    def __init__(self, start: int, table: SliceTable, outputs: list[ServerOutput]) -> None:
        self.is_connected = False
        self._table, self._outputs = table, outputs
        self._order: MessageNumber = (start, 0)
        self._sent_ns = 0
        self._urgent: dict[Slice, None] = dict.fromkeys(table.slices.values())
        self._hungry: dict[Slice, Wish] = {}
        self._asked: dict[str, None] = dict.fromkeys(table.watched)
        self._hungry_caps: dict[str, None] = {}
        self._anew: dict[Slice, None] = {}
        self._anew_caps: dict[str, None] = {}
        self._heard: dict[str, Version] = {}
        self._turn_ns = 0

    # ---- what is to be told

    def tell(self, found: Slice) -> None:
        """Let the master hear of this slice."""
        self._urgent[found] = None

    def hunger(self, found: Slice) -> None:
        """Let the master hear of this slice, again and again while somebody waits.

        At once only what it was not told yet: it answers each report, so that a wish told again at
        each answer would go to and fro as fast as the link can. A recall changes nothing that is
        told before it is answered, and each wish may open another one.
        """
        wish = (self._need(found), found.received)
        if self._hungry.get(found) != wish:
            self._hungry[found] = wish
            self._urgent[found] = None

    def ask_for(self, cap: str) -> None:
        """Ask the master for a cap of which nothing is known, or nothing new since a moment."""
        watched = self._table.watched.get(cap) or self._table.watch(cap)
        if watched.notice is None or watched.notice.state != "active":
            now_ns = self._table.now_ns
            if not watched.asked_ns or now_ns - watched.asked_ns > self._table.limits.fresh_ms * MS:
                self.ask_again(cap)

    def ask_again(self, cap: str) -> None:
        """Ask the master what this cap is."""
        self._table.watch(cap).asked_ns = self._table.now_ns
        self._asked[cap] = None

    def hunger_for(self, cap: str) -> None:
        """Ask the master for this cap, again and again while somebody waits for it."""
        if cap not in self._hungry_caps:
            self._hungry_caps[cap] = None
            self.ask_again(cap)

    def confirm(self, cap: str, version: Version) -> None:
        """Let the master hear that this definition is served by from now on."""
        self._heard[cap] = version

    @property
    def is_hungry(self) -> bool:
        """Whether `repeat` is wanted soon."""
        return bool(self._hungry or self._hungry_caps)

    @property
    def is_idle(self) -> bool:
        """Whether everything is told."""
        return not (self._urgent or self._anew or self._heard)

    def repeat(self) -> None:
        """Tell again what somebody waits for: a wish repeats until it is met."""
        for found in list(self._hungry):
            if found.closed or not self._waits(found):
                del self._hungry[found]
            else:
                self._urgent[found] = None
        for cap in list(self._hungry_caps):
            watched = self._table.watched.get(cap)
            if watched is None or not (watched.waiters or watched.lookups):
                del self._hungry_caps[cap]
            else:
                self.ask_again(cap)

    def _waits(self, found: Slice) -> bool:
        leaves = self._table.is_stopping and not found.is_back(self._table.cells)
        return bool(found.waiters or found.recall or found.lookups or leaves)

    def survey(self, found: Slice) -> None:
        """Tell of this slice if the master may not know how it stands."""
        if found.received and found.totals(self._table.cells) != found.told:
            self._urgent[found] = None
        elif found.ended:
            if self._is_final(found):
                self._urgent[found] = None
        elif self._table.now_ns >= found.deadline_ns:
            # Its end, or after a start its bounds, should have been heard by now.
            self._urgent[found] = None
            self.ask_again(found.cap)

    def connected(self) -> None:
        """The master is connected: tell and ask everything anew, first what somebody waits for."""
        self.is_connected, self._turn_ns = True, 0
        self._heard.clear()  # who is connected now asks itself
        self._anew_caps = dict.fromkeys(self._table.watched)
        self._anew = dict.fromkeys(self._table.slices.values())
        for found in self._anew:
            found.told = (-1, 0, 0, 0)
        self._hungry.clear()
        for found in [each for each in self._anew if self._waits(each)]:
            self.hunger(found)

    def heard(self, echo_ns: int) -> None:
        """The master has answered what was sent at `echo_ns`: the next turn may come."""
        if echo_ns >= self._turn_ns:
            self._turn_ns = 0

    def forget(self, found: Slice) -> None:
        """The slice is no more."""
        self._urgent.pop(found, None)
        self._anew.pop(found, None)
        self._hungry.pop(found, None)

    # ---- the messages

    def send(self) -> None:
        """Send all that is to be told, if the master is connected, or a sign of life."""
        if not self.is_connected:
            return
        self._take_turn()
        while self._asked:
            caps = list(islice(self._asked, CAPS_PER_WATCH))
            for cap in caps:
                del self._asked[cap]
                self._anew_caps.pop(cap, None)
            self._outputs.append(SendToMaster(Watch(caps=caps, sent_ns=self._stamp())))
        while self._urgent or self._heard:
            batch = list(islice(self._urgent, HOLDINGS_PER_REPORT))
            for found in batch:
                del self._urgent[found]
                self._anew.pop(found, None)
            self._outputs.append(SendToMaster(self._report(batch)))
        if self._table.now_ns - self._sent_ns >= SIGN_OF_LIFE_NS:
            self._outputs.append(SendToMaster(self._report([])))

    def _take_turn(self) -> None:
        """Let some more go of what the master has yet to hear, behind what is urgent."""
        is_open = self._turn_ns and self._table.now_ns - self._turn_ns < TURN_NS
        if is_open or not (self._anew or self._anew_caps):
            return
        self._turn_ns = max(self._sent_ns + 1, self._table.now_ns)
        self._asked |= dict.fromkeys(islice(self._anew_caps, ANEW_PER_TURN))
        self._urgent |= dict.fromkeys(islice(self._anew, ANEW_PER_TURN))

    def _report(self, batch: list[Slice]) -> Report:
        self._order = (self._order[0], self._order[1] + 1)
        sent_ns = self._stamp()
        for found in batch:
            found.told = found.totals(self._table.cells)
            found.told_ns = min(found.told_ns, sent_ns)
        heard = list(islice(self._heard.items(), CAPS_PER_WATCH))
        for cap, _ in heard:
            del self._heard[cap]
        return Report(
            incarnation=self._table.incarnation,
            order=self._order,
            sent_ns=sent_ns,
            holdings=[self._holding(each) for each in batch],
            heard=heard,
        )

    def _stamp(self) -> int:
        """The boot clock; no two messages have the same, so that an echo names one of them."""
        self._sent_ns = max(self._sent_ns + 1, self._table.now_ns)
        return self._sent_ns

    def _holding(self, found: Slice) -> Holding:
        spent, returned, refunded, refused = found.told
        need = self._need(found)
        found.is_final = self._is_final(found)
        return Holding(
            found.cap,
            found.number,
            found.received,
            returned,
            spent,
            refunded,
            refused,
            need,
            0 if self._table.is_stopping or found.recall else max(found.want, 0),
            found.is_final,
            found.answered,
            self._queued(found, need),
            found.version,
        )

    def _queued(self, found: Slice, need: int) -> int:
        """The running total that would serve all waiting consumes, or many of them."""
        if len(found.waiters) < 2 or not need:
            return need
        waiting = (each.minimum for each in found.waiters if not each.is_done)
        queued = need + sum(islice(waiting, 1, QUEUED_MAX))
        return max(need, min(queued, found.received + found.total, MAX_AMOUNT))

    def _need(self, found: Slice) -> int:
        """The running total that would serve the first waiting consume."""
        waiter = next((each for each in found.waiters if not each.is_done), None)
        if waiter is None or self._table.is_stopping or found.ended:
            return 0
        balance = found.balance(self._table.cells)
        verdict, aim = found.verdict, min(waiter.maximum, found.countable(self._table.cells))
        if verdict is not None and waiter.minimum < waiter.maximum:
            aim = max(waiter.minimum, min(aim, balance + verdict.rest))
        return min(found.received + aim - balance, MAX_AMOUNT) if aim > balance else 0

    def _is_final(self, found: Slice) -> bool:
        """Nothing here will ever change again: over, empty, nothing open, everything kept."""
        window_ns = self._table.limits.refund_window_ms * MS
        return found.is_final or (
            found.ended
            and found.balance(self._table.cells) == 0
            and found.pinned == 0
            and found.refunded == found.refunded_kept
            and found.returned == found.returned_kept
            and found.open_holds == 0
            and self._table.now_ns - found.ended_at_ns >= window_ns
        )
