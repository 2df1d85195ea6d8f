"""One interval that data centres share, as it stands here: what is had, and told of by others.

What is sent is told again until it is known to be there.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vcap_es.components.decisions.transfer import gift, mode_of, phase_of, spare
from vcap_es.components.local_handler.demands import PoolDemand
from vcap_es.components.messages.centre import (
    BetweenCentres,
    IntervalStatus,
    Movement,
    Status,
    Wish,
    WishRefusal,
)
from vcap_es.components.messages.server import MessageNumber
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import Fact, Mode, Phase, PhaseChanged, TransferSent, Version
from vcap_es.projections.states.interval import Interval, Sharing

RESENDS_US = (800_000, 6_000_000)
"""A movement is told again after the first of these, then after twice as long, up to the last."""

WISH_US = 600_000
"""Microseconds without an answer after which a wish is made to another data centre."""


class ExchangeHost(Protocol):
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

    @property
    def fresh(self) -> set[str]:
        """The others that were heard lately."""

    def weigh(self, cap: str, total: int) -> dict[str, int]:
        """`total` units split over the data centres that have a share of the cap."""

    def version(self, cap: str) -> Version:
        """The version of the cap's definition that is known here."""

    @property
    def generation(self) -> int:
        """How often the log of this data centre was restored."""

    def generation_of(self, centre: str) -> int:
        """How often the log of another data centre was restored, as it is known here."""

    def record(self, fact: Fact) -> None:
        """Let `fact` become true, and be appended with the next commit round."""

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""

    def demand(self, cap: str, number: int) -> PoolDemand:
        """What own servers need of it, and would have ahead of need."""

    def recall(self, cap: str, number: int, missing: int) -> bool:
        """Let own servers give back what lies idle there; whether some have yet to answer."""

    def resume(self, cap: str, number: int, *, has_more: bool) -> None:
        """Serve the own servers again: there may be more, or nothing more comes for now."""


class CentreReport(Struct):
    """What another data centre has told of the interval."""

    available: int = 0
    held: int = 0
    phase: tuple[int, int] = (0, 0)


class Resend(Struct):
    """When a movement is told again: after `wait`, counted from the look after it was told."""

    wait: int
    due: int | None = None


