"""What the minter of an interval does: share out, and gather the rest and give it by need.

Wishes that cannot be met at once queue up, first in, first out. One that waits holds up those
behind it as long as something may still come for it; then it is refused, and stays in the queue.
"""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.components.decisions.transfer import phase_of, stamp, threshold
from vcap_es.components.local_handler.demands import Left
from vcap_es.components.messages.centre import Wish
from vcap_es.components.messages.server import MessageNumber
from vcap_es.components.remote_handler.shared_interval import WISH_US, CentreReport, SharedInterval
from vcap_es.components.remote_handler.wisher import Wisher
from vcap_es.events.facts import Mode, Phase

BLOCK_US = 3_000_000
"""Microseconds for which a wish that cannot be met holds up later ones, while the rest is gathered.
"""

AHEAD_PARTS = 4
"""One part in this many of what is gathered is given ahead of need."""

STALE_US = 5_000_000
"""Microseconds without a word from a data centre, after which shares are given out again."""

SetPhase = Callable[[Phase, int, int], None]
"""Takes (phase, units that are shared out, now)."""


class Wished(Struct):
    """A wish of another data centre that waits here; `replied` when it was refused last."""

    order: MessageNumber
    target: int
    atom: int
    ahead: int
    since: int
    replied: int = 0


class Search(Struct):
    """What a gatherer asks all others to give, as far as it lies idle at their servers."""

    order: MessageNumber
    missing: int
    since: int
    at: int
    unanswered: set[str]


