"""What became of one consume, by its id.

There is no event per consume, and still each can be explained: its id names a range of the running
total that its server spent, and the topups and spend reports that cover the range follow by
arithmetic. What the log does not know yet is said to be unknown.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from vcap_es.events.consume_ids import ConsumeId, parse_consume_id
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    HoldingRecovered,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
)
from vcap_es.events.instants import format_instant
from vcap_es.projections.history import narrowed
from vcap_es.projections.tables import called, units


class Cover(Struct, frozen=True, kw_only=True, gc=False):
    """Units `start` to `end` of a server's running spend, and the event that gave them to it.

    Units are taken first in, first out: `what` is "topup", or "refunded" where a refund made them
    free again. `reported_in` is the position of the report that first told of them, or None.
    """

    start: int
    end: int
    what: Literal["topup", "refunded"]
    position: int
    at: int
    reported_in: int | None


Status = Literal["reported", "partly reported", "not reported yet", "unreported", "unknown"]


class ConsumeExplanation(Struct, frozen=True, kw_only=True, gc=False):
    """What the log knows of one consume.

    `refunded` are the units that its server has given back in that interval in all: which consumes
    they belong to is known to that server alone. `sentences` say all of it in words.
    """

    consume: ConsumeId
    status: Status
    covers: list[Cover]
    refunded: int
    ended_at: int | None
    closed_at: int | None
    sentences: list[str]


def explain_consume(
    events: Iterable[Recorded], consume: str | ConsumeId, names: Mapping[str, str] | None = None
) -> ConsumeExplanation:
    """What the log knows of a consume: its topups, its reports, its interval.

    `events` are those of its cap from the first on; `names` are those of servers, by incarnation.
    Raises InvalidInput if the text is no id.
    """
    wanted = parse_consume_id(consume) if isinstance(consume, str) else consume
    trail = _Trail(wanted)
    for event in events:
        trail.feed(event)
    return ConsumeExplanation(
        consume=wanted,
        status=trail.status(),
        covers=trail.covers + trail.expected(),
        refunded=trail.refunded,
        ended_at=trail.ended_at,
        closed_at=trail.closed_at,
        sentences=trail.sentences(names or {}),
    )


class _Lot(Struct):
    """Units that a server has and has not told to be spent, and the event that gave them."""

    amount: int
    what: Literal["topup", "refunded"]
    position: int
    at: int


class _Trail:
    """Follows one server through one interval, unit by unit, first in, first out."""

    def __init__(self, wanted: ConsumeId) -> None:
        self.wanted = wanted
        self.covers: list[Cover] = []
        self.opened_at: int | None = None
        self.ended_at: int | None = None
        self.closed_at: int | None = None
        self.moved = self.returned = self.spent = self.refunded = 0
        self._lots: deque[_Lot] = deque()

    def feed(self, event: Recorded) -> None:
        """Take in the next event of the cap."""
        fact = narrowed(event.fact, self.wanted.cap)
        if isinstance(fact, SpendReported):
            for entry in fact.entries:
                if self._is_wanted(entry.number, fact.incarnation):
                    self._report(entry, event)
        elif getattr(fact, "number", None) == self.wanted.number:
            match fact:
                case IntervalOpened():
                    self.opened_at = event.recorded_at
                case IntervalEnded():
                    self.ended_at = event.recorded_at
                case IntervalClosed():
                    self.closed_at = event.recorded_at
                case ToppedUp() | TopupRecovered() if self._is_wanted(
                    fact.number, fact.incarnation
                ):
                    self._top_up(fact.moved, event)
                case HoldingRecovered() if self._is_wanted(fact.number, fact.incarnation):
                    self._recover(fact, event)
                case Returned() if self._is_wanted(fact.number, fact.incarnation):
                    self._give_back(fact.returned)

    def _is_wanted(self, number: int, incarnation: str) -> bool:
        return number == self.wanted.number and incarnation == self.wanted.incarnation

    def _top_up(self, moved: int, event: Recorded) -> None:
        if moved > self.moved:
            amount = moved - self.moved
            self._lots.append(_Lot(amount, "topup", event.position, event.recorded_at))
            self.moved = moved

    def _recover(self, fact: HoldingRecovered, event: Recorded) -> None:
        self._top_up(fact.moved, event)
        self._report(
            Spend(
                cap=fact.cap,
                number=fact.number,
                spent=fact.spent,
                refunded=fact.refunded,
                refused=0,
                final=False,
            ),
            event,
        )
        self._give_back(fact.returned)

    def _give_back(self, returned: int) -> None:
        """What is returned is what came last: the first units are the first to be spent."""
        left = max(0, returned - self.returned)
        self.returned += left
        while left:
            taken = min(left, self._lots[-1].amount)
            self._lots[-1].amount -= taken
            left -= taken
            if not self._lots[-1].amount:
                self._lots.pop()

    def _report(self, entry: Spend, event: Recorded) -> None:
        back = max(0, entry.refunded - self.refunded)
        if back:
            self._lots.append(_Lot(back, "refunded", event.position, event.recorded_at))
            self.refunded += back
        left = max(0, entry.spent - self.spent)
        while left:
            lot = self._lots[0]
            taken = min(left, lot.amount)
            self.covers += self._cover(self.spent, self.spent + taken, lot, event.position)
            self.spent += taken
            lot.amount -= taken
            left -= taken
            if not lot.amount:
                self._lots.popleft()

    def _cover(self, start: int, end: int, lot: _Lot, reported_in: int | None) -> list[Cover]:
        """The part of `[start, end)` that the consume took, if any."""
        start, end = max(start, self.wanted.start), min(end, self.wanted.end)
        if start >= end:
            return []
        return [
            Cover(
                start=start,
                end=end,
                what=lot.what,
                position=lot.position,
                at=lot.at,
                reported_in=reported_in,
            )
        ]

    def expected(self) -> list[Cover]:
        """The units not told of yet that the server has for them, as far as the log knows."""
        covers: list[Cover] = []
        start = self.spent
        for lot in self._lots:
            covers += self._cover(start, start + lot.amount, lot, None)
            start += lot.amount
        return covers

    @property
    def held(self) -> int:
        return self.moved - self.returned - self.spent + self.refunded

    def status(self) -> Status:
        if self.opened_at is None or not self.moved:
            return "unknown"
        if self.wanted.end <= self.spent:
            return "reported"
        if self.wanted.end > self.spent + self.held:
            return "unknown"
        if self.closed_at is not None:
            return "unreported"
        return "partly reported" if self.wanted.start < self.spent else "not reported yet"

    def sentences(self, names: Mapping[str, str]) -> list[str]:
        wanted = self.wanted
        server = called(wanted.incarnation, names)
        amount = wanted.end - wanted.start
        return [
            f"{units(amount)} of {wanted.cap}, interval {wanted.number}: units {wanted.start} to"
            f" {wanted.end} of what server {server} spent there in all.",
            *(_told_cover(cover) for cover in self.covers + self.expected()),
            *self._told_status(),
            *self._told_refunds(),
            *self._told_interval(),
        ]

    def _told_status(self) -> list[str]:
        wanted, status = self.wanted, self.status()
        if self.opened_at is None:
            return ["This interval is not on the log: the id is wrong, or of another data centre."]
        if not self.moved:
            return ["That server was never given anything of it: the id is wrong."]
        if status == "unknown":
            return [
                f"The log accounts for {self.spent + self.held} units there so far, not"
                f" {wanted.end}: either refunds are not reported yet, or the id is wrong."
            ]
        if status == "unreported":
            return [
                f"The server had told of {self.spent} units when the interval closed; the rest of"
                f" this consume is among its {self.held} unreported units, which count as spent."
            ]
        if status == "reported":
            return []
        return [f"Not reported yet: so far the server has told of {self.spent} units."]

    def _told_refunds(self) -> list[str]:
        if not self.moved:
            return []
        if not self.refunded:
            return ["No refund is reported by that server in this interval."]
        return [
            f"{units(self.refunded)} were refunded by that server in this interval; which"
            " consumes they belong to is known to that server alone."
        ]

    def _told_interval(self) -> list[str]:
        if self.closed_at is not None:
            return [f"The interval closed at {format_instant(self.closed_at)}: this is final."]
        if self.ended_at is not None:
            return [f"The interval ended at {format_instant(self.ended_at)} and is not closed."]
        return [] if self.opened_at is None else ["The interval is open."]


def _told_cover(cover: Cover) -> str:
    source = "the topup" if cover.what == "topup" else "a refund reported"
    told = "not reported yet"
    if cover.reported_in is not None:
        told = f"first reported at position {cover.reported_in}"
    return (
        f"Units {cover.start} to {cover.end} came from {source} at position {cover.position}"
        f" ({format_instant(cover.at)}); {told}."
    )
