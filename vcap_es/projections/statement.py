"""The statement of a cap: a line an event, double-entry, with the balance after it."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import fields

from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    AmountWithheld,
    Definition,
    Fact,
    HoldingRecovered,
    HomeMoved,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    PhaseChanged,
    Returned,
    SharesSet,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    TransferSettled,
    WithheldReleased,
)
from vcap_es.events.instants import format_instant
from vcap_es.projections.history import History, Place, narrowed
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.places import Pool

What = Literal[
    "defined",
    "changed",
    "paused",
    "resumed",
    "retired",
    "learned",
    "moved",
    "opened",
    "total changed",
    "bounds changed",
    "bounds heard",
    "topup",
    "topup recovered",
    "withheld",
    "released",
    "recovered",
    "return",
    "expired",
    "spent",
    "refunded",
    "refused",
    "final",
    "ended",
    "closed",
    "shares",
    "phase",
    "sent",
    "received",
    "settled",
]


class StatementEntry(Struct, frozen=True, kw_only=True, gc=False):
    """One event, or one part of it, and the balance of its interval after that event.

    `amount` units moved from the place `source` to the place `target`; a lowered total is a
    negative amount from "minted". Without places nothing moved, and `amount` counts what `what`
    says (units refused) or is 0. `server` is an incarnation, or the other data centre of a
    transfer. `at` is in microseconds UTC. The balance is None on lines of the
    definition, which belong to no interval; `withheld` is None also where nothing ever was.
    """

    position: int
    at: int
    actor: str
    what: What
    number: int | None = None
    server: str | None = None
    amount: int = 0
    source: Place | None = None
    target: Place | None = None
    detail: str = ""
    available: int | None = None
    withheld: int | None = None
    held: int | None = None
    spent: int | None = None
    expired: int | None = None
    unreported: int | None = None


def statement(
    events: Iterable[Recorded], cap: str, number: int | None = None
) -> list[StatementEntry]:
    """The lines of `cap`, oldest first; with `number` only those of that interval.

    `events` are those of the cap from its first on. The lines of an interval sum to its balance.
    """
    lines = Statement(cap)
    each = (line for event in events for line in lines.feed(event))
    return [line for line in each if number is None or line.number == number]


class Statement:
    """Writes the lines of one cap, event by event; `history` is the state they have led to.

    `balances` are those of the intervals that are not closed. Each fact is taken in once: by
    `feed`, or by `post` where no lines are wanted.
    """

    def __init__(
        self,
        cap: str,
        meta: Meta | None = None,
        balances: dict[int, dict[Place, int]] | None = None,
    ) -> None:
        """Begin with nothing, or where the events before have led to."""
        self.history = History(cap, meta)
        self.balances = {} if balances is None else balances
        self._cap = cap

    def feed(self, event: Recorded) -> list[StatementEntry]:
        """The lines of the next event; none where it does not speak of the cap."""
        fact = narrowed(event.fact, self._cap)
        if fact is None:
            return []
        lines = [self._line(event, each) for each in self.post(fact)]
        self._forget(fact)
        return lines

    def post(self, fact: Fact) -> "list[Posting]":
        """What the next fact moves; it speaks of this cap and of no other."""
        entries = _POSTINGS[type(fact)](self, fact)
        for entry in entries:
            self._post(entry)
        return entries

    def _forget(self, fact: Fact) -> None:
        """A closed interval has no more lines."""
        if isinstance(fact, IntervalClosed):
            self.history.closed.clear()
            self.balances.pop(fact.number, None)

    def _post(self, entry: "Posting") -> None:
        if entry.number is None:
            return
        balance = self.balances.setdefault(entry.number, {})
        if entry.source is not None and entry.target is not None:
            balance[entry.source] = balance.get(entry.source, 0) - entry.amount
            balance[entry.target] = balance.get(entry.target, 0) + entry.amount

    def _line(self, event: Recorded, entry: "Posting") -> StatementEntry:
        shown: dict[Any, int | None] = {}
        if entry.number is not None:
            balance = self.balances[entry.number]
            shown = {place: balance.get(place, 0) for place in _SHOWN}
            shown["withheld"] = balance.get("withheld")
        return StatementEntry(
            position=event.position,
            at=event.recorded_at,
            actor=event.actor,
            what=entry.what,
            number=entry.number,
            server=entry.server,
            amount=entry.amount,
            source=entry.source,
            target=entry.target,
            detail=entry.detail,
            **shown,
        )

    def _pool(self, number: int) -> Pool:
        found = self.history.state.interval(self._cap, number)
        assert found is not None, f"interval {number} of {self._cap} is not open"
        return found.pool

    # each gives the postings of one kind of fact, and lets the history evolve by it

    def _defined(self, fact: MetaDefined) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting("defined", detail=_told(fact.definition))]

    def _changed(self, fact: MetaChanged) -> list["Posting"]:
        before = self.history.state.metas[self._cap].definition
        self.history.evolve(fact)
        return [Posting("changed", detail=_difference(before, fact.definition))]

    def _turned(self, fact: MetaPaused | MetaResumed | MetaRetired) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting(_TURNS[type(fact)])]

    def _opened(self, fact: IntervalOpened) -> list["Posting"]:
        self.history.evolve(fact)
        place: Place = "withheld" if fact.withheld else "available"
        detail = f"{fact.charged} of its period were used before" if fact.charged else ""
        return [Posting("opened", fact.number, None, fact.total, "minted", place, detail)]

    def _bounded(self, fact: IntervalBounded) -> list["Posting"]:
        self.history.evolve(fact)
        detail = f"{format_instant(fact.start)} to {format_instant(fact.end)}"
        return [Posting("bounds changed", fact.number, detail=detail)]

    def _heard(self, fact: IntervalHeard) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting("bounds heard", fact.number)]

    def _opening_recovered(self, fact: IntervalRecovered) -> list["Posting"]:
        self.history.evolve(fact)
        detail = "before the restore, as another data centre tells"
        return [Posting("opened", fact.number, None, fact.total, "minted", "withheld", detail)]

    def _total_changed(self, fact: IntervalTotalChanged) -> list["Posting"]:
        lines = [
            Posting("total changed", fact.number, None, more, "minted", place)
            for place, more in self._changes(fact)
        ]
        return lines or [Posting("total changed", fact.number, None, 0, "minted", "available")]

    def _amount_withheld(self, fact: AmountWithheld) -> list["Posting"]:
        more = dict(self._changes(fact)).get("withheld", 0)
        return [Posting("withheld", fact.number, None, more, "available", "withheld")]

    def _released(self, fact: WithheldReleased) -> list["Posting"]:
        detail = f"by {' and '.join(fact.approved_by)}"
        return [
            Posting("released", fact.number, None, more, "withheld", place, detail)
            for place, more in self._changes(fact)
            if place != "withheld"
        ]

    def _changes(
        self,
        fact: IntervalTotalChanged
        | AmountWithheld
        | WithheldReleased
        | HoldingRecovered
        | TransferRecovered,
    ) -> list[tuple[Place, int]]:
        """By how much the amounts of the pool differ after `fact`, where they do."""
        pool = self._pool(fact.number)
        before = pool.available, pool.withheld, pool.expired
        self.history.evolve(fact)
        after = pool.available, pool.withheld, pool.expired
        places: tuple[Place, ...] = ("available", "withheld", "expired")
        return [
            (place, now - then)
            for place, now, then in zip(places, after, before, strict=True)
            if now != then
        ]

    def _topped_up(self, fact: ToppedUp) -> list["Posting"]:
        more = max(0, fact.moved - self._pool(fact.number).peek(fact.incarnation).out)
        self.history.evolve(fact)
        return [Posting("topup", fact.number, fact.incarnation, more, "available", "held")]

    def _recovered(self, fact: TopupRecovered) -> list["Posting"]:
        pool = self._pool(fact.number)
        more, expired = max(0, fact.moved - pool.peek(fact.incarnation).out), pool.expired
        self.history.evolve(fact)
        known = expired - pool.expired
        number, server = fact.number, fact.incarnation
        lines = [
            Posting("topup recovered", number, server, more - known, "available", "held"),
            Posting("topup recovered", number, server, known, "expired", "held"),
        ]
        return [line for line in lines if line.amount] or lines[:1]

    def _holding_recovered(self, fact: HoldingRecovered) -> list["Posting"]:
        number, server = fact.number, fact.incarnation
        account = self._pool(number).peek(server)
        spent = max(0, fact.spent - account.spent)
        refunded = max(0, fact.refunded - account.refunded)
        lines = [
            Posting("recovered", number, server, -more, place, "held")
            if more < 0
            else Posting("recovered", number, server, more, "held", place)
            for place, more in self._changes(fact)
        ]
        lines.append(Posting("spent", number, server, spent, "held", "spent"))
        lines.append(Posting("refunded", number, server, refunded, "spent", "held"))
        return [line for line in lines if line.amount] or [Posting("recovered", number, server)]

    def _returned(self, fact: Returned) -> list["Posting"]:
        pool = self._pool(fact.number)
        more, expired = max(0, fact.returned - pool.peek(fact.incarnation).back), pool.expired
        self.history.evolve(fact)
        lines = [Posting("return", fact.number, fact.incarnation, more, "held", "available")]
        late = pool.expired - expired
        if late:
            lines.append(Posting("expired", fact.number, None, late, "available", "expired"))
        return lines

    def _spend_reported(self, fact: SpendReported) -> list["Posting"]:
        lines: list[Posting] = []
        for entry in fact.entries:
            lines += _spend_postings(self._pool(entry.number), fact.incarnation, entry)
            # One after the other: a report may tell of one interval twice.
            self.history.evolve(SpendReported(incarnation=fact.incarnation, entries=[entry]))
        return lines

    def _learned(self, fact: MetaLearned) -> list["Posting"]:
        before = self.history.state.metas.get(self._cap)
        old = before.definition if before is not None else None
        self.history.evolve(fact)
        detail = _told(fact.definition) if old is None else _difference(old, fact.definition)
        home = fact.home or "the generation before the restore"
        return [Posting("learned", detail=f"of {home}: {detail}")]

    def _moved(self, fact: HomeMoved) -> list["Posting"]:
        self.history.evolve(fact)
        to = fact.home or "this data centre"
        return [Posting("moved", detail=f"{to} decides it from interval {fact.next_number} on")]

    def _interval_learned(self, fact: IntervalLearned) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting("learned", fact.number, detail=f"opened by {fact.minter}")]

    def _shared(self, fact: SharesSet) -> list["Posting"]:
        self.history.evolve(fact)
        detail = ", ".join(f"{name} {units}" for name, units in fact.shares.items())
        return [Posting("shares", fact.number, detail=detail)]

    def _phase_changed(self, fact: PhaseChanged) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting("phase", fact.number, detail=fact.phase.mode)]

    def _sent(self, fact: TransferSent) -> list["Posting"]:
        more = max(0, fact.moved - self._pool(fact.number).sent_to(fact.to))
        self.history.evolve(fact)
        return [Posting("sent", fact.number, fact.to, more, "available", "elsewhere")]

    def _received(self, fact: TransferReceived) -> list["Posting"]:
        pool = self._pool(fact.number)
        more, expired = max(0, fact.moved - pool.received.get(fact.source, 0)), pool.expired
        self.history.evolve(fact)
        lines = [Posting("received", fact.number, fact.source, more, "elsewhere", "available")]
        late = pool.expired - expired
        if late:
            lines.append(Posting("expired", fact.number, None, late, "available", "expired"))
        return lines

    def _transfers_recovered(self, fact: TransferRecovered) -> list["Posting"]:
        number, centre = fact.number, fact.centre
        lines = [
            Posting("recovered", number, centre, -more, place, "elsewhere")
            if more < 0
            else Posting("recovered", number, centre, more, "elsewhere", place)
            for place, more in self._changes(fact)
        ]
        return lines or [Posting("recovered", number, centre)]

    def _settled(self, fact: TransferSettled) -> list["Posting"]:
        self.history.evolve(fact)
        return [Posting("settled", fact.number, fact.to)]

    def _ended(self, fact: IntervalEnded) -> list["Posting"]:
        pool = self._pool(fact.number)
        expired = pool.expired
        self.history.evolve(fact)
        left = pool.expired - expired
        return [Posting("ended", fact.number, None, left, "available", "expired")]

    def _closed(self, fact: IntervalClosed) -> list["Posting"]:
        pool = self._pool(fact.number)
        self.history.evolve(fact)
        return [
            Posting("closed", fact.number, server, account.held, "held", "unreported")
            for server, account in sorted(pool.places.items())
            if account.held
        ] or [Posting("closed", fact.number, None, 0, "held", "unreported")]


class Posting(Struct, frozen=True, gc=False):
    """One part of a fact: what it moves, from where to where; see `StatementEntry`."""

    what: What
    number: int | None = None
    server: str | None = None
    amount: int = 0
    source: Place | None = None
    target: Place | None = None
    detail: str = ""


def _spend_postings(pool: Pool, server: str, entry: Spend) -> list[Posting]:
    account = pool.peek(server)
    spent = max(0, entry.spent - account.spent)
    refunded = max(0, entry.refunded - account.refunded)
    refused = max(0, entry.refused - account.refused)
    lines = [
        Posting("spent", entry.number, server, spent, "held", "spent"),
        Posting("refunded", entry.number, server, refunded, "spent", "held"),
        Posting("refused", entry.number, server, refused),
    ]
    told = [line for line in lines if line.amount]
    if entry.final and not account.final:
        told.append(Posting("final", entry.number, server))
    return told or lines[:1]


def _told(definition: Definition) -> str:
    each = "once" if definition.interval == "single" else f"a {definition.interval}"
    return f"{definition.total} {each}, {definition.timezone}"


def _difference(before: Definition, after: Definition) -> str:
    return ", ".join(
        f"{field.name} {getattr(before, field.name)} -> {getattr(after, field.name)}"
        for field in fields(Definition)
        if getattr(before, field.name) != getattr(after, field.name)
    )


_SHOWN: tuple[Place, ...] = ("available", "held", "spent", "expired", "unreported")


_TURNS: dict[type, What] = {MetaPaused: "paused", MetaResumed: "resumed", MetaRetired: "retired"}


_POSTINGS: dict[type, Callable[[Statement, Any], list[Posting]]] = {
    MetaDefined: Statement._defined,
    MetaChanged: Statement._changed,
    MetaPaused: Statement._turned,
    MetaResumed: Statement._turned,
    MetaRetired: Statement._turned,
    MetaLearned: Statement._learned,
    HomeMoved: Statement._moved,
    IntervalLearned: Statement._interval_learned,
    IntervalRecovered: Statement._opening_recovered,
    SharesSet: Statement._shared,
    PhaseChanged: Statement._phase_changed,
    TransferSent: Statement._sent,
    TransferReceived: Statement._received,
    TransferRecovered: Statement._transfers_recovered,
    TransferSettled: Statement._settled,
    IntervalOpened: Statement._opened,
    IntervalTotalChanged: Statement._total_changed,
    IntervalBounded: Statement._bounded,
    IntervalHeard: Statement._heard,
    AmountWithheld: Statement._amount_withheld,
    WithheldReleased: Statement._released,
    IntervalEnded: Statement._ended,
    IntervalClosed: Statement._closed,
    ToppedUp: Statement._topped_up,
    TopupRecovered: Statement._recovered,
    HoldingRecovered: Statement._holding_recovered,
    Returned: Statement._returned,
    SpendReported: Statement._spend_reported,
}
