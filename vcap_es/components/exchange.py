"""One interval's dealings with other data centres.

While there is plenty, every data centre has a share, and who runs low asks who has most. Near the
end the rest is gathered at the interval's minter, which gives by need, first in, first out. After a
total was lowered everything flows there until it is out of debt. All of it but the amounts and the
phase is memory of one epoch: it comes back with what the others tell.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vcap_es.components.decisions.transfer import (
    gift,
    mode_of,
    phase_of,
    spare,
    stamp,
    threshold,
)
from vcap_es.components.messages import Order
from vcap_es.components.pace import Pace
from vcap_es.components.transfer_messages import (
    About,
    BetweenCentres,
    Movement,
    Reply,
    Status,
    Wish,
)
from vcap_es.events.facts import Fact, Mode, Phase, PhaseChanged, TransferSent, Version
from vcap_es.projections.states.interval import Interval, Sharing

WISH_US = 600_000
"""A wish that is not answered for so long is made to somebody else."""

RESTS_US = (500_000, 1_000_000, 2_000_000, 4_000_000)
"""So long a refused wish rests: after the first refusal, the second and so on."""

BLOCK_US = 3_000_000
"""A wish that cannot be met holds up those behind it for so long, while the rest is gathered."""

FRESH_US = 3_000_000
"""Who was not heard for so long is not waited for."""

RECALL_US = 1_000_000
"""While a total is in debt, own servers are asked to give back no more often than this."""

IDLE_US = 5_000_000
"""A refusal holds for so long while others have units at their servers."""

STALE_US = 5_000_000
"""Shares are given out again though somebody did not say, for so long, that it has nothing."""


RESENDS_US = (800_000, 6_000_000)
"""A movement is told again after the first of these, then after twice as long, up to the last."""


class Abroad(Protocol):
    """What an exchange needs of the remote handler."""

    @property
    def dc(self) -> str:
        """The name of this data centre."""

    @property
    def epoch(self) -> int:
        """The epoch that this master leads."""

    @property
    def others(self) -> Sequence[str]:
        """The other data centres that take part."""

    @property
    def is_draining(self) -> bool:
        """Whether this data centre grants nothing any more, and sends on what it has."""

    def stands_in(self, cap: str, minter: str) -> str:
        """The data centre that gathers for `minter`: itself, or who decides the cap when lost."""

    def heard_at(self, centre: str) -> int:
        """When another data centre was heard last, in microseconds UTC; 0 for never."""

    def weigh(self, cap: str, total: int) -> dict[str, int]:
        """`total` units split over the data centres that have a share of the cap."""

    def version(self, cap: str) -> Version:
        """The version of the cap's definition that is known here."""

    def record(self, fact: Fact) -> None:
        """Let `fact` become true, and be appended with the next commit round."""

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""

    def waiting(self, cap: str, number: int) -> list[int]:
        """The units that each of the own servers is short of, first in, first out."""

    def ahead(self, cap: str, number: int) -> int:
        """The units that own servers would have ahead of need, and have not."""

    def recall(self, cap: str, number: int, missing: int) -> bool:
        """Let own servers give back what lies idle there; whether some have yet to answer."""

    def resume(self, cap: str, number: int, *, has_more: bool) -> None:
        """Serve the own servers again: there may be more, or nothing more comes for now."""


class Told(Struct):
    """What another data centre has told of the interval."""

    available: int = 0
    held: int = 0
    phase: tuple[int, int] = (0, 0)


class Wished(Struct):
    """A wish of another data centre that waits here; `replied` when it was refused last."""

    order: Order
    target: int
    atom: int
    since: int
    replied: int = 0


class Asked(Struct):
    """The wish of this data centre that is under way."""

    centre: str
    order: Order
    at: int


class Resend(Struct):
    """When a movement is told again: after `wait`, counted from the look after it was told."""

    wait: int
    due: int | None = None


class Search(Struct):
    """What a gatherer asks all others to give, as far as it lies idle at their servers."""

    order: Order
    missing: int
    since: int
    at: int
    unanswered: set[str]


class Favour(Struct):
    """The gatherer's search, as it is answered here."""

    order: Order
    since: int


