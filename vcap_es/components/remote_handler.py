"""The remote handler: deals with the primary masters of other data centres.

It tells them of definitions and intervals, moves amounts to them and takes in what they move here.
The log is its outbox: what was moved and is not known to be there is told again, for ever.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from vcap_es.components.decisions.interval import CLOSE_AFTER_US, is_settled_here
from vcap_es.components.exchange import Exchange
from vcap_es.components.local_handler import Key, LocalHandler
from vcap_es.components.transfer_messages import (
    About,
    BetweenCentres,
    Books,
    Closed,
    Inquiry,
    Movement,
    Receipt,
    Register,
    Reply,
    Status,
    Wish,
)
from vcap_es.events.amounts import split
from vcap_es.events.facts import (
    Fact,
    IntervalClosed,
    IntervalLearned,
    MetaLearned,
    SharesSet,
    TransferReceived,
    TransferSettled,
    Version,
)
from vcap_es.events.placements import shares_of
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

STEP_US = 500_000
"""How often exchanges are looked at where time alone may change something."""

STATUS_US, STATUS_AGAIN_US = 1_000_000, 5_000_000
"""So often the others hear what has changed, and what has not."""

BOOKS_US = 2_000_000
REGISTER_US = 500_000
"""A definition is told to, or asked of, the same data centre no more often than this."""

RESENDS_US = (800_000, 6_000_000)
"""A movement is told again after the first of these, then after twice as long, up to the last."""

INTERVALS_PER_MESSAGE = 100


class Resend(Struct):
    """When a movement is told again, and how long is waited after that."""

    due: int
    wait: int


class RemoteHandler:
    """All that one data centre has to do with the others."""

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        *,
        dc: str,
        centres: Mapping[str, int],
        local: LocalHandler,
        now: int,
    ) -> None:
        """Deal with the `centres`, this one among them, which have these weights."""
        self.dc = dc
        self._state, self._record, self._local, self._now = state, record, local, now
        self._centres = dict(centres)
        self._others = sorted(centres.keys() - {dc})
        self._exchanges: dict[Key, Exchange] = {}
        self._touched: dict[Key, None] = {}
        self._outbox: list[tuple[str, BetweenCentres]] = []
        self._heard: dict[str, int] = {}
        self._resends: dict[tuple[Key, str], Resend] = {}
        self._registered: dict[tuple[str, str], int] = {}
        self._books: dict[Key, dict[str, Books]] = {}
        self._told: dict[Key, tuple[About, int]] = {}
        self._step_at = self._status_at = self._books_at = now
        if self._others:  # who is alone shares nothing, and need not look for it
            for cap, meta in state.metas.items():
                for interval in meta.intervals:
                    self._exchange((cap, interval.number))
        self._touched |= dict.fromkeys(self._exchanges)

    # ---- what an exchange asks for

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""
        return self._state.epoch

    @property
    def others(self) -> Sequence[str]:
        """The other data centres."""
        return self._others

    def heard_at(self, centre: str) -> int:
        """When another data centre was heard last; 0 for never."""
        return self._heard.get(centre, 0)

    def weigh(self, total: int) -> dict[str, int]:
        """`total` units split over all data centres."""
        return split(total, self._centres)

    def version(self, cap: str) -> Version:
        """The version of the definition that is known here."""
        return self._state.metas[cap].version

    def record(self, fact: Fact) -> None:
        """Let `fact` become true."""
        self._record(fact)

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""
        if isinstance(message, Movement):
            key = message.about.cap, message.about.number
            wait = RESENDS_US[0]
            self._resends[key, centre] = Resend(self._now + wait, 2 * wait)
        self._outbox.append((centre, message))

    def waiting(self, cap: str, number: int) -> list[int]:
        """The units that each of the own servers is short of."""
        return self._local.waiting((cap, number))

    def ahead(self, cap: str, number: int) -> int:
        """The units that own servers would have ahead of need."""
        return self._local.ahead((cap, number))

    def recall(self, cap: str, number: int, missing: int) -> bool:
        """Let own servers give back what lies idle there; whether some have yet to answer."""
        return self._local.recall((cap, number), missing, self._now)

    def resume(self, cap: str, number: int, *, has_more: bool) -> None:
        """Serve the own servers again."""
        self._local.resume((cap, number), self._now, has_more=has_more)

    # ---- what the local handler asks for

    def may_come(self, key: Key, missing: int, now: int) -> bool:
        """Whether so many units may be had from other data centres; then they are asked for."""
        self._now = max(self._now, now)
        exchange = self._exchange(key)
        if exchange is None:
            return False
        self._touched[key] = None
        return exchange.may_come(missing, now)

    def left(self, key: Key) -> int:
        """Units that others may have, though fewer than were asked of them."""
        found = self._exchanges.get(key)
        return found.left(self._now) if found is not None else 0

    def is_scarce(self, key: Key) -> bool:
        """Whether the rest of an interval is gathered at one data centre."""
        found = self._exchanges.get(key)
        return found is not None and found.mode != "spread"

    def reserved(self, key: Key, now: int) -> int:
        """Units of a pool that another data centre has waited for longer than the own servers."""
        found = self._exchanges.get(key)
        return found.reserved(now) if found is not None else 0

    # ---- what has become true here

    def definition_changed(self, cap: str) -> None:
        """A definition that is decided here has changed: all others must hear."""
        for centre in self._others:
            self._tell_register(centre, cap, is_urgent=True)

    def opened(self, cap: str, number: int) -> None:
        """An interval was opened here: others may have a share of it."""
        meta = self._state.metas[cap]
        interval = meta.interval(number)
        if interval is None or not self._others:
            return
        weights = shares_of(meta.definition.placement, cap, self.dc, self._centres)
        if weights.keys() == {self.dc}:
            return
        shares = split(interval.pool.minted, weights)
        self._record(SharesSet(cap=cap, number=number, shares=shares))
        self.touch((cap, number))

    def total_changed(self, key: Key) -> None:
        """The total of an interval was changed here."""
        exchange = self._exchange(key)
        if exchange is not None:
            exchange.total_changed(self._now)
            self.touch(key)

    def touch(self, key: Key) -> None:
        """Something about an interval has changed: look at it before the next commit round."""
        if self._exchange(key) is not None:
            self._touched[key] = None

    # ---- what others say

    def received(self, centre: str, message: BetweenCentres, now: int) -> None:
        """Another data centre says something. Who is none of them is not listened to."""
        self._now = max(self._now, now)
        if centre not in self._others:
            return
        self._heard[centre] = self._now
        match message:
            case Register():
                self._learn(centre, message)
            case Inquiry():
                self._tell_register(centre, message.cap)
            case Status(intervals=intervals):
                for about in intervals:
                    self._hear(centre, about)
            case _:
                self._take(centre, message)

    def _take(
        self, centre: str, message: Movement | Receipt | Wish | Reply | Books | Closed
    ) -> None:
        exchange = self._hear(centre, message.about)
        if exchange is None:
            return
        key = exchange.cap, exchange.interval.number
        match message:
            case Movement():
                self._moved_here(centre, exchange, message)
            case Receipt():
                self._settle(centre, exchange, message)
            case Wish():
                exchange.wished(centre, message, self._now)
            case Reply():
                exchange.replied(centre, message, self._now)
            case Books():
                self._books.setdefault(key, {})[centre] = message
            case Closed():
                self._close(key, exchange.interval)
        self.touch(key)

    def _hear(self, centre: str, about: About) -> Exchange | None:
        """Compare versions, learn of the interval; None where nothing can be done with it."""
        meta = self._state.metas.get(about.cap)
        if meta is None or about.version > meta.version:
            self._inquire(centre, about.cap)
        elif about.version < meta.version:
            self._tell_register(centre, about.cap)
        if meta is None:
            return None  # whatever it brings will come again, when the definition is known
        key = about.cap, about.number
        if meta.interval(about.number) is None:
            if about.number < meta.closed_before or about.minter == self.dc or not meta.home:
                return None
            self._record(
                IntervalLearned(
                    cap=about.cap,
                    number=about.number,
                    start=about.start,
                    end=about.end,
                    minter=about.minter,
                )
            )
        exchange = self._exchange(key)
        if exchange is not None:
            exchange.heard(centre, about, self._now)
            self._touched[key] = None
        return exchange

    def _moved_here(self, centre: str, exchange: Exchange, message: Movement) -> None:
        pool, number = exchange.interval.pool, exchange.interval.number
        if message.moved > pool.received.get(centre, 0):
            self._record(
                TransferReceived(
                    cap=exchange.cap, number=number, source=centre, moved=message.moved
                )
            )
            exchange.received(centre, self._now)
        moved = pool.received.get(centre, 0)
        self.tell(centre, Receipt(about=exchange.about, moved=moved))

    def _settle(self, centre: str, exchange: Exchange, message: Receipt) -> None:
        sent = exchange.interval.pool.sent.get(centre)
        if sent is None or message.moved <= sent.settled:
            return
        number = exchange.interval.number
        self._record(
            TransferSettled(cap=exchange.cap, number=number, to=centre, moved=message.moved)
        )

    # ---- definitions

    def _learn(self, centre: str, register: Register) -> None:
        learned, meta = register.meta, self._state.metas.get(register.meta.cap)
        is_own = learned.home == self.dc or (meta is not None and not meta.home)
        if not is_own and (meta is None or learned.version > meta.version):
            self._record(learned)
        for about in register.intervals:
            self._hear(centre, about)

    def _inquire(self, centre: str, cap: str) -> None:
        if self._is_due(centre, cap):
            self._outbox.append((centre, Inquiry(cap=cap)))

    def _tell_register(self, centre: str, cap: str, *, is_urgent: bool = False) -> None:
        meta = self._state.metas.get(cap)
        if meta is not None and (self._is_due(centre, cap) or is_urgent):
            self._outbox.append((centre, self._register(meta)))

    def _is_due(self, centre: str, cap: str) -> bool:
        """Whether the last message of a definition is long enough ago."""
        last = self._registered.get((centre, cap), -REGISTER_US)
        if self._now - last < REGISTER_US:
            return False
        self._registered[centre, cap] = self._now
        return True

    def _register(self, meta: Meta) -> Register:
        exchanges = [self._exchange((meta.cap, each.number)) for each in meta.intervals]
        return Register(
            meta=MetaLearned(
                cap=meta.cap,
                home=meta.home or self.dc,
                version=meta.version,
                definition=meta.definition,
                paused=meta.paused,
                retired=meta.retired,
                ended_before=meta.ended_before,
            ),
            intervals=[each.about for each in exchanges if each is not None],
        )

    # ---- time

    def step(self, now: int) -> None:
        """Do what time alone makes due."""
        self._now = max(self._now, now)
        if self._now < self._step_at or not self._others:
            return
        self._step_at = self._now + STEP_US
        for key, exchange in self._exchanges.items():
            self._touched[key] = None
            self._tell_movements_again(key, exchange)
        if self._now >= self._status_at:
            self._status_at = self._now + STATUS_US
            self._tell_status()
        if self._now >= self._books_at:
            self._books_at = self._now + BOOKS_US
            self._tell_books()

    def next_due(self) -> int | None:
        """When `step` is wanted next, in microseconds UTC; None where there are no others."""
        return self._step_at if self._others else None

    def look(self, now: int) -> None:
        """See to every exchange that was touched."""
        self._now = max(self._now, now)
        touched, self._touched = self._touched, {}
        for key in touched:
            exchange = self._exchange(key)
            if exchange is not None:
                exchange.react(self._now)

    def compose(self) -> list[tuple[str, BetweenCentres]]:
        """Everything that others are to be told of what is decided so far."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def _tell_movements_again(self, key: Key, exchange: Exchange) -> None:
        for centre, sent in exchange.interval.pool.sent.items():
            again = self._resends.get((key, centre))
            if sent.settled >= sent.moved:
                self._resends.pop((key, centre), None)
            elif again is None or self._now >= again.due:
                wait = again.wait if again is not None else RESENDS_US[0]
                exchange.tell_moved(centre)
                later = min(2 * wait, RESENDS_US[1])
                self._resends[key, centre] = Resend(self._now + wait, later)

    def _tell_status(self) -> None:
        """Tell of what has changed, and now and then of the rest; and that somebody is here."""
        news = [each for key, each in self._exchanges.items() if self._is_news(key, each)]
        abouts = [each.about for each in news]
        for at in range(0, max(1, len(abouts)), INTERVALS_PER_MESSAGE):
            part = abouts[at : at + INTERVALS_PER_MESSAGE]
            for centre in self._others:
                self._outbox.append((centre, Status(intervals=part)))

    def _is_news(self, key: Key, exchange: Exchange) -> bool:
        about = exchange.about
        told, at = self._told.get(key, (None, 0))
        if told == about and self._now - at < STATUS_AGAIN_US:
            return False
        self._told[key] = (about, self._now)
        return True

    # ---- the end

    def _tell_books(self) -> None:
        for key, exchange in list(self._exchanges.items()):
            if not is_settled_here(exchange.interval, self._now):
                continue
            pool = exchange.interval.pool
            sent = {centre: each.moved for centre, each in pool.sent.items()}
            books = Books(about=exchange.about, sent=sent, received=dict(pool.received))
            if not exchange.is_gatherer:
                self._outbox.append((exchange.gatherer, books))
                continue
            told = {**self._books.get(key, {}), self.dc: books}
            if self._agree(told) or self._now >= exchange.interval.end + CLOSE_AFTER_US:
                for centre in self._others:
                    self._outbox.append((centre, Closed(about=exchange.about)))
                self._close(key, exchange.interval)

    def _agree(self, books: Mapping[str, Books]) -> bool:
        """Whether everybody has told, and whatever was sent has come."""
        if any(each not in books for each in self._others):
            return False
        return all(
            here.sent.get(there, 0) == books[there].received.get(centre, 0)
            for centre, here in books.items()
            for there in books
            if there != centre
        )

    def _close(self, key: Key, interval: Interval) -> None:
        if not interval.pool.ended:
            return
        cap, number = key
        self._record(IntervalClosed(cap=cap, number=number, unreported=interval.pool.held))
        self._exchanges.pop(key, None)
        self._books.pop(key, None)
        self._told.pop(key, None)
        self._touched.pop(key, None)
        for centre in self._others:
            self._resends.pop((key, centre), None)

    # ---- inside

    def _exchange(self, key: Key) -> Exchange | None:
        interval = self._state.interval(*key)
        if interval is None or interval.sharing is None:
            return None
        found = self._exchanges.get(key)
        if found is None:
            found = self._exchanges[key] = Exchange(key[0], interval, self)
        return found
