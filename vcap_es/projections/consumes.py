"""What became of one consume, by its id.

There is no event per consume, and still each can be explained: its id names a range of the running
total that its server spent, and the topups and spend reports that cover the range follow by
arithmetic. What the log does not know yet is said to be unknown.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from vcap_es.events.consume_ids import ConsumeId, parse_consume_id
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    Fact,
    HoldingRecovered,
    IntervalClosed,
    IntervalEnded,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
)
from vcap_es.events.instants import format_instant
from vcap_es.projections.history import narrowed
from vcap_es.projections.wording import called, units


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
    trail = Trail(wanted)
    for event in events:
        trail.feed(event)
    return trail.explanation(names or {})


class Lot(Struct, array_like=True, gc=False):
    """Units that a server has and has not told to be spent, and the event that gave them."""

    amount: int
    what: Literal["topup", "refunded"]
    position: int
    at: int


Span = tuple[int, int, Lot]
"""Units from the first number up to the second of what a server spent, and the lot that had them.
"""


class Purse(Struct, array_like=True, gc=False):
    """What a server has of one interval, lot by lot, as far as it has told.

    Units are spent first in, first out; what is returned is what came last. The rest are running
    totals in units.
    """

    moved: int = 0
    returned: int = 0
    spent: int = 0
    refunded: int = 0
    lots: list[Lot] = []

    @property
    def held(self) -> int:
        """Units that are there."""
        return self.moved - self.returned - self.spent + self.refunded

    def top_up(self, moved: int, event: Recorded) -> None:
        """`moved` units have been moved there in all."""
        if moved > self.moved:
            amount = moved - self.moved
            self.lots.append(Lot(amount, "topup", event.position, event.recorded_at))
            self.moved = moved

    def give_back(self, returned: int) -> None:
        """`returned` units have come back in all."""
        left = max(0, returned - self.returned)
        self.returned += left
        while left:
            taken = min(left, self.lots[-1].amount)
            self.lots[-1].amount -= taken
            left -= taken
            if not self.lots[-1].amount:
                self.lots.pop()

    def recover(self, fact: HoldingRecovered, event: Recorded) -> list[Span]:
        """The server tells how it stands, after a restore; gives the spans that it has spent."""
        self.top_up(fact.moved, event)
        entry = Spend(
            cap=fact.cap,
            number=fact.number,
            spent=fact.spent,
            refunded=fact.refunded,
            refused=0,
            final=False,
        )
        spans = self.report(entry, event)
        self.give_back(fact.returned)
        return spans

    def report(self, entry: Spend, event: Recorded) -> list[Span]:
        """The server tells of spends and refunds; gives the spans of them with their lots."""
        back = max(0, entry.refunded - self.refunded)
        if back:
            self.lots.append(Lot(back, "refunded", event.position, event.recorded_at))
            self.refunded += back
        spans: list[Span] = []
        left, emptied = max(0, entry.spent - self.spent), 0
        while left:
            lot = self.lots[emptied]
            taken = min(left, lot.amount)
            spans.append((self.spent, self.spent + taken, lot))
            self.spent += taken
            lot.amount -= taken
            left -= taken
            if not lot.amount:
                emptied += 1
        del self.lots[:emptied]
        return spans


class Lifetime(Struct, array_like=True, gc=False):
    """When an interval opened, ended and closed, in microseconds UTC; None: not yet."""

    opened_at: int | None = None
    ended_at: int | None = None
    closed_at: int | None = None

    def take_in(self, fact: Fact, at: int) -> None:
        """`fact` of the interval was recorded at the instant `at`."""
        match fact:
            case IntervalOpened() | IntervalLearned() | IntervalRecovered():
                self.opened_at = at
            case IntervalEnded():
                self.ended_at = at
            case IntervalClosed():
                self.closed_at = at


def spend_into(purse: Purse, fact: Fact, event: Recorded) -> list[Span]:
    """Take in that units were moved to the server of `purse`, or came back from it.

    Gives the spans that the fact tells to be spent.
    """
    match fact:
        case ToppedUp() | TopupRecovered():
            purse.top_up(fact.moved, event)
        case Returned():
            purse.give_back(fact.returned)
        case HoldingRecovered():
            return purse.recover(fact, event)
    return []


class Trail:
    """Follows one server through one interval, unit by unit, first in, first out.

    It may begin, and be brought on, with what is known of the server and the interval at some
    event: up to where the server had spent less than the consume, or when all of it is told.
    """

    def __init__(self, wanted: ConsumeId) -> None:
        self.wanted = wanted
        self.covers: list[Cover] = []
        self.lifetime, self.purse = Lifetime(), Purse()

    def feed(self, event: Recorded) -> None:
        """Take in the next event of the cap."""
        fact = narrowed(event.fact, self.wanted.cap)
        if isinstance(fact, SpendReported):
            for entry in fact.entries:
                if self._is_wanted(entry.number, fact.incarnation):
                    self._report(entry, event)
        elif getattr(fact, "number", None) == self.wanted.number:
            assert fact is not None, "what has a number is a fact"
            self.lifetime.take_in(fact, event.recorded_at)
            if getattr(fact, "incarnation", None) == self.wanted.incarnation:
                self._cover_all(spend_into(self.purse, fact, event), event)

    @property
    def is_told(self) -> bool:
        """Whether the server has told of every unit of the consume."""
        return self.purse.spent >= self.wanted.end

    def explanation(self, names: Mapping[str, str]) -> ConsumeExplanation:
        """What is known after the last event; `names` are those of servers, by incarnation."""
        return ConsumeExplanation(
            consume=self.wanted,
            status=self.status(),
            covers=self.covers + self.expected(),
            refunded=self.purse.refunded,
            ended_at=self.lifetime.ended_at,
            closed_at=self.lifetime.closed_at,
            sentences=self.sentences(names),
        )

    def _is_wanted(self, number: int, incarnation: str) -> bool:
        return number == self.wanted.number and incarnation == self.wanted.incarnation

    def _report(self, entry: Spend, event: Recorded) -> None:
        self._cover_all(self.purse.report(entry, event), event)

    def _cover_all(self, spans: list[Span], event: Recorded) -> None:
        for start, end, lot in spans:
            self.covers += self._cover(start, end, lot, event.position)

    def _cover(self, start: int, end: int, lot: Lot, reported_in: int | None) -> list[Cover]:
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
        start = self.purse.spent
        for lot in self.purse.lots:
            covers += self._cover(start, start + lot.amount, lot, None)
            start += lot.amount
        return covers

    def status(self) -> Status:
        """How far the server has told of the consume."""
        if self.lifetime.opened_at is None or not self.purse.moved:
            return "unknown"
        if self.wanted.end <= self.purse.spent:
            return "reported"
        if self.wanted.end > self.purse.spent + self.purse.held:
            return "unknown"
        if self.lifetime.closed_at is not None:
            return "unreported"
        return "partly reported" if self.wanted.start < self.purse.spent else "not reported yet"

    def sentences(self, names: Mapping[str, str]) -> list[str]:
        """All that is known, in words."""
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
        if self.lifetime.opened_at is None:
            return ["This interval is not on the log: the id is wrong, or of another data centre."]
        if not self.purse.moved:
            return ["That server was never given anything of it: the id is wrong."]
        if status == "unknown":
            return [
                f"The log accounts for {self.purse.spent + self.purse.held} units there so far, not"
                f" {wanted.end}: either refunds are not reported yet, or the id is wrong."
            ]
        if status == "unreported":
            return [
                f"The server had told of {self.purse.spent} units when the interval closed; the"
                f" rest of this consume is among its {self.purse.held} unreported units, which"
                " count as spent."
            ]
        if status == "reported":
            return []
        return [f"Not reported yet: so far the server has told of {self.purse.spent} units."]

    def _told_refunds(self) -> list[str]:
        if not self.purse.moved:
            return []
        if not self.purse.refunded:
            return ["No refund is reported by that server in this interval."]
        return [
            f"{units(self.purse.refunded)} were refunded by that server in this interval; which"
            " consumes they belong to is known to that server alone."
        ]

    def _told_interval(self) -> list[str]:
        if self.lifetime.closed_at is not None:
            return [
                f"The interval closed at {format_instant(self.lifetime.closed_at)}: this is final."
            ]
        if self.lifetime.ended_at is not None:
            return [
                f"The interval ended at {format_instant(self.lifetime.ended_at)} and is not closed."
            ]
        return [] if self.lifetime.opened_at is None else ["The interval is open."]


def _told_cover(cover: Cover) -> str:
    source = "the topup" if cover.what == "topup" else "a refund reported"
    told = "not reported yet"
    if cover.reported_in is not None:
        told = f"first reported at position {cover.reported_in}"
    return (
        f"Units {cover.start} to {cover.end} came from {source} at position {cover.position}"
        f" ({format_instant(cover.at)}); {told}."
    )
