"""The remote handler: deals with the primary masters of other data centres.

It moves amounts to them and takes in what they move here, and lets everything about shared
intervals be known. Who takes part, definitions, settings and the end of intervals have modules of
their own. The log is the outbox: what was moved and is not known to be there is told again.
"""

from collections.abc import Callable, Mapping, Sequence

from vcap_es.components.decisions.restore import may_be_open, opening_recovered
from vcap_es.components.local_handler.demands import Left, PoolDemand
from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.messages.centre import (
    AmongRemotes,
    BetweenCentres,
    Books,
    BooksClosed,
    Inquiry,
    IntervalStatus,
    Members,
    Movement,
    OfAnInterval,
    Receipt,
    Recollect,
    Recollection,
    Register,
    Sender,
    SharedSettings,
    Status,
    Versions,
    Wish,
    WishRefusal,
)
from vcap_es.components.remote_handler.centre_identities import CentreIdentities, Knock, Meeting
from vcap_es.components.remote_handler.closing_books import ClosingBooks
from vcap_es.components.remote_handler.definition_sync import DefinitionSync
from vcap_es.components.remote_handler.exchange import Exchange
from vcap_es.components.remote_handler.hearsay import doubt_about, doubt_movement, doubt_recovery
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.components.remote_handler.recollection import Recollections
from vcap_es.components.remote_handler.serving import Serving
from vcap_es.components.remote_handler.settings_sync import SettingsSync
from vcap_es.components.remote_handler.shared_interval import SharedInterval
from vcap_es.events.amounts import split
from vcap_es.events.clusters import generation_of
from vcap_es.events.facts import (
    AmountWithheld,
    Fact,
    IntervalBounded,
    IntervalClosed,
    IntervalLearned,
    IntervalRecovered,
    SharesSet,
    TransferReceived,
    TransferRecovered,
    TransferSettled,
    Version,
)
from vcap_es.events.placements import shares_of
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval, IntervalKey
from vcap_es.projections.states.meta import Meta

STEP_US = 500_000
"""How often exchanges are looked at where time alone may change something."""

STATUS_US, STATUS_AGAIN_US = 1_000_000, 5_000_000
"""Microseconds between two messages about what has changed, and about what has not."""

