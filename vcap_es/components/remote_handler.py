"""The remote handler: deals with the primary masters of other data centres.

It moves amounts to them and takes in what they move here, and lets everything about shared
intervals be known. Who takes part, definitions, settings and the end of intervals have modules of
their own. The log is the outbox: what was moved and is not known to be there is told again.
"""

from collections.abc import Callable, Sequence

from vcap_es.components.acquaintances import Acquaintances, Meeting
from vcap_es.components.circle import Circle
from vcap_es.components.closing import Closing
from vcap_es.components.definitions import Definitions
from vcap_es.components.desk import Demand, Left
from vcap_es.components.exchange import Exchange
from vcap_es.components.hearsay import doubt_about, doubt_movement
from vcap_es.components.local_handler import Key, LocalHandler
from vcap_es.components.serving import Serving
from vcap_es.components.shared_interval import SharedInterval
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
    Sender,
    Settings,
    Status,
    Versions,
    Wish,
)
from vcap_es.events.amounts import split
from vcap_es.events.facts import (
    Fact,
    IntervalBounded,
    IntervalClosed,
    IntervalLearned,
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

TWINS_MAX, TWIN_US = 100, 60_000_000
"""So many caps that two data centres have each defined are named, and for so long after a sign."""

INTERVALS_PER_MESSAGE = 100


class RemoteHandler:
    """All that one data centre has to do with the others."""

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        *,
        dc: str,
        local: LocalHandler,
        define: Callable[[str], bool],
        now: int,
    ) -> None:
        """Deal with the data centres that the `state` knows, and `define` caps for them."""
        self._state, self._local, self._define = state, local, define
        self._acquaintances = Acquaintances(state, record, dc=dc)
        self._circle = Circle(state, record, self._acquaintances, dc=dc, now=now)
        self._definitions = Definitions(self._circle, self._abouts)
        self._settings = SharedSettings(self._circle, define)
        self._closing = Closing(self._circle)
        self.serving = Serving(self._circle, local, self._definitions.tell)
        self._exchanges: dict[Key, Exchange] = {}
        self._touched: dict[Key, None] = {}
        self._told: dict[Key, tuple[About, int]] = {}
        self._twins: dict[str, tuple[str, int]] = {}
        self._step_at = self._status_at = self._members_at = now
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
            for centre, sent in exchange.shared.pool.sent.items():
                units[centre] = units.get(centre, 0) + sent.moved - sent.settled
        return units

    def namesakes(self) -> dict[str, str]:
        """Those that are not listened to, by name, and why; as was heard lately."""
        return self._acquaintances.namesakes(self._circle.now)

    def cluster_of(self, centre: str) -> str:
        """The log that letters to a data centre are meant for; "" where it was never heard."""
        return self._acquaintances.cluster_of(centre)

    def twins(self) -> dict[str, str]:
        """The caps of whose name another data centre has one of its own, as was heard lately."""
        since = self._circle.now - TWIN_US
        return {cap: centre for cap, (centre, at) in self._twins.items() if at >= since}

    def doubts(self) -> dict[str, str]:
        """What others told and was not believed lately: of which cap or register, and why."""
        return self._circle.doubts.lately(self._circle.now)

    # ---- what an exchange asks for

    @property
    def dc(self) -> str:
        """The name of this data centre."""
        return self._circle.dc

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""
        return self._state.epoch

    @property
    def others(self) -> Sequence[str]:
        """The other data centres."""
        return self._circle.others

    @property
    def is_draining(self) -> bool:
        """Whether nothing is granted here any more."""
        return self._circle.is_draining

    def heard_at(self, centre: str) -> int:
        """When another data centre was heard last; 0 for never."""
        return self._circle.heard_at(centre)

    @property
    def fresh(self) -> set[str]:
        """The others that were heard lately."""
        return self._circle.fresh

    def stands_in(self, cap: str, minter: str) -> str:
        """The data centre that gathers for `minter`: itself, or the home, or the first of all."""
        home = self._state.metas[cap].home or self.dc
        for each in (minter, home):
            if not self._state.is_lost(each):
                return each
        centres = self._state.centres.items()
        return min((name for name, each in centres if each.membership == "in"), default=self.dc)

    def weigh(self, cap: str, total: int) -> dict[str, int]:
        """`total` units split over the data centres that have a share of the cap."""
        return split(total, self._shares(cap))

    def _shares(self, cap: str) -> dict[str, int]:
        meta = self._state.metas[cap]
        placement, home = self._state.terms_of(meta.definition.placement), meta.home or self.dc
        return shares_of(placement, cap, home, self._circle.weights)

    def version(self, cap: str) -> Version:
        """The version of the definition that is known here."""
        return self._state.metas[cap].version

    def record(self, fact: Fact) -> None:
        """Let `fact` become true."""
        self._circle.record(fact)

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""
        self._circle.tell(centre, message)

    def demand(self, cap: str, number: int) -> Demand:
        """What own servers need; nobody is served here while this data centre drains."""
        return Demand() if self.is_draining else self._local.demand((cap, number))

    def recall(self, cap: str, number: int, missing: int) -> bool:
        """Let own servers give back what lies idle there; whether some have yet to answer."""
        return self._local.recall((cap, number), missing, self._circle.now)

    def resume(self, cap: str, number: int, *, has_more: bool) -> None:
        """Serve the own servers again."""
        self._local.resume((cap, number), self._circle.now, has_more=has_more)

    # ---- what the local handler asks for

    def may_come(self, key: Key, missing: int, now: int) -> bool:
        """Whether so many units may be had from other data centres; then they are asked for."""
        self._circle.advance(now)
        exchange = self._exchange(key)
        if exchange is None:
            return False
        self._touched[key] = None
        return exchange.may_come(missing, now)

    def left(self, key: Key) -> Left:
        """What others may have, though fewer units than were asked of them."""
        found = self._exchanges.get(key)
        return found.left(self._circle.now) if found is not None else Left()

    def is_scarce(self, key: Key) -> bool:
        """Whether the rest of an interval is gathered at one data centre."""
        found = self._exchanges.get(key)
        return found is not None and found.shared.mode != "spread"

    def reserved(self, key: Key, now: int) -> int:
        """Units of a pool that another data centre has waited for longer than the own servers."""
        found = self._exchanges.get(key)
        return found.reserved(now) if found is not None else 0

    def heard(self, cap: str) -> None:
        """Own servers have heard of the definition of a cap."""
        self.serving.heard(cap)

    def have_heard(self, cap: str) -> bool:
        """Whether all others that may have units of a cap serve by its newest definition."""
        return not self.serving.unheard(cap)

    # ---- what has become true here

    def centres_changed(self) -> None:
        """Some data centre takes part, or drains, or is out, or lost: others hear at once."""
        self._circle.look_again()
        self._definitions.begin_anew()
        self._touched |= dict.fromkeys(self._exchanges)
        self._tell_members()

    def _tell_members(self) -> None:
        self._members_at = self._circle.now + STATUS_AGAIN_US
        self._circle.tell_members()
        self._settings.tell()

    def settings_changed(self) -> None:
        """A template or a placement has changed here: all others hear with the next step."""
        self._members_at = self._circle.now

    def await_cap(self, cap: str, home: str) -> None:
        """Let another data centre define a cap by its template."""
        self._settings.await_cap(cap, home)

    def definition_changed(self, cap: str) -> None:
        """A definition that is decided here has changed: all others must hear."""
        self._definitions.changed(cap)
        self.serving.changed(cap)

    def opened(self, cap: str, number: int) -> None:
        """An interval was opened here: others may have a share of it."""
        interval = self._state.interval(cap, number)
        if interval is None or not self.others:
            return
        weights = self._shares(cap)
        if weights.keys() != {self.dc}:
            self._share(cap, interval, split(max(0, interval.pool.minted), weights))

    def _share(self, cap: str, interval: Interval, shares: dict[str, int]) -> None:
        self.record(SharesSet(cap=cap, number=interval.number, shares=shares))
        self.touch((cap, interval.number))

    def _share_late(self, meta: Meta) -> None:
        """Intervals from before others took part: they have no share of them, but may wish."""
        if not self.others or self._shares(meta.cap).keys() == {self.dc}:
            return
        for interval in meta.intervals:
            if interval.sharing is None and not interval.pool.ended:
                self._share(meta.cap, interval, {self.dc: max(0, interval.pool.minted)})

    def total_changed(self, key: Key) -> None:
        """The total of an interval was changed here."""
        exchange = self._exchange(key)
        if exchange is not None:
            exchange.total_changed(self._circle.now)
            self.touch(key)

    def touch(self, key: Key) -> None:
        """Something about an interval has changed: look at it before the next commit round."""
        if self.others and self._exchange(key) is not None:
            self._touched[key] = None

    # ---- what others say

    def meet(self, sender: Sender, now: int) -> Meeting:
        """Another data centre is about to say something: whether the two know each other."""
        self._circle.advance(now)
        meeting = self._acquaintances.meet(sender, self._circle.now)
        if meeting != "known":
            self._circle.introduce(sender.centre, meeting)
        return meeting

    def received(self, centre: str, message: AmongRemotes, now: int) -> None:
        """Another data centre says something. Who is none of them is not listened to."""
        self._circle.advance(now)
        if isinstance(message, Members):
            self._circle.merge(centre, message)
            return
        # What was sent to one that is out since then still has to be settled.
        settles = isinstance(message, Movement | Receipt) and self._circle.settles_with(centre)
        if centre not in self.others and not settles:
            return
        self._circle.heard(centre)
        match message:
            case Register(intervals=intervals):
                self._definitions.learn(centre, message)
                self._hear_all(centre, intervals)
                self.serving.owe(centre, message.meta.cap)
            case Inquiry(cap=cap, until=until):
                if self._circle.now <= until:
                    self._define(cap)
                self._definitions.tell(centre, cap)
            case Versions(versions=versions, served=served):
                for told in served:
                    self.serving.told(centre, *told)
                for each in versions:
                    if self._definitions.claimed(centre, *each):
                        self._note_twin(each[0], centre)
            case Settings():
                self._settings.heard(centre, message)
            case Status(intervals=intervals):
                self._hear_all(centre, intervals)
            case _:
                self._take(centre, message)

    def _hear_all(self, centre: str, intervals: list[About]) -> None:
        for about in intervals:
            self._hear(centre, about)

    def _take(self, centre: str, message: OfAnInterval) -> None:
        exchange = self._hear(centre, message.about, brings=isinstance(message, Movement))
        if exchange is None:
            return
        key = exchange.shared.cap, exchange.shared.interval.number
        match message:
            case Movement():
                self._moved_here(centre, exchange, message)
            case Receipt():
                self._settle(centre, exchange, message)
            case Wish():
                exchange.wished(centre, message, self._circle.now)
            case Reply():
                exchange.replied(centre, message, self._circle.now)
            case Books():
                self._closing.heard(centre, key, message)
            case Closed():
                self._close(key, exchange.shared.interval)
        self.touch(key)

    def _hear(self, centre: str, about: About, *, brings: bool = False) -> Exchange | None:
        """Compare versions, learn of the interval; None where nothing can be done with it.

        Who drains learns of one only where the message `brings` something, to send it on.
        """
        if not self._circle.believes(centre, about.cap, doubt_about(about)):
            return None
        self._definitions.compare(centre, about.cap, about.version)
        meta = self._state.metas.get(about.cap)
        if meta is None:
            return None  # whatever it brings will come again, when the definition is known
        key = about.cap, about.number
        if meta.interval(about.number) is None:
            is_own = not meta.home and about.number >= meta.taken_at
            if about.number < meta.closed_before or about.minter == self.dc or is_own:
                return None
            if self.is_draining and not brings:
                self.tell(centre, Books(about=about, sent={}, received={}))
                return None
            self.record(
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
        if exchange.shared.minter != about.minter:
            self._note_twin(about.cap, centre)
            return None
        self._hear_bounds(exchange, about)
        exchange.heard(centre, about, self._circle.now)
        self._touched[key] = None
        return exchange

    def _hear_bounds(self, exchange: Exchange, about: About) -> None:
        """Whoever opened an interval may change its bounds; the newest hold, from whom ever."""
        interval, bounded = exchange.shared.interval, about.bounded
        if about.minter == self.dc or bounded is None or interval.pool.ended:
            return
        if interval.bounded is None or bounded > interval.bounded:
            self.record(
                IntervalBounded(
                    cap=about.cap,
                    number=about.number,
                    start=about.start,
                    end=about.end,
                    version=bounded,
                )
            )

    def _note_twin(self, cap: str, centre: str) -> None:
        """Who did not know of a cap has defined another one of its name: each serves its own."""
        self._twins.pop(cap, None)
        while len(self._twins) >= TWINS_MAX:
            del self._twins[next(iter(self._twins))]
        self._twins[cap] = centre, self._circle.now

    def _moved_here(self, centre: str, exchange: Exchange, message: Movement) -> None:
        pool, number = exchange.shared.pool, exchange.shared.interval.number
        doubt = doubt_movement(pool, centre, message.moved)
        if not self._circle.believes(centre, exchange.shared.cap, doubt):
            return
        if message.moved > pool.received.get(centre, 0):
            self.record(
                TransferReceived(
                    cap=exchange.shared.cap, number=number, source=centre, moved=message.moved
                )
            )
            exchange.received(centre, self._circle.now)
        moved = pool.received.get(centre, 0)
        self.tell(centre, Receipt(about=exchange.shared.about, moved=moved))

    def _settle(self, centre: str, exchange: Exchange, message: Receipt) -> None:
        sent = exchange.shared.pool.sent.get(centre)
        # A log that lost events may know of less than was sent: that must not stop anybody.
        moved = min(message.moved, sent.moved) if sent is not None else 0
        if sent is None or moved <= sent.settled:
            return
        number = exchange.shared.interval.number
        self.record(TransferSettled(cap=exchange.shared.cap, number=number, to=centre, moved=moved))

    # ---- time

    def step(self, now: int) -> None:
        """Do what time alone makes due."""
        self._circle.advance(now)
        if self._circle.now < self._step_at or not self._state.centres:
            return
        self._step_at = self._circle.now + STEP_US
        if self._circle.now >= self._members_at:
            self._tell_members()
        self._settings.step()
        for meta in self._definitions.sweep():
            self._share_late(meta)
        self._definitions.inherit()
        self.serving.step()
        if not self._exchanges:
            self._circle.leave_if_drained()
        for key, exchange in self._exchanges.items():
            self._touched[key] = None
            exchange.shared.tell_moved_again(self._circle.now)
        if self._circle.now >= self._status_at:
            self._status_at = self._circle.now + STATUS_US
            self._tell_status()
        for key in self._closing.step(self._exchanges):
            self._close(key, self._exchanges[key].shared.interval)

    def next_due(self) -> int | None:
        """When `step` is wanted next, in microseconds UTC; None where there are no others."""
        return self._step_at if self._state.centres else None

    def look(self, now: int) -> None:
        """See to every exchange that was touched."""
        self._circle.advance(now)
        self.serving.look()
        touched, self._touched = self._touched, {}
        for key in touched:
            exchange = self._exchange(key)
            if exchange is not None:
                exchange.react(self._circle.now)

    def compose(self) -> list[tuple[str, BetweenCentres]]:
        """Everything that others are to be told of what is decided so far."""
        return self._circle.take()

    def _tell_status(self) -> None:
        """Tell of what has changed, and now and then of the rest; and that somebody is here."""
        news = [each for key, each in self._exchanges.items() if self._is_news(key, each)]
        abouts = [each.shared.about for each in news]
        for at in range(0, max(1, len(abouts)), INTERVALS_PER_MESSAGE):
            self._circle.tell_others(Status(intervals=abouts[at : at + INTERVALS_PER_MESSAGE]))

    def _is_news(self, key: Key, exchange: Exchange) -> bool:
        about, now = exchange.shared.about, self._circle.now
        told, at = self._told.get(key, (None, 0))
        if told == about and now - at < STATUS_AGAIN_US:
            return False
        self._told[key] = (about, now)
        return True

    # ---- inside

    def _close(self, key: Key, interval: Interval) -> None:
        if not interval.pool.ended:
            return
        cap, number = key
        self.record(IntervalClosed(cap=cap, number=number, unreported=interval.pool.held))
        self._closing.forget(key)
        self._exchanges.pop(key, None)
        self._told.pop(key, None)
        self._touched.pop(key, None)

    def _abouts(self, meta: Meta) -> list[About]:
        exchanges = [self._exchange((meta.cap, each.number)) for each in meta.intervals]
        return [each.shared.about for each in exchanges if each is not None]

    def _exchange(self, key: Key) -> Exchange | None:
        interval = self._state.interval(*key)
        if interval is None or interval.sharing is None:
            return None
        found = self._exchanges.get(key)
        if found is None:
            found = self._exchanges[key] = Exchange(SharedInterval(key[0], interval, self))
        return found
