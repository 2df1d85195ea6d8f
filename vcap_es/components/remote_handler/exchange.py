"""One interval's dealings with other data centres.

While there is plenty, every data centre has a share, and who runs low asks who has most. Near the
end the rest is gathered at the interval's minter, which gives by need, first in, first out. After a
total was lowered everything flows there until it is out of debt. All of it but the amounts and the
phase is memory of one epoch: it comes back with what the others tell.
"""

from msgspec import Struct

from vcap_es.components.decisions.transfer import phase_of, stamp
from vcap_es.components.local_handler.demands import Left
from vcap_es.components.messages.centre import IntervalStatus, Wish, WishRefusal
from vcap_es.components.messages.server import MessageNumber
from vcap_es.components.remote_handler.gatherer import Gatherer
from vcap_es.components.remote_handler.shared_interval import WISH_US, CentreReport, SharedInterval
from vcap_es.components.remote_handler.wisher import Wisher
from vcap_es.events.facts import Mode, Phase

RECALL_US = 1_000_000
"""While a total is in debt, own servers are asked to give back no more often than this."""


class Favour(Struct):
    """The gatherer's search, as it is answered here."""

    order: MessageNumber
    since: int


class Exchange:
    """Whom to ask, whom to give, and when to gather or to share out again."""

    def __init__(self, shared: SharedInterval) -> None:
        """Deal with an interval that is `shared`."""
        self.shared = shared
        self._wisher = Wisher(self.shared)
        self._gatherer = Gatherer(self.shared, self._wisher, self._set_phase)
        self._favour: Favour | None = None
        self._recalled_at = self._reserved = 0

    # ---- what the own servers are told

    def may_come(self, missing: int, now: int) -> bool:
        """Whether so many units more may be had from elsewhere; if so, they are asked for."""
        abroad, wisher = self.shared.abroad, self._wisher
        if self.shared.mode == "recall" or not abroad.others or abroad.is_draining:
            return False
        if wisher.rests(now) and missing > wisher.left(now).units:
            return False
        wisher.since = wisher.since or now
        return True

    def left(self, now: int) -> Left:
        """What there was elsewhere when a wish of the own servers was refused lately."""
        return self._wisher.left(now)

    def reserved(self, now: int) -> int:
        """Units of the pool that are another data centre's before they are the own servers'."""
        if self.shared.mode == "recall" or self.shared.abroad.is_draining:
            return self.shared.available
        return self._gatherer.reserved(now) if self.shared.is_gatherer else 0

    # ---- what is heard

    def heard(self, centre: str, about: IntervalStatus, now: int) -> None:
        """Another data centre tells how the interval stands there."""
        told = self.shared.told.setdefault(centre, CentreReport())
        told.available, told.held = about.available, about.held
        told.phase = max(told.phase, stamp(about.phase))
        self._wisher.compare(centre)
        if about.phase is not None and stamp(about.phase) > stamp(phase_of(self.shared.interval)):
            self._set_phase(about.phase, 0, now)

    def received(self, centre: str, now: int) -> None:
        """Something has come from another data centre."""
        self._wisher.received(centre, now)
        self.react(now)

    def wished(self, centre: str, wish: Wish, now: int) -> None:
        """Another data centre wants more."""
        if self.shared.pool.ended:
            return
        if self.shared.is_gatherer:
            self._gatherer.queue_up(centre, wish, now)
        elif wish.atom:
            self._grant_at_once(centre, wish, now)
        self.react(now)

    def replied(self, centre: str, reply: WishRefusal, now: int) -> None:
        """A wish of this data centre was not met, or not whole."""
        is_search = self._gatherer.answered(centre, reply.order)
        if self._wisher.replied(centre, reply, now) or is_search:
            self.react(now)

    def total_changed(self, now: int) -> None:
        """The minter has changed the total: all must hear, and what is owed flows back."""
        shared = self.shared
        if not shared.is_gatherer:
            return
        available = shared.pool.available
        mode: Mode = "gather" if shared.mode == "recall" else shared.mode
        if available < 0:
            mode = "recall"
        self._gatherer.change(mode, max(shared.sharing.split, 2 * available), now)

    def forget(self, centre: str) -> None:
        """A data centre was restored: what it told and asked is of a generation before."""
        self.shared.forget(centre)
        self._gatherer.forget(centre)
        self._wisher.forget(centre)
        if centre == self.shared.gatherer:
            self._favour = None

    # ---- what follows

    def react(self, now: int) -> None:
        """Do what the amounts, the phase and the wishes allow now."""
        shared, is_draining = self.shared, self.shared.abroad.is_draining
        if shared.pool.ended:
            self._gatherer.end()
            self._wisher.end()
            self._favour = None
            return
        if not shared.demand.waiting:
            self._wisher.since = 0
        self._wisher.expire(now)
        if is_draining or (shared.mode == "recall" and not shared.is_gatherer):
            self._recall_all(now)
        if shared.is_gatherer:
            self._gatherer.collect(now)
            self._release(now)
            return
        may_send = shared.gatherer in shared.abroad.others
        if (shared.mode != "spread" or is_draining) and shared.available and may_send:
            shared.send(shared.gatherer, shared.available, asked=0)
        self._answer_favour(now)
        self._wisher.ask(now)

    def _release(self, now: int) -> None:
        """What is not reserved for another one any more, own servers may have: let them ask."""
        before, self._reserved = self._reserved, self.reserved(now)
        if self._reserved < before and self.shared.available > self._reserved:
            self.shared.resume(has_more=True)

    def _recall_all(self, now: int) -> None:
        """Nothing stays at own servers that they do not need to answer for."""
        if self.shared.pool.held > 0 and now - self._recalled_at > RECALL_US:
            self._recalled_at = now
            self.shared.recall(self.shared.pool.held)

    def _grant_at_once(self, centre: str, wish: Wish, now: int) -> None:
        shared = self.shared
        missing = max(0, wish.target - self.shared.pool.sent_to(centre))
        if centre == shared.gatherer and shared.mode != "spread":
            self._favour = Favour(wish.order, now)
            shared.recall(max(1, missing - shared.available))
            return
        given = shared.give(centre, wish.target, wish.atom)
        if given < missing:
            shared.reply(centre, wish.order, given)

    def _answer_favour(self, now: int) -> None:
        """The gatherer hears when no own server has anything to give back any more."""
        favour = self._favour
        if favour is None:
            return
        if not self.shared.recall(0) or now - favour.since > WISH_US:
            self._favour = None
            self.shared.reply(self.shared.gatherer, favour.order, 0)

    def _set_phase(self, phase: Phase, split: int, now: int) -> None:
        self._gatherer.phase_changed(now)
        self._favour = None
        self._wisher.forget_refusal()
        self.shared.set_phase(phase, split)
        self.shared.resume(has_more=True)
