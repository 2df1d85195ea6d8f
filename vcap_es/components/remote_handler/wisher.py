"""What own servers are short of is asked of other data centres, of one after the other.

A wish is a target, which may be told twice. What is refused by all rests for a while, and longer
each time, until somebody tells of more.
"""

from msgspec import Struct

from vcap_es.components.local_handler.demands import Left
from vcap_es.components.messages.centre import WishRefusal
from vcap_es.components.messages.server import MessageNumber
from vcap_es.components.remote_handler.shared_interval import WISH_US, SharedInterval
from vcap_es.components.remote_handler.spend_rate import SpendRate

RESTS_US = (500_000, 1_000_000, 2_000_000, 4_000_000)
"""Microseconds for which a refused wish rests: after the first refusal, the second and so on."""

IDLE_US = 5_000_000
"""Microseconds for which a refusal holds while others have units at their servers."""


class PendingWish(Struct):
    """The wish of this data centre that is under way."""

    centre: str
    order: MessageNumber
    at: int


class Wisher:
    """The wishes of one data centre for an interval. `since` is when own servers began to wait."""

    def __init__(self, shared: SharedInterval) -> None:
        self.since = 0
        self._shared = shared
        self._pace = SpendRate()
        self._asked: PendingWish | None = None
        self._withdrawn: PendingWish | None = None
        self._tried: set[str] = set()
        self._left = Left()
        self._refusals = self._rests_until = self._refused_at = 0
        self._seen: dict[str, tuple[int, int]] | None = None

    # ---- refusals

    def rests(self, now: int) -> bool:
        """Whether a wish was refused lately, everywhere."""
        return now < self._rests_until

    def left(self, now: int) -> Left:
        """What there was elsewhere when a wish was refused lately."""
        return self._left if self.rests(now) else Left()

    def refuse(self, left: Left, now: int) -> None:
        """Nowhere is enough for now: who waits here is told so, and asks again after a while."""
        self._left = left
        self._rests_until = now + RESTS_US[min(self._refusals, len(RESTS_US) - 1)]
        self._refusals += 1
        self._refused_at = now
        told = self._shared.told
        self._seen = {centre: (each.available, each.held) for centre, each in told.items()}
        self._tried.clear()
        self._shared.resume(has_more=False)

    def forget_refusal(self) -> None:
        """Something has changed: it may be asked for again."""
        self._refusals = self._rests_until = 0
        self._seen = None

    def compare(self, centre: str) -> None:
        """A data centre has told how it stands: with more than it had then, a refusal is void."""
        told = self._shared.told[centre]
        seen = self._seen.get(centre, (0, 0)) if self._seen is not None else None
        if seen is not None and (
            told.available > max(seen[0], self._left.units) or told.held > seen[1]
        ):
            self._go_on()

    def expire(self, now: int) -> None:
        """A refusal does not hold for ever while units lie at the servers of others."""
        is_old = self._seen is not None and now - self._refused_at > IDLE_US
        if is_old and any(told.held > 0 for told in self._shared.told.values()):
            self._go_on()

    def _go_on(self) -> None:
        self.forget_refusal()
        self._shared.resume(has_more=True)

    # ---- answers

    def received(self, centre: str, now: int) -> None:
        """Something has come."""
        if self._asked is not None and self._asked.centre == centre:
            self._pace.met(now - self._asked.at)
            self._asked = None
        self._tried.clear()
        self._go_on()

    def replied(self, centre: str, reply: WishRefusal, now: int) -> bool:
        """A wish was not met, or not whole; whether it was one of these."""
        known = [each.order for each in (self._asked, self._withdrawn) if each is not None]
        if reply.order not in known:
            return False
        self._asked = self._withdrawn = None
        self._tried.add(centre)
        if centre == self._shared.gatherer:
            self.refuse(Left(reply.left), now)
        return True

    # ---- asking

    def end(self) -> None:
        """The interval is over."""
        self._asked = None

    def forget(self, centre: str) -> None:
        """What was asked of a data centre it does not know of."""
        if self._asked is not None and self._asked.centre == centre:
            self._asked = None
        self._withdrawn = None
        self._tried.discard(centre)
        self.forget_refusal()

    def ask(self, now: int) -> None:
        """Ask one after the other for what the own servers are short of."""
        shared = self._shared
        demand, ahead, here = shared.demand, 0, 0
        if shared.mode == "spread":
            here = shared.available
            ahead = max(0, demand.ahead - here, self._lead(now) - here)
        if not (demand.waiting or ahead) or shared.mode == "recall" or shared.abroad.is_draining:
            self._withdraw()
            return
        if self._asked is not None:
            if now - self._asked.at <= WISH_US:
                return
            self._tried.add(self._asked.centre)
        atom = max(1, min(demand.waiting, default=1) - here)
        if self.rests(now) and atom > self._left.units:
            return
        centre = self._richest(atom)
        if atom > shared.countable_from(centre):
            self._asked = None
            self.refuse(Left(shared.countable_from(centre), is_counted_out=True), now)
            return
        missing = max(atom, demand.short + ahead - here)
        later = demand.ahead if shared.mode == "gather" else 0
        self._ask(centre, missing, atom, later, now)

    def _lead(self, now: int) -> int:
        """Units to ask for before they are missed; none while the own pool has enough.

        Whoever is far away must ask early; and leaves most of what the others have with them.
        """
        pool = self._shared.pool
        self._pace.note(pool.minted + pool.net - pool.available, now)
        others = sum(max(0, told.available) for told in self._shared.told.values())
        lead = min(self._pace.lead, others // 4)
        return 2 * lead if pool.available < lead else 0

    def _richest(self, atom: int) -> str:
        """Who has most, of those not tried yet; in the end the gatherer."""
        shared = self._shared
        if shared.mode == "spread":
            rich = {
                centre: told.available
                for centre, told in shared.told.items()
                if centre in shared.abroad.others
                and told.available >= 2 * atom
                and centre not in self._tried
                and atom <= shared.countable_from(centre)
            }
            if rich:
                return max(rich, key=lambda each: (rich[each], each))
        return shared.gatherer

    def _ask(self, centre: str, missing: int, atom: int, later: int, now: int) -> None:
        self._asked = PendingWish(centre, self._shared.next_order(), now)
        self._shared.wish(centre, self._asked.order, missing, atom, later)

    def _withdraw(self) -> None:
        asked, self._asked = self._asked, None
        self._tried.clear()
        if asked is not None:
            self._withdrawn = asked
            self._shared.wish(asked.centre, self._shared.next_order(), 0, 0)