class Exchange:
    """Whom to ask, whom to give, and when to gather or to share out again."""

    def __init__(self, cap: str, interval: Interval, abroad: Abroad) -> None:
        """Deal with the `interval` of `cap`."""
        self.cap, self.interval = cap, interval
        self._pool, self._abroad = interval.pool, abroad
        self._told: dict[str, Told] = {}
        self._pace = Pace()
        self._queue: dict[str, Wished] = {}
        self._asked: Asked | None = None
        self._withdrawn: Asked | None = None
        self._search: Search | None = None
        self._favour: Favour | None = None
        self._resends: dict[str, Resend] = {}
        self._tried: set[str] = set()
        self._turn = 0
        self._refusals, self._left, self._rests_until = 0, 0, 0
        self._seen: dict[str, tuple[int, int]] | None = None
        self._own_since = 0
        self._phase_since = self._recalled_at = self._refused_at = 0

    # ---- what is true

    @property
    def mode(self) -> Mode:
        """The phase of the interval."""
        return mode_of(self.interval)

    @property
    def minter(self) -> str:
        """The data centre that has opened the interval."""
        return self._sharing.minter or self._abroad.dc

    @property
    def gatherer(self) -> str:
        """The data centre that sets the phase, and gathers the rest: who minted the interval."""
        return self._abroad.stands_in(self.cap, self.minter)

    @property
    def is_gatherer(self) -> bool:
        """Whether that is this data centre."""
        return self.gatherer == self._abroad.dc

    @property
    def about(self) -> About:
        """How the interval stands here."""
        interval = self.interval
        return About(
            cap=self.cap,
            version=self._abroad.version(self.cap),
            number=interval.number,
            start=interval.start,
            end=interval.end,
            minter=self.minter,
            phase=phase_of(interval),
            available=self._pool.available,
            held=self._pool.held,
        )

    @property
    def _sharing(self) -> Sharing:
        return self.interval.sharing or Sharing()

    @property
    def _waiting(self) -> list[int]:
        if self._abroad.is_draining:
            return []
        return self._abroad.waiting(self.cap, self.interval.number)

    # ---- what the own servers are told

    def may_come(self, missing: int, now: int) -> bool:
        """Whether so many units more may be had from elsewhere; if so, they are asked for."""
        if self.mode == "recall" or not self._abroad.others or self._abroad.is_draining:
            return False
        if now < self._rests_until and missing > self._left:
            return False
        self._own_since = self._own_since or now
        return True

    def left(self, now: int) -> int:
        """Units that there were elsewhere when a wish of the own servers was refused lately."""
        return self._left if now < self._rests_until else 0

    def reserved(self, now: int) -> int:
        """Units of the pool that are another data centre's before they are the own servers'."""
        if self.mode == "recall" or self._abroad.is_draining:
            return max(0, self._pool.available)
        if not self.is_gatherer or self.mode != "gather":
            return 0
        first = next(iter(self._queue.values()), None)
        if first is None or (self._own_since and self._own_since < first.since):
            return 0
        return max(0, self._pool.available) if self._blocks(first.since, now) else 0

    # ---- what is heard

    def heard(self, centre: str, about: About, now: int) -> None:
        """Another data centre tells how the interval stands there."""
        told = self._told.setdefault(centre, Told())
        told.available, told.held = about.available, about.held
        told.phase = max(told.phase, stamp(about.phase))
        seen = self._seen.get(centre, (0, 0)) if self._seen is not None else None
        if seen is not None and (told.available > max(seen[0], self._left) or told.held > seen[1]):
            self._forget_refusal()
            self._abroad.resume(self.cap, self.interval.number, has_more=True)
        if about.phase is not None and stamp(about.phase) > stamp(phase_of(self.interval)):
            self._set(about.phase, 0, now)

    def received(self, centre: str, now: int) -> None:
        """Something has come from another data centre."""
        if self._asked is not None and self._asked.centre == centre:
            self._pace.met(now - self._asked.at)
            self._asked = None
        self._tried.clear()
        self._forget_refusal()
        self._abroad.resume(self.cap, self.interval.number, has_more=True)
        self.react(now)

    def wished(self, centre: str, wish: Wish, now: int) -> None:
        """Another data centre wants more."""
        if self._pool.ended:
            return
        if self.is_gatherer:
            self._queue_up(centre, wish, now)
        elif wish.atom:
            self._grant_at_once(centre, wish, now)
        self.react(now)

    def replied(self, centre: str, reply: Reply, now: int) -> None:
        """A wish of this data centre was not met, or not whole."""
        search = self._search
        if search is not None and reply.order == search.order:
            search.unanswered.discard(centre)
            self.react(now)
        known = [each.order for each in (self._asked, self._withdrawn) if each is not None]
        if reply.order not in known:
            return
        self._asked = self._withdrawn = None
        self._tried.add(centre)
        if centre == self.gatherer:
            self._refuse_own(reply.left, now)
        self.react(now)

    def total_changed(self, now: int) -> None:
        """The minter has changed the total: all must hear, and what is owed flows back."""
        if not self.is_gatherer:
            return
        available = self._pool.available
        mode: Mode = "recall" if available < 0 else self.mode
        split = max(self._sharing.split, 2 * available)
        self._change(mode if mode != "recall" or available < 0 else "gather", split, now)

    # ---- what follows

    def react(self, now: int) -> None:
        """Do what the amounts, the phase and the wishes allow now."""
        if self._pool.ended:
            self._queue.clear()
            self._asked = self._search = self._favour = None
            return
        if not self._waiting:
            self._own_since = 0
        if self._seen is not None and now - self._refused_at > IDLE_US and self._others_hold:
            self._forget_refusal()
            self._abroad.resume(self.cap, self.interval.number, has_more=True)
        is_draining = self._abroad.is_draining
        if is_draining or (self.mode == "recall" and not self.is_gatherer):
            self._recall_all(now)
        if self.is_gatherer:
            self._collect(now)
            return
        if (self.mode != "spread" or is_draining) and self._pool.available > 0:
            self._send(self.gatherer, self._pool.available, asked=0)
        self._answer_favour(now)
        self._wish(now)

    def _recall_all(self, now: int) -> None:
        """Nothing stays at own servers that they do not need to answer for."""
        if self._pool.held > 0 and now - self._recalled_at > RECALL_US:
            self._recalled_at = now
            self._recall(self._pool.held)

    # ---- giving

    def _queue_up(self, centre: str, wish: Wish, now: int) -> None:
        found = self._queue.get(centre)
        if found is not None and wish.order <= found.order:
            return
        if not wish.atom:
            self._queue.pop(centre, None)
        elif found is None:
            self._queue[centre] = Wished(wish.order, wish.target, wish.atom, now)
        else:
            found.order, found.target, found.atom = wish.order, wish.target, wish.atom

    def _grant_at_once(self, centre: str, wish: Wish, now: int) -> None:
        if centre == self.gatherer and self.mode != "spread":
            self._favour = Favour(wish.order, now)
            missing = wish.target - self._pool.sent_to(centre) - max(0, self._pool.available)
            self._recall(max(1, missing))
            return
        missing = max(0, wish.target - self._pool.sent_to(centre))
        given = self._give(centre, wish.target, wish.atom)
        if given < missing:
            self._reply(centre, wish.order, given)

    def _answer_favour(self, now: int) -> None:
        """The gatherer hears when no own server has anything to give back any more."""
        favour = self._favour
        if favour is None:
            return
        if not self._recall(0) or now - favour.since > WISH_US:
            self._favour = None
            self._reply(self.gatherer, favour.order, 0)

    def _give(self, centre: str, target: int, atom: int) -> int:
        units = spare(
            self._pool.available, sum(self._waiting), self.mode, is_gatherer=self.is_gatherer
        )
        given = gift(target, self._pool.sent_to(centre), atom, units)
        if given:
            self._send(centre, given, asked=target)
        return given

    def _send(self, centre: str, amount: int, *, asked: int) -> None:
        moved = self._pool.sent_to(centre) + amount
        number = self.interval.number
        self._abroad.record(
            TransferSent(cap=self.cap, number=number, to=centre, moved=moved, asked=asked)
        )
        self._tell_moved(centre)
        self._resends[centre] = Resend(RESENDS_US[0])

    def _tell_moved(self, centre: str) -> None:
        moved = self._pool.sent_to(centre)
        self._abroad.tell(centre, Movement(about=self.about, moved=moved))

    def tell_moved_again(self, now: int) -> None:
        """Let others hear again what was moved to them, and is not known to be there."""
        for centre, sent in self._pool.sent.items():
            if sent.settled >= sent.moved:
                self._resends.pop(centre, None)
                continue
            # Who has just begun to lead does not know what was told.
            again = self._resends.setdefault(centre, Resend(RESENDS_US[0] // 2, now))
            if again.due is None:
                again.due = now + again.wait
            elif now >= again.due:
                self._tell_moved(centre)
                again.wait = min(2 * again.wait, RESENDS_US[1])
                again.due = now + again.wait

    def _reply(self, centre: str, order: Order, gave: int) -> None:
        left = max(0, self._pool.available)
        self._abroad.tell(centre, Reply(about=self.about, order=order, gave=gave, left=left))

    # ---- the gatherer

    def _collect(self, now: int) -> None:
        if self.mode == "recall":
            if self._pool.available < 0:
                return
            self._change("gather", 2 * self._pool.available, now)
        self._share_out_first()
        is_met = self._serve_queue(now)
        if self.mode == "spread":
            if phase_of(self.interval) is not None or self._sharing.shares:
                self._gather_if_low(is_met, now)
        elif self.mode == "gather":
            self._search_if_unmet(now)
            self._share_out_again(now)

    def _share_out_first(self) -> None:
        """Shares are targets, so whatever a crash left undone is done now."""
        if phase_of(self.interval) is not None:
            return
        for centre, share in self._sharing.shares.items():
            if centre != self._abroad.dc:
                missing = share - self._pool.sent_to(centre)
                units = min(max(0, self._pool.available), missing)
                if units > 0:
                    self._send(centre, units, asked=0)

    def _serve_queue(self, now: int) -> bool:
        """Give by need, first in, first out; whether everybody has what it wants."""
        is_met = True
        for centre, wished in list(self._queue.items()):
            if self._own_since and self._own_since < wished.since and self._waiting:
                is_met = False
                if self._blocks(self._own_since, now):
                    return False
            missing = wished.target - self._pool.sent_to(centre)
            if missing > 0 and self._give(centre, wished.target, wished.atom) < missing:
                is_met = False
                if self._blocks(wished.since, now):
                    return False
                self._refuse(centre, wished, now)
            elif missing <= 0 or self._pool.sent_to(centre) >= wished.target:
                del self._queue[centre]
        return is_met and not self._waiting

    def _refuse(self, centre: str, wished: Wished, now: int) -> None:
        """It hears what is left, and stays in the queue."""
        if now - wished.replied >= WISH_US:
            wished.replied = now
            self._reply(centre, wished.order, 0)

    def _blocks(self, since: int, now: int) -> bool:
        """Whether something may still be gathered for who waits since then."""
        return now - since <= BLOCK_US and not self._is_gathered(now)

    def _is_gathered(self, now: int) -> bool:
        """Whether everybody who can be heard has shown that it has nothing more to give."""
        if self.mode != "gather":
            return False
        if self._search is not None and self._search.unanswered & self._fresh(now):
            return False
        if self._recall(0):
            return False
        mine = stamp(phase_of(self.interval))
        return all(
            self._told.get(each, Told()).phase >= mine and self._told[each].available <= 0
            for each in self._fresh(now)
        )

    def _fresh(self, now: int) -> set[str]:
        others = self._abroad.others
        return {each for each in others if now - self._abroad.heard_at(each) <= FRESH_US}

    def _gather_if_low(self, is_met: bool, now: int) -> None:
        others = self._abroad.others
        shares = self._sharing.shares
        rest = max(0, self._pool.available) + sum(
            max(0, self._told[each].available) if each in self._told else shares.get(each, 0)
            for each in others
        )
        if not is_met or rest <= threshold(self._pool.minted, len(others) + 1):
            self._change("gather", self._sharing.split or self._pool.minted, now)

    def _search_if_unmet(self, now: int) -> None:
        """Ask all others to give what lies idle there, while somebody waits here."""
        wanted = sum(self._waiting) + sum(
            max(0, each.target - self._pool.sent_to(centre)) for centre, each in self._queue.items()
        )
        missing = wanted - max(0, self._pool.available)
        if missing <= 0:
            self._search = None
            return
        search = self._search
        if search is None or missing > search.missing or now - search.since > BLOCK_US:
            unanswered = {each for each in self._abroad.others if self._may_hold(each)}
            search = self._search = Search(self._next_order(), missing, now, now, unanswered)
            self._ask_all(search)
            if self._queue:
                self._recall(missing)
        elif search.unanswered and now - search.at > WISH_US:
            search.at = now
            self._ask_all(search)
        if self._is_gathered(now) and self._waiting and now >= self._rests_until:
            self._refuse_own(0, now)

    def _may_hold(self, centre: str) -> bool:
        told = self._told.get(centre)
        return told is None or told.held > 0 or told.available > 0

    def _ask_all(self, search: Search) -> None:
        for centre in sorted(search.unanswered):
            target = self._pool.received.get(centre, 0) + search.missing
            self._abroad.tell(
                centre, Wish(about=self.about, order=search.order, target=target, atom=1)
            )

    def _share_out_again(self, now: int) -> None:
        """Where half of what there was is left, and it is worth sharing, everybody has a share."""
        is_settled = self._is_gathered(now) or now - self._phase_since > STALE_US
        if not is_settled or self._waiting or self._queue:
            return
        others = [each for each in self._abroad.others if each in self._fresh(now)]
        rest = self._pool.available
        is_much = rest > 2 * threshold(self._pool.minted, len(self._abroad.others) + 1)
        if not (is_much and others and 2 * rest <= self._sharing.split):
            return
        self._change("spread", rest, now)
        for centre, share in self._abroad.weigh(self.cap, rest).items():
            if centre in others and share:
                self._send(centre, min(share, self._pool.available), asked=0)

    def _change(self, mode: Mode, split: int, now: int) -> None:
        before = phase_of(self.interval)
        version = self._abroad.version(self.cap)
        phase = Phase(
            generation=version.generation,
            number=before.number + 1 if before is not None else 1,
            mode=mode,
        )
        self._set(phase, split, now)
        for each in self._abroad.others:
            self._abroad.tell(each, Status(intervals=[self.about]))

    def _set(self, phase: Phase, split: int, now: int) -> None:
        self._phase_since = now
        self._search = self._favour = None
        self._forget_refusal()
        self._abroad.record(
            PhaseChanged(cap=self.cap, number=self.interval.number, phase=phase, split=split)
        )
        self._abroad.resume(self.cap, self.interval.number, has_more=True)

    # ---- wishing

    def _wish(self, now: int) -> None:
        """Ask one after the other for what the own servers are short of."""
        waiting, ahead = self._waiting, 0
        available = max(0, self._pool.available)
        if self.mode == "spread":
            wanted = self._abroad.ahead(self.cap, self.interval.number)
            ahead = max(0, wanted - available, self._lead(now) - available)
        if not (waiting or ahead) or self.mode == "recall":
            self._withdraw()
            return
        if self._asked is not None:
            if now - self._asked.at <= WISH_US:
                return
            self._tried.add(self._asked.centre)
        atom = max(1, min(waiting, default=1) - (available if self.mode == "spread" else 0))
        if now < self._rests_until and atom > self._left:
            return
        missing = sum(waiting) + ahead - (available if self.mode == "spread" else 0)
        self._ask(self._richest(atom), max(atom, missing), atom, now)

    def _lead(self, now: int) -> int:
        """Units to ask for before they are missed; none while the own pool has enough.

        Whoever is far away must ask early; and leaves most of what the others have with them.
        """
        pool = self._pool
        self._pace.note(pool.minted + pool.net - pool.available, now)
        others = sum(max(0, told.available) for told in self._told.values())
        lead = min(self._pace.lead, others // 4)
        return 2 * lead if pool.available < lead else 0

    def _richest(self, atom: int) -> str:
        """Who has most, of those not tried yet; in the end the gatherer."""
        if self.mode == "spread":
            rich = {
                centre: told.available
                for centre, told in self._told.items()
                if centre in self._abroad.others
                and told.available >= 2 * atom
                and centre not in self._tried
            }
            if rich:
                return max(rich, key=lambda each: (rich[each], each))
        return self.gatherer

    def _ask(self, centre: str, missing: int, atom: int, now: int) -> None:
        self._asked = Asked(centre, self._next_order(), now)
        target = self._pool.received.get(centre, 0) + missing
        wish = Wish(about=self.about, order=self._asked.order, target=target, atom=atom)
        self._abroad.tell(centre, wish)

    def _withdraw(self) -> None:
        asked, self._asked = self._asked, None
        self._tried.clear()
        if asked is not None:
            self._withdrawn = asked
            target = self._pool.received.get(asked.centre, 0)
            order = self._next_order()
            wish = Wish(about=self.about, order=order, target=target, atom=0)
            self._abroad.tell(asked.centre, wish)

    def _refuse_own(self, left: int, now: int) -> None:
        """Nowhere is enough for now: who waits here is told so, and asks again after a while."""
        self._left = left
        self._rests_until = now + RESTS_US[min(self._refusals, len(RESTS_US) - 1)]
        self._refusals += 1
        self._refused_at = now
        self._seen = {centre: (told.available, told.held) for centre, told in self._told.items()}
        self._tried.clear()
        self._abroad.resume(self.cap, self.interval.number, has_more=False)

    def _recall(self, missing: int) -> bool:
        """Let own servers give back so many units; whether some have yet to answer."""
        return self._abroad.recall(self.cap, self.interval.number, missing)

    @property
    def _others_hold(self) -> bool:
        """Whether units are at the servers of other data centres, which may lie idle by now."""
        return any(told.held > 0 for told in self._told.values())

    def _forget_refusal(self) -> None:
        self._refusals = self._rests_until = 0
        self._seen = None

    def _next_order(self) -> Order:
        self._turn += 1
        return (self._abroad.epoch, self._turn)
