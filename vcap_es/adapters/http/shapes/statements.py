"""Statements and explanations, as the control plane answers them."""

from msgspec import Struct

from vcap_es.adapters.http.shapes.scalars import Instant, shown_fields
from vcap_es.projections.consumes import ConsumeExplanation
from vcap_es.projections.explanations import Reason
from vcap_es.projections.history import Place
from vcap_es.projections.statement import StatementEntry, What


class StatementLine(Struct, frozen=True, kw_only=True):
    """One movement, and the balance of its interval after it."""

    position: int
    at: Instant
    actor: str
    what: What
    number: int | None
    server: str | None
    amount: int
    source: Place | None
    target: Place | None
    detail: str
    available: int | None
    withheld: int | None
    held: int | None
    spent: int | None
    expired: int | None
    unreported: int | None


class AccountStatement(Struct, frozen=True, kw_only=True):
    """Every movement of a cap, oldest first; streamed."""

    id: str
    lines: list[StatementLine]


class Why(Struct, frozen=True, kw_only=True):
    """`amount` units are at `place`, put there by the events at `positions` (the newest ones)."""

    place: Place
    server: str | None
    amount: int
    text: str
    events: int
    positions: list[int]


class Explanation(Struct, frozen=True, kw_only=True):
    """Where every unit went, or what became of one consume, in words; with the reasons as data."""

    id: str
    text: str
    reasons: list[Why]
    status: str | None = None


def explanation_of(cap: str, reasons: list[Reason]) -> Explanation:
    """Where every unit went, as it is told."""
    why = [
        Why(
            place=each.place,
            server=each.server,
            amount=each.amount,
            text=each.text,
            events=each.events,
            positions=each.positions,
        )
        for each in reasons
    ]
    return Explanation(id=cap, text="\n".join(each.text for each in reasons), reasons=why)


def consume_explanation_of(cap: str, told: ConsumeExplanation) -> Explanation:
    """What became of one consume, as it is told."""
    return Explanation(id=cap, text="\n".join(told.sentences), reasons=[], status=told.status)


def line_of(line: StatementEntry) -> StatementLine:
    """A line of a statement as it is shown."""
    return StatementLine(**shown_fields(line, StatementLine))
