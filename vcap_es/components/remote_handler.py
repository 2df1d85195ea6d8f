"""The remote handler: deals with the primary masters of other data centres.

It tells them of definitions and intervals, moves amounts to them and takes in what they move here.
The log is its outbox: what was moved and is not known to be there is told again, for ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct, structs

from vcap_es.components.decisions.centre import NO_CENTRE, changed
from vcap_es.components.decisions.inheritance import inherited
from vcap_es.components.decisions.interval import CLOSE_AFTER_US, is_settled_here
from vcap_es.components.exchange import Exchange
from vcap_es.components.hybrid_clock import AHEAD_US
from vcap_es.components.local_handler import Key, LocalHandler
from vcap_es.components.shared_settings import SharedSettings
from vcap_es.components.transfer_messages import (
    About,
    AmongRemotes,
    BetweenCentres,
    Books,
    Closed,
    Inquiry,
    Members,
    Movement,
    OfAnInterval,
    Receipt,
    Register,
    Reply,
    Settings,
    Status,
    Versions,
    Wish,
)
from vcap_es.errors import InvalidDefinition
from vcap_es.events.amounts import split
from vcap_es.events.facts import (
    Fact,
    HomeMoved,
    IntervalClosed,
    IntervalLearned,
    MetaLearned,
    SharesSet,
    TransferReceived,
    TransferSettled,
    Version,
)
from vcap_es.events.placements import shares_of
from vcap_es.projections.states.centre import registers_of
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

TWINS_MAX, TWIN_US = 100, 60_000_000
"""So many caps that two data centres have each defined are named, and for so long after a sign."""

INTERVALS_PER_MESSAGE = 100
METAS_PER_STEP = 200
"""So many caps are looked at in one step, round and round: all others hear their versions."""


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
        local: LocalHandler,
        define: Callable[[str], object],
        now: int,
    ) -> None:
        """Deal with the data centres that the `state` knows, and `define` caps for them."""
        self.dc = dc
        self._state, self._record, self._local, self._now = state, record, local, now
        self._centres: dict[str, int] = {}
        self._others: list[str] = []
        self._neighbours: list[str] = []
        self._swept: Iterator[str] = iter(())
        self.is_draining = False
        self._exchanges: dict[Key, Exchange] = {}
        self._touched: dict[Key, None] = {}
        self._outbox: list[tuple[str, BetweenCentres]] = []
        self._define = define
        self._settings = SharedSettings(state, record, dc=dc, tell=self._put)
        self._heard: dict[str, int] = {}
        self._resends: dict[tuple[Key, str], Resend] = {}
        self._registered: dict[tuple[str, str], int] = {}
        self._books: dict[Key, dict[str, Books]] = {}
        self._told: dict[Key, tuple[About, int]] = {}
        self._twins: dict[str, tuple[str, int]] = {}
        self._step_at = self._status_at = self._books_at = self._members_at = now
        self.centres_changed()
        if state.centres:  # who was always alone shares nothing, and need not look for it
            for cap, meta in state.metas.items():
                for interval in meta.intervals:
                    self._exchange((cap, interval.number))
        self._touched |= dict.fromkeys(self._exchanges)

    def in_transit(self) -> dict[str, int]:
        """The units that were sent to each other data centre, and are not known to be there."""
        units: dict[str, int] = {}
        for exchange in self._exchanges.values():
            for centre, sent in exchange.interval.pool.sent.items():
                units[centre] = units.get(centre, 0) + sent.moved - sent.settled
        return units

    def twins(self) -> dict[str, str]:
        """The caps of whose name another data centre has one of its own, as was heard lately."""
        since = self._now - TWIN_US
        return {cap: centre for cap, (centre, at) in self._twins.items() if at >= since}

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

    def stands_in(self, cap: str, minter: str) -> str:
        """The data centre that gathers for `minter`: itself, or the home, or the first of all."""
        home = self._state.metas[cap].home or self.dc
        for each in (minter, home):
            if self._state.centres.get(each, NO_CENTRE).membership != "lost":
                return each
        return min(self._centres, default=self.dc)

    def weigh(self, cap: str, total: int) -> dict[str, int]:
        """`total` units split over the data centres that have a share of the cap."""
        return split(total, self._shares(cap))

    def _shares(self, cap: str) -> dict[str, int]:
        meta = self._state.metas[cap]
        placement = self._state.terms_of(meta.definition.placement)
        home = meta.home or self.dc
        return shares_of(placement, cap, home, self._centres)

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

    def centres_changed(self) -> None:
        """Some data centre takes part, or drains, or is out, or lost: others hear at once."""
        known = self._state.centres
        own = known.get(self.dc, NO_CENTRE).membership
        self.is_draining = own != "in" and bool(known)
        self._neighbours = sorted(
            name for name, each in known.items() if name != self.dc and each.membership != "lost"
        )
        takes_part = own in ("in", "drain")
        self._others = [
            name
            for name in self._neighbours
            if takes_part and known[name].membership in ("in", "drain")
        ]
        self._centres = {
            name: each.weight for name, each in sorted(known.items()) if each.membership == "in"
        }
        self._swept = iter(())
        self._touched |= dict.fromkeys(self._exchanges)
        self._tell_members()

    def _tell_members(self) -> None:
        self._members_at = self._now + STATUS_AGAIN_US
        registers = registers_of(self._state.centres)
        self._outbox += [(each, Members(registers=registers)) for each in self._neighbours]
        self._settings.tell(self._others)

    def settings_changed(self) -> None:
        """A template or a placement has changed here: all others hear with the next step."""
        self._members_at = self._now

    def await_cap(self, cap: str, home: str) -> None:
        """Let another data centre define a cap by its template."""
        if home in self._others:
            self._settings.await_cap(cap, home, self._now)

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
        weights = self._shares(cap)
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
        if self._others and self._exchange(key) is not None:
            self._touched[key] = None

    # ---- what others say

    def received(self, centre: str, message: AmongRemotes, now: int) -> None:
        """Another data centre says something. Who is none of them is not listened to."""
        self._now = max(self._now, now)
        if isinstance(message, Members):
            self._merge(centre, message)
            return
        # What was sent to one that is out since then still has to be settled.
        settles = isinstance(message, Movement | Receipt) and centre in self._neighbours
        if centre not in self._others and not settles:
            return
        self._heard[centre] = self._now
        match message:
            case Register():
                self._learn(centre, message)
            case Inquiry():
                self._define(message.cap)
                self._tell_register(centre, message.cap)
            case Settings():
                self._settings.heard(centre, message, self._now)
            case Status(intervals=intervals):
                for about in intervals:
                    self._hear(centre, about)
            case Versions(versions=versions):
                for cap, version in versions:
                    self._compare(centre, cap, version)
            case _:
                self._take(centre, message)

    def _merge(self, centre: str, message: Members) -> None:
        """Of two registers the newer one holds; who tells of an older one hears the newer one."""
        known = self._state.centres
        if known.get(centre, NO_CENTRE).membership == "lost":
            return
        news = [
            each
            for each in message.registers
            if each.stamp > known.get(each.centre, NO_CENTRE).stamp
        ]
        for each in news:
            self._record(each)
        told = {each.centre: each.stamp for each in message.registers}
        if any(told.get(name, NO_CENTRE.stamp) < each.stamp for name, each in known.items()):
            self._outbox.append((centre, Members(registers=registers_of(known))))

    def _compare(self, centre: str, cap: str, version: Version) -> None:
        meta = self._state.metas.get(cap)
        if meta is None or version > meta.version:
            self._inquire(centre, cap)
        elif version < meta.version:
            self._tell_register(centre, cap)

    def _take(self, centre: str, message: OfAnInterval) -> None:
        exchange = self._hear(centre, message.about, brings=isinstance(message, Movement))
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

    def _hear(self, centre: str, about: About, *, brings: bool = False) -> Exchange | None:
        """Compare versions, learn of the interval; None where nothing can be done with it.

        Who drains learns of one only where the message `brings` something, to send it on.
        """
        self._compare(centre, about.cap, about.version)
        meta = self._state.metas.get(about.cap)
        if meta is None:
            return None  # whatever it brings will come again, when the definition is known
        key = about.cap, about.number
        if meta.interval(about.number) is None:
            is_own = not meta.home and about.number >= meta.taken_at
            if about.number < meta.closed_before or about.minter == self.dc or is_own:
                return None
            if self.is_draining and not brings:
                self._outbox.append((centre, Books(about=about, sent={}, received={})))
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
        if exchange is None:
            return None
        if exchange.minter != about.minter:
            self._note_twin(about, centre)
            return None
        exchange.heard(centre, about, self._now)
        self._touched[key] = None
        return exchange

    def _note_twin(self, about: About, centre: str) -> None:
        """Who did not know of a cap has defined another one of its name: each serves its own."""
        self._twins.pop(about.cap, None)
        while len(self._twins) >= TWINS_MAX:
            del self._twins[next(iter(self._twins))]
        self._twins[about.cap] = centre, self._now

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
        # A log that lost events may know of less than was sent: that must not stop anybody.
        moved = min(message.moved, sent.moved) if sent is not None else 0
        if sent is None or moved <= sent.settled:
            return
        number = exchange.interval.number
        self._record(TransferSettled(cap=exchange.cap, number=number, to=centre, moved=moved))

    # ---- definitions

    def _learn(self, centre: str, register: Register) -> None:
        learned, meta = register.meta, self._state.metas.get(register.meta.cap)
        is_news = meta is None or _is_newer(learned.version, meta)
        if is_news and learned.home != self.dc:
            self._record(learned)
        elif is_news and register.moved is not None:
            self._take_home(centre, learned, register.moved)
        for about in register.intervals:
            self._hear(centre, about)

    def _take_home(self, centre: str, learned: MetaLearned, moved: HomeMoved) -> None:
        """Decide the cap from here on: as its old home had it, and nothing that was opened."""
        meta = self._state.metas.get(learned.cap)
        before = Version(moved.version.generation, moved.version.number - 1)
        if meta is None or meta.version < before:
            self._record(structs.replace(learned, home=centre, version=before))
        self._record(structs.replace(moved, home=""))

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
            moved=meta.moved,
        )

    # ---- time

    def step(self, now: int) -> None:
        """Do what time alone makes due."""
        self._now = max(self._now, now)
        if self._now < self._step_at or not (self._neighbours or self._exchanges):
            return
        self._step_at = self._now + STEP_US
        if self._now >= self._members_at:
            self._tell_members()
        self._settings.step(self._now)
        self._sweep()
        self._leave_if_drained()
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
        return self._step_at if self._neighbours or self._exchanges else None

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

    def _sweep(self) -> None:
        """Let the others compare the versions of some more caps, and share what could be."""
        caps = list(islice(self._swept, METAS_PER_STEP))
        if not caps:
            self._swept = iter(list(self._state.metas))
            return
        metas = [self._state.metas[each] for each in caps]
        for meta in metas:
            self._inherit(meta)
        own = [meta for meta in metas if not meta.home or meta.moved is not None]
        for meta in own:
            for interval in meta.intervals:
                if interval.sharing is None and not (interval.pool.ended or meta.home):
                    self._share_late(meta.cap, interval)
        versions = Versions(versions=[(meta.cap, meta.version) for meta in own])
        if own:
            self._outbox += [(each, versions) for each in self._others]

    def _inherit(self, meta: Meta) -> None:
        """Decide a cap whose home is lost, where this data centre is the heir of that."""
        if self._state.centres.get(meta.home, NO_CENTRE).heir != self.dc:
            return
        try:
            self._record(inherited(meta, self._now + AHEAD_US))
        except InvalidDefinition:
            return  # here is no such zone: it is tried again, until there is

    def _share_late(self, cap: str, interval: Interval) -> None:
        """An interval from before others took part: they have no share of it, but may wish."""
        if self._others and self._shares(cap).keys() != {self.dc}:
            shares = {self.dc: interval.pool.minted}
            self._record(SharesSet(cap=cap, number=interval.number, shares=shares))
            self.touch((cap, interval.number))

    def _leave_if_drained(self) -> None:
        """Who drains is out when its books of everything shared are closed, and it decides nothing.

        Until then somebody may have sent it something, which it must send on.
        """
        centre = self._state.centres.get(self.dc, NO_CENTRE)
        if centre.membership != "drain" or self._exchanges:
            return
        metas = self._state.metas.values()
        if not any(meta.intervals or not (meta.home or meta.retired) for meta in metas):
            self._record(changed(self._state.centres, self.dc, self.dc, "out", 0))

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
            return False  # who drains tells that it has nothing of what it does not know
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

    def _put(self, centre: str, message: BetweenCentres) -> None:
        self._outbox.append((centre, message))

    def _exchange(self, key: Key) -> Exchange | None:
        interval = self._state.interval(*key)
        if interval is None or interval.sharing is None:
            return None
        found = self._exchanges.get(key)
        if found is None:
            found = self._exchanges[key] = Exchange(key[0], interval, self)
        return found


def _is_newer(version: Version, meta: Meta) -> bool:
    """Whether a definition counts more than `meta`: the home's own gives way to an heir alone."""
    if meta.home:
        return version > meta.version
    return version.generation > meta.version.generation