TWINS_MAX, TWIN_US = 100, 60_000_000
"""At most TWINS_MAX caps that two data centres defined independently are listed, each for TWIN_US
after it was last seen.
"""

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
        self._identities = CentreIdentities(state, record, dc=dc)
        self._membership = Membership(state, record, self._identities, dc=dc, now=now)
        self._definitions = DefinitionSync(self._membership, self._abouts)
        self._settings = SettingsSync(self._membership, define)
        self._closing = ClosingBooks(self._membership)
        self.serving = Serving(self._membership, local, self._definitions.tell)
        self._recollections = Recollections(self._membership)
        self._exchanges: dict[IntervalKey, Exchange] = {}
        self._touched: dict[IntervalKey, None] = {}
        self._told: dict[IntervalKey, tuple[IntervalStatus, int]] = {}
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
        return self._identities.namesakes(self._membership.now)

    def knocking(self) -> dict[str, Knock]:
        """Those that are not listened to until an operator readmits them, as was heard lately."""
        return self._identities.knocking(self._membership.now)

    def all_told(self) -> Mapping[str, int]:
        """The caps of which all that take part have told what a restored log may not know.

        With when the last of those was restored itself, in microseconds UTC; 0 for never.
        """
        return self._recollections.all_told()

    def cluster_of(self, centre: str) -> str:
        """The log that letters to a data centre are meant for; "" where it was never heard."""
        return self._identities.cluster_of(centre)

    def twins(self) -> dict[str, str]:
        """The caps of whose name another data centre has one of its own, as was heard lately."""
        since = self._membership.now - TWIN_US
        return {cap: centre for cap, (centre, at) in self._twins.items() if at >= since}

    def doubts(self) -> dict[str, str]:
        """What others told and was not believed lately: of which cap or register, and why."""
        return self._membership.doubts.lately(self._membership.now)

    # ---- what an exchange asks for

    @property
    def dc(self) -> str:
        """The name of this data centre."""
        return self._membership.dc

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""
        return self._state.epoch

    @property
    def generation(self) -> int:
        """How often the log of this data centre was restored."""
        return generation_of(self._state.primacy.cluster)

    def generation_of(self, centre: str) -> int:
        """How often the log of another data centre was restored, as it is known here."""
        return generation_of(self._state.clusters.get(centre, ""))

    @property
    def others(self) -> Sequence[str]:
        """The other data centres."""
        return self._membership.others

    @property
    def is_draining(self) -> bool:
        """Whether nothing is granted here any more."""
        return self._membership.is_draining

    def heard_at(self, centre: str) -> int:
        """When another data centre was heard last; 0 for never."""
        return self._membership.heard_at(centre)

    @property
    def fresh(self) -> set[str]:
        """The others that were heard lately."""
        return self._membership.fresh

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
        return shares_of(placement, cap, home, self._membership.weights)

    def version(self, cap: str) -> Version:
        """The version of the definition that is known here."""
        return self._state.metas[cap].version

    def record(self, fact: Fact) -> None:
        """Let `fact` become true."""
        self._membership.record(fact)

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""
        self._membership.tell(centre, message)

    def demand(self, cap: str, number: int) -> PoolDemand:
        """What own servers need; nobody is served here while this data centre drains."""
        return PoolDemand() if self.is_draining else self._local.demand((cap, number))

    def recall(self, cap: str, number: int, missing: int) -> bool:
        """Let own servers give back what lies idle there; whether some have yet to answer."""
        return self._local.recall((cap, number), missing, self._membership.now)

    def resume(self, cap: str, number: int, *, has_more: bool) -> None:
        """Serve the own servers again."""
        self._local.resume((cap, number), self._membership.now, has_more=has_more)

    # ---- what the local handler asks for

    def may_come(self, key: IntervalKey, missing: int, now: int) -> bool:
        """Whether so many units may be had from other data centres; then they are asked for."""
        self._membership.advance(now)
        exchange = self._exchange(key)
        if exchange is None:
            return False
        self._touched[key] = None
        return exchange.may_come(missing, now)

    def left(self, key: IntervalKey) -> Left:
        """What others may have, though fewer units than were asked of them."""
        found = self._exchanges.get(key)
        return found.left(self._membership.now) if found is not None else Left()

    def is_scarce(self, key: IntervalKey) -> bool:
        """Whether the rest of an interval is gathered at one data centre."""
        found = self._exchanges.get(key)
        return found is not None and found.shared.mode != "spread"

    def reserved(self, key: IntervalKey, now: int) -> int:
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
        self._membership.look_again()
        self._definitions.begin_anew()
        self._touched |= dict.fromkeys(self._exchanges)
        self._tell_members()

    def readmitted(self, centre: str) -> None:
        """A data centre takes part again, by the log that it has now."""
        self._identities.readmitted(centre)
        self._recollections.forget(centre)
        for each in self._exchanges.values():
            each.forget(centre)
        self._told.clear()
        self.centres_changed()

    def _tell_members(self) -> None:
        self._members_at = self._membership.now + STATUS_AGAIN_US
        self._membership.tell_members()
        self._settings.tell()

    def settings_changed(self) -> None:
        """A template or a placement has changed here: all others hear with the next step."""
        self._members_at = self._membership.now

    def await_cap(self, cap: str, home: str) -> None:
        """Let another data centre define a cap by its template."""
        self._settings.await_cap(cap, home)

    def definition_changed(self, cap: str) -> None:
        """A definition that is decided here has changed: all others must hear."""
        self._definitions.changed(cap)
        self.serving.changed(cap)
        self._recollections.want(cap)

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

    def total_changed(self, key: IntervalKey) -> None:
        """The total of an interval was changed here."""
        exchange = self._exchange(key)
        if exchange is not None:
            exchange.total_changed(self._membership.now)
            self.touch(key)

    def touch(self, key: IntervalKey) -> None:
        """Something about an interval has changed: look at it before the next commit round."""
        if self.others and self._exchange(key) is not None:
            self._touched[key] = None

    # ---- what others say

    def meet(self, sender: Sender, now: int) -> Meeting:
        """Another data centre is about to say something: whether the two know each other."""
        self._membership.advance(now)
        meeting = self._identities.meet(sender, self._membership.now)
        if meeting != "known":
            self._membership.introduce(sender.centre, meeting)
        return meeting

    def knocked(self, centre: str, message: Members, now: int) -> None:
        """One that is not let in says who it is."""
        self._membership.advance(now)
        self._identities.knocked(centre, message)

    def received(self, centre: str, message: AmongRemotes, now: int) -> None:
        """Another data centre says something. Who is none of them is not listened to."""
        self._membership.advance(now)
        if isinstance(message, Members):
            self._membership.merge(centre, message)
            return
        # What was sent to one that is out since then still has to be settled.
        settles = isinstance(message, Movement | Receipt) and self._membership.settles_with(centre)
        if centre not in self.others and not settles:
            return
        self._membership.heard(centre)
        match message:
            case Register(intervals=intervals):
                self._definitions.learn(centre, message)
                self._hear_all(centre, intervals)
                self.serving.owe(centre, message.meta.cap)
            case Inquiry(cap=cap, until=until):
                if self._membership.now <= until:
                    self._define(cap)
                self._definitions.tell(centre, cap)
            case Versions(versions=versions, served=served):
                for told in served:
                    self.serving.told(centre, *told)
                for each in versions:
                    if self._definitions.claimed(centre, *each):
                        self._note_twin(each[0], centre)
            case Recollect():
                self._recollections.answer(centre, message, self._recollection)
            case Recollection():
                self._recollect(centre, message)
            case SharedSettings():
                self._settings.heard(centre, message)
            case Status(intervals=intervals):
                self._hear_all(centre, intervals)
            case _:
                self._take(centre, message)

    def _hear_all(self, centre: str, intervals: list[IntervalStatus]) -> None:
        for about in intervals:
            self._hear(centre, about)

    def _take(self, centre: str, message: OfAnInterval) -> None:
        if (
            isinstance(message, BooksClosed)
            and self._state.interval(*_key_of(message.about)) is None
        ):
            return  # it is closed here as well: an answer would be answered
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
                exchange.wished(centre, message, self._membership.now)
            case WishRefusal():
                exchange.replied(centre, message, self._membership.now)
            case Books():
                self._closing.heard(centre, key, message)
            case BooksClosed():
                self._close(key, exchange.shared.interval)
        self.touch(key)

    def _hear(self, centre: str, about: IntervalStatus, *, brings: bool = False) -> Exchange | None:
        """Compare versions, learn of the interval; None where nothing can be done with it.

        Who drains learns of one only where the message `brings` something, to send it on.
        """
        if not self._membership.believes(centre, about.cap, doubt_about(about)):
            return None
        self._definitions.compare(centre, about.cap, about.version)
        meta = self._state.metas.get(about.cap)
        if meta is None:
            return None  # whatever it brings will come again, when the definition is known
        key = about.cap, about.number
        if meta.interval(about.number) is None:
            if self._is_over_or_own(meta, about):
                self._close_there(centre, meta, about)
                return None
            if self.is_draining and not brings:
                self.tell(centre, Books(about=about, sent={}, received={}))
                return None
            self._learn_interval(meta, about)
        exchange = self._exchange(key)
        if exchange is None:
            return None
        if exchange.shared.minter != about.minter:
            self._note_twin(about.cap, centre)
            return None
        self._hear_bounds(exchange, about)
        if self.dc in about.cuts and not self._recover(centre, exchange, *about.cuts[self.dc]):
            return None
        exchange.heard(centre, about, self._membership.now)
        self._touched[key] = None
        return exchange

    def _hear_bounds(self, exchange: Exchange, about: IntervalStatus) -> None:
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

    def _is_over_or_own(self, meta: Meta, about: IntervalStatus) -> bool:
        """Whether nothing is to be learned of an interval that is not known here.

        What this data centre has opened it knows; but of what it had opened before a restore.
        """
        if about.number < meta.closed_before:
            return True
        if about.minter == self.dc:
            return about.number >= self._state.first_number
        is_own = not meta.home and about.number >= meta.taken_at
        return is_own and not self._state.is_unconfirmed(meta)

    def _learn_interval(self, meta: Meta, about: IntervalStatus) -> None:
        """What may have been open before this log was restored is learned as of that time."""
        learned = IntervalLearned(
            cap=about.cap,
            number=about.number,
            start=about.start,
            end=about.end,
            minter=about.minter,
        )
        if about.minter == self.dc:
            for fact in opening_recovered(meta, learned, self._membership.now):
                self.record(fact)
                if isinstance(fact, IntervalRecovered):
                    interval = self._state.interval(fact.cap, fact.number)
                    assert interval is not None, "it was recovered just now"
                    self._share(fact.cap, interval, {self.dc: fact.total})
            self._recollections.want(about.cap)
            return
        self.record(learned)
        primacy = self._state.primacy
        restored = primacy.restored if primacy.is_withholding else None
        if restored is not None and may_be_open(about.start, about.end, restored.restored_at):
            self.record(AmountWithheld(cap=about.cap, number=about.number, amount=0))
            self._recollections.want(about.cap)

    def _recover(self, centre: str, exchange: Exchange, theirs: int, ours: int) -> bool:
        """Take in what was moved before this log was restored, as the other one has it.

        It had sent `theirs` in all until it readmitted this one, and received `ours`. Whether that
        is believed: without it, nothing that it says of the interval counts.
        """
        pool, number = exchange.shared.pool, exchange.shared.interval.number
        if self._state.primacy.restored is None:
            return True
        if theirs <= pool.received.get(centre, 0) and ours <= pool.sent_to(centre):
            return True
        cap, doubt = exchange.shared.cap, doubt_recovery(pool, centre, ours, theirs)
        if not self._membership.believes(centre, cap, doubt):
            return False
        self.record(
            TransferRecovered(cap=cap, number=number, centre=centre, sent=ours, received=theirs)
        )
        return True

    def _recollection(self, centre: str, cap: str) -> Recollection:
        """All that is known here of a cap, for one that was restored."""
        meta, restored = self._state.metas.get(cap), self._state.primacy.restored
        register = self._definitions.register(meta) if meta is not None else None
        return Recollection(
            cap=cap,
            register=register,
            moved={
                each.number: (each.pool.sent_to(centre), each.pool.received.get(centre, 0))
                for each in (meta.intervals if meta is not None else ())
            },
            centres=[name for name in self._state.centres if self._state.takes_part(name)],
            restored_at=restored.restored_at if restored is not None else 0,
        )

    def _recollect(self, centre: str, message: Recollection) -> None:
        """One tells all that it knows of a cap: nothing is left of it that it could tell later."""
        if self._state.primacy.restored is None:
            return
        register = message.register
        if register is not None and register.meta.cap == message.cap:
            self._definitions.learn(centre, register)
            for each in register.intervals:
                if each.cap == message.cap:
                    self._hear(centre, each)
        self._recollections.heard(centre, message)

    def _close_there(self, centre: str, meta: Meta, about: IntervalStatus) -> None:
        """Who was restored may not know that all had agreed on an interval, and closed it."""
        is_news = self.generation_of(centre) or self.generation
        if is_news and about.number < meta.closed_before:
            self.tell(centre, BooksClosed(about=about))

    def _note_twin(self, cap: str, centre: str) -> None:
        """Who did not know of a cap has defined another one of its name: each serves its own."""
        self._twins.pop(cap, None)
        while len(self._twins) >= TWINS_MAX:
            del self._twins[next(iter(self._twins))]
        self._twins[cap] = centre, self._membership.now

    def _moved_here(self, centre: str, exchange: Exchange, message: Movement) -> None:
        pool, number = exchange.shared.pool, exchange.shared.interval.number
        if message.generation != self.generation:
            return  # it was moved to a generation before: it is told of as that
        doubt = doubt_movement(pool, centre, message.moved)
        if not self._membership.believes(centre, exchange.shared.cap, doubt):
            return
        if message.moved > pool.received.get(centre, 0):
            self.record(
                TransferReceived(
                    cap=exchange.shared.cap, number=number, source=centre, moved=message.moved
                )
            )
            exchange.received(centre, self._membership.now)
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
        self._membership.advance(now)
        if self._membership.now < self._step_at or not self._state.centres:
            return
        self._step_at = self._membership.now + STEP_US
        if self._membership.now >= self._members_at:
            self._tell_members()
        self._settings.step()
        self._recollections.step()
        for meta in self._definitions.sweep():
            self._share_late(meta)
        self._definitions.inherit()
        self.serving.step()
        if not self._exchanges:
            self._membership.leave_if_drained()
        for key, exchange in self._exchanges.items():
            self._touched[key] = None
            exchange.shared.tell_moved_again(self._membership.now)
        if self._membership.now >= self._status_at:
            self._status_at = self._membership.now + STATUS_US
            self._tell_status()
        for key in self._closing.step(self._exchanges):
            self._close(key, self._exchanges[key].shared.interval)

    def next_due(self) -> int | None:
        """When `step` is wanted next, in microseconds UTC; None where there are no others."""
        return self._step_at if self._state.centres else None

    def look(self, now: int) -> None:
        """See to every exchange that was touched."""
        self._membership.advance(now)
        self.serving.look()
        touched, self._touched = self._touched, {}
        for key in touched:
            exchange = self._exchange(key)
            if exchange is not None:
                exchange.react(self._membership.now)

    def compose(self) -> list[tuple[str, BetweenCentres]]:
        """Everything that others are to be told of what is decided so far."""
        return self._membership.take()

    def _tell_status(self) -> None:
        """Tell of what has changed, and now and then of the rest; and that somebody is here."""
        news = [each for key, each in self._exchanges.items() if self._is_news(key, each)]
        abouts = [each.shared.about for each in news]
        for at in range(0, max(1, len(abouts)), INTERVALS_PER_MESSAGE):
            self._membership.tell_others(Status(intervals=abouts[at : at + INTERVALS_PER_MESSAGE]))

    def _is_news(self, key: IntervalKey, exchange: Exchange) -> bool:
        about, now = exchange.shared.about, self._membership.now
        told, at = self._told.get(key, (None, 0))
        if told == about and now - at < STATUS_AGAIN_US:
            return False
        self._told[key] = (about, now)
        return True

    # ---- inside

    def _close(self, key: IntervalKey, interval: Interval) -> None:
        if not interval.pool.ended:
            return
        cap, number = key
        self.record(IntervalClosed(cap=cap, number=number, unreported=interval.pool.held))
        self._closing.forget(key)
        self._exchanges.pop(key, None)
        self._told.pop(key, None)
        self._touched.pop(key, None)

    def _abouts(self, meta: Meta) -> list[IntervalStatus]:
        exchanges = [self._exchange((meta.cap, each.number)) for each in meta.intervals]
        return [each.shared.about for each in exchanges if each is not None]

    def _exchange(self, key: IntervalKey) -> Exchange | None:
        interval = self._state.interval(*key)
        if interval is None or interval.sharing is None:
            return None
        found = self._exchanges.get(key)
        if found is None:
            found = self._exchanges[key] = Exchange(SharedInterval(key[0], interval, self))
        return found


def _key_of(about: IntervalStatus) -> IntervalKey:
    return about.cap, about.number