class Gatherer:
    """The queue of wishes, the search for what lies idle, and the phases of one interval."""

    def __init__(self, shared: SharedInterval, wisher: Wisher, set_phase: SetPhase) -> None:
        self._shared, self._wisher, self._set_phase = shared, wisher, set_phase
        self._queue: dict[str, Wished] = {}
        self._search: Search | None = None
        self._phase_since = 0

    # ---- what has happened

    def phase_changed(self, now: int) -> None:
        """All begins anew but the queue."""
        self._phase_since = now
        self._search = None

    def end(self) -> None:
        """The interval is over."""
        self._queue.clear()
        self._search = None

    def forget(self, centre: str) -> None:
        """What a data centre wished for counts no more, nor what it was asked."""
        self._queue.pop(centre, None)
        self._search = None

    def queue_up(self, centre: str, wish: Wish, now: int) -> None:
        """Another data centre wants more; or, with an atom of 0, nothing any more."""
        found = self._queue.get(centre)
        if found is not None and wish.order <= found.order:
            return
        if not wish.atom:
            self._queue.pop(centre, None)
        elif found is None:
            self._queue[centre] = Wished(wish.order, wish.target, wish.atom, wish.ahead, now)
        else:
            found.order, found.target = wish.order, wish.target
            found.atom, found.ahead = wish.atom, wish.ahead

    def answered(self, centre: str, order: MessageNumber) -> bool:
        """A data centre has given what lay idle there; whether that was asked of it."""
        search = self._search
        if search is None or order != search.order:
            return False
        search.unanswered.discard(centre)
        return True

    def reserved(self, now: int) -> int:
        """Units of the pool that are another data centre's before they are the own servers'."""
        first = next(iter(self._queue.values()), None)
        if self._shared.mode != "gather" or first is None or self._is_before(first):
            return 0
        return self._shared.available if self._blocks(first.since, now) else 0

    def _is_before(self, wished: Wished) -> bool:
        """Whether own servers have waited longer."""
        return 0 < self._wisher.since < wished.since

    # ---- what follows

    def collect(self, now: int) -> None:
        """Do what the amounts, the phase and the wishes allow now."""
        shared = self._shared
        if shared.mode == "recall":
            if shared.pool.available < 0:
                return
            self.change("gather", 2 * shared.pool.available, now)
        self._share_out_first()
        is_met = self._serve_queue(now)
        if shared.mode == "spread":
            if self._is_shared_out():
                self._gather_if_low(is_met, now)
        elif shared.mode == "gather":
            self._search_if_unmet(now)
            self._share_out_again(now)

    def change(self, mode: Mode, split: int, now: int) -> None:
        """Begin another phase, of which all others hear; `split` units are shared out."""
        self._set_phase(self._shared.next_phase(mode), split, now)
        self._shared.tell_all()

    def _is_shared_out(self) -> bool:
        """Whether everybody has a share; who stands in for a minter cannot give out others."""
        sharing = self._shared.sharing
        return sharing.phase is not None or bool(sharing.shares or sharing.minter)

    def _share_out_first(self) -> None:
        """Shares are targets, so whatever a crash left undone is done now."""
        shared = self._shared
        if phase_of(shared.interval) is not None:
            return
        for centre, share in shared.sharing.shares.items():
            if centre != shared.abroad.dc:
                units = min(shared.available, share - shared.pool.sent_to(centre))
                if units > 0:
                    shared.send(centre, units, asked=0)

    def _serve_queue(self, now: int) -> bool:
        """Give by need, first in, first out; whether everybody has what it wants."""
        is_met, shared = True, self._shared
        for centre, wished in list(self._queue.items()):
            if self._is_before(wished) and shared.demand.waiting:
                is_met = False
                if self._blocks(self._wisher.since, now):
                    return False
            missing = wished.target - shared.pool.sent_to(centre)
            target = wished.target + self._ahead_of_need(wished, missing)
            if missing > 0 and shared.give(centre, target, wished.atom) < missing:
                is_met = False
                if self._blocks(wished.since, now):
                    return False
                self._refuse(centre, wished, now)
            elif missing <= 0 or shared.pool.sent_to(centre) >= wished.target:
                del self._queue[centre]
        return is_met and not shared.demand.waiting

    def _ahead_of_need(self, wished: Wished, missing: int) -> int:
        """Units that the only one who waits gets besides: else it would wish for each alone."""
        shared = self._shared
        if shared.mode != "gather" or len(self._queue) > 1 or shared.demand.waiting:
            return 0
        return min(wished.ahead, max(0, shared.available - missing) // AHEAD_PARTS)

    def _refuse(self, centre: str, wished: Wished, now: int) -> None:
        """It hears what is left, and stays in the queue."""
        if now - wished.replied >= WISH_US:
            wished.replied = now
            self._shared.reply(centre, wished.order, 0)

    def _blocks(self, since: int, now: int) -> bool:
        """Whether something may still be gathered for who waits since then."""
        return now - since <= BLOCK_US and not self._is_gathered()

    def _is_gathered(self) -> bool:
        """Whether everybody who can be heard has shown that it has nothing more to give."""
        shared = self._shared
        if shared.mode != "gather":
            return False
        if self._search is not None and self._search.unanswered & shared.abroad.fresh:
            return False
        if shared.recall(0):
            return False
        mine = stamp(phase_of(shared.interval))
        return all(
            shared.told.get(each, CentreReport()).phase >= mine
            and (shared.told[each].available <= 0 or not shared.countable_from(each))
            and not shared.in_transit(each)
            for each in shared.abroad.fresh
        )

    def _left(self) -> Left:
        """Nothing comes any more; there may be something that cannot be counted here."""
        shared = self._shared
        rich = [each for each in shared.abroad.fresh if self._may_hold(each)]
        return Left(0, is_counted_out=any(not shared.countable_from(each) for each in rich))

    def _gather_if_low(self, is_met: bool, now: int) -> None:
        shared, others = self._shared, self._shared.abroad.others
        told, shares = shared.told, shared.sharing.shares
        rest = shared.available + sum(
            max(0, told[each].available) if each in told else shares.get(each, 0) for each in others
        )
        if not is_met or rest <= threshold(shared.pool.minted, len(others) + 1):
            self.change("gather", shared.sharing.split or max(0, shared.pool.minted), now)

    # ---- what lies idle

    def _search_if_unmet(self, now: int) -> None:
        """Ask all others to give what lies idle there, while somebody waits here."""
        shared = self._shared
        wanted = shared.demand.short + sum(
            max(0, each.target - shared.pool.sent_to(centre))
            for centre, each in self._queue.items()
        )
        missing = wanted - shared.available
        if missing <= 0:
            self._search = None
            return
        search = self._search
        if search is None or missing > search.missing or now - search.since > BLOCK_US:
            unanswered = {each for each in shared.abroad.others if self._may_hold(each)}
            search = self._search = Search(shared.next_order(), missing, now, now, unanswered)
            self._ask_all(search)
            if self._queue:
                shared.recall(missing)
        elif search.unanswered and now - search.at > WISH_US:
            search.at = now
            self._ask_all(search)
        if self._is_gathered() and shared.demand.waiting and not self._wisher.rests(now):
            self._wisher.refuse(self._left(), now)

    def _may_hold(self, centre: str) -> bool:
        told = self._shared.told.get(centre)
        if told is None or self._shared.in_transit(centre):
            return True
        return told.held > 0 or told.available > 0

    def _ask_all(self, search: Search) -> None:
        for centre in sorted(search.unanswered):
            self._shared.wish(centre, search.order, search.missing, atom=1)

    # ---- shares once more

    def _share_out_again(self, now: int) -> None:
        """Where half of what there was is left, and it is worth sharing, everybody has a share."""
        shared, rest = self._shared, self._shared.pool.available
        is_settled = self._is_gathered() or now - self._phase_since > STALE_US
        if not is_settled or shared.demand.waiting or self._queue:
            return
        others = [each for each in shared.abroad.others if each in shared.abroad.fresh]
        is_much = rest > 2 * threshold(shared.pool.minted, len(shared.abroad.others) + 1)
        if not (is_much and others and 2 * rest <= shared.sharing.split):
            return
        self.change("spread", rest, now)
        for centre, share in shared.abroad.weigh(shared.cap, rest).items():
            if centre in others and share:
                shared.send(centre, min(share, shared.pool.available), asked=0)