class SharedInterval:
    """What all dealings about an interval have in common. `told` is by data centre."""

    def __init__(self, cap: str, interval: Interval, abroad: ExchangeHost) -> None:
        """The `interval` of `cap`."""
        self.cap, self.interval, self.pool, self.abroad = cap, interval, interval.pool, abroad
        self.told: dict[str, CentreReport] = {}
        self._resends: dict[str, Resend] = {}
        self._turn = 0

    # ---- what is true

    @property
    def mode(self) -> Mode:
        """The phase of the interval."""
        return mode_of(self.interval)

    @property
    def sharing(self) -> Sharing:
        """Its shares, its minter and its phase."""
        return self.interval.sharing or Sharing()

    @property
    def available(self) -> int:
        """What the pool has; 0 where it is in debt."""
        return max(0, self.pool.available)

    @property
    def minter(self) -> str:
        """The data centre that has opened the interval."""
        return self.sharing.minter or self.abroad.dc

    @property
    def gatherer(self) -> str:
        """The data centre that sets the phase, and gathers the rest: who minted the interval."""
        return self.abroad.stands_in(self.cap, self.minter)

    @property
    def is_gatherer(self) -> bool:
        """Whether that is this data centre."""
        return self.gatherer == self.abroad.dc

    @property
    def demand(self) -> PoolDemand:
        """What the own servers need."""
        return self.abroad.demand(self.cap, self.interval.number)

    @property
    def about(self) -> IntervalStatus:
        """How the interval stands here."""
        interval = self.interval
        return IntervalStatus(
            cap=self.cap,
            version=self.abroad.version(self.cap),
            number=interval.number,
            start=interval.start,
            end=interval.end,
            minter=self.minter,
            phase=phase_of(interval),
            available=self.pool.available,
            held=self.pool.held,
            bounded=interval.bounded,
            cuts=self.pool.cuts,
        )

    def in_transit(self, centre: str) -> int:
        """The units that were sent to another data centre, and are not known to be there."""
        sent = self.pool.sent.get(centre)
        return sent.moved - sent.settled if sent is not None else 0

    def countable_from(self, centre: str) -> int:
        """The most that another data centre may still move here: that is a running total."""
        return MAX_AMOUNT - self.pool.received.get(centre, 0)

    # ---- the own servers

    def recall(self, missing: int) -> bool:
        """Let own servers give back so many units; whether some have yet to answer."""
        return self.abroad.recall(self.cap, self.interval.number, missing)

    def resume(self, *, has_more: bool) -> None:
        """Serve the own servers again: there may be more, or nothing more comes for now."""
        self.abroad.resume(self.cap, self.interval.number, has_more=has_more)

    # ---- what is told

    def next_order(self) -> MessageNumber:
        """Orders what is asked for in this epoch."""
        self._turn += 1
        return (self.abroad.epoch, self._turn)

    def give(self, centre: str, target: int, atom: int) -> int:
        """Send what may be given to who wishes for `target` in all; the units that were."""
        units = spare(
            self.pool.available, self.demand.short, self.mode, is_gatherer=self.is_gatherer
        )
        target = min(target, MAX_AMOUNT)
        given = gift(target, self.pool.sent_to(centre), atom, units)
        if given:
            self.send(centre, given, asked=target)
        return given

    def send(self, centre: str, amount: int, *, asked: int) -> None:
        """Move `amount` units to another data centre, or as many as can be counted."""
        before, number = self.pool.sent_to(centre), self.interval.number
        moved = min(before + amount, MAX_AMOUNT)
        if moved == before or (self.pool.old is not None and centre not in self.told):
            return  # who has not told what it was sent before the restore may have more already
        self.abroad.record(
            TransferSent(cap=self.cap, number=number, to=centre, moved=moved, asked=asked)
        )
        self._tell_moved(centre)
        self._resends[centre] = Resend(RESENDS_US[0])

    def tell_moved_again(self, now: int) -> None:
        """Let others hear again what was moved to them, and is not known to be there."""
        for centre, sent in self.pool.sent.items():
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

    def _tell_moved(self, centre: str) -> None:
        moved, generation = self.pool.sent_to(centre), self.abroad.generation_of(centre)
        self.abroad.tell(centre, Movement(about=self.about, moved=moved, generation=generation))

    def wish(
        self, centre: str, order: MessageNumber, missing: int, atom: int, ahead: int = 0
    ) -> None:
        """Let another data centre hear that so many units more are wished for, or `atom` at least.

        Who asks for more than can be counted wishes for as much as can be.
        """
        wish = Wish(
            about=self.about,
            order=order,
            target=min(self.pool.received.get(centre, 0) + missing, MAX_AMOUNT),
            atom=min(atom, MAX_AMOUNT),
            ahead=min(ahead, MAX_AMOUNT),
        )
        self.abroad.tell(centre, wish)

    def reply(self, centre: str, order: MessageNumber, gave: int) -> None:
        """Let another data centre hear that its wish is not met, or not whole."""
        about, left = self.about, self.available
        self.abroad.tell(centre, WishRefusal(about=about, order=order, gave=gave, left=left))

    def forget(self, centre: str) -> None:
        """A data centre was restored: what it told is of a generation before."""
        self.told.pop(centre, None)
        self._resends.pop(centre, None)

    def set_phase(self, phase: Phase, split: int) -> None:
        """The interval is in this phase from now on; `split` units were shared out last.

        Of a split no more is remembered than can be recorded: it only says when to share again.
        """
        number, split = self.interval.number, min(split, MAX_AMOUNT)
        self.abroad.record(PhaseChanged(cap=self.cap, number=number, phase=phase, split=split))

    def next_phase(self, mode: Mode) -> Phase:
        """The phase that comes after the one that is, and after any of a generation before."""
        before = phase_of(self.interval)
        return Phase(
            generation=self.abroad.version(self.cap).generation + self.abroad.generation,
            number=before.number + 1 if before is not None else 1,
            mode=mode,
        )

    def tell_all(self) -> None:
        """Let all others hear how the interval stands here."""
        for each in self.abroad.others:
            self.abroad.tell(each, Status(intervals=[self.about]))
