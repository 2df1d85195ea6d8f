"""The life of a cap for auditors: balances as they were, and a statement with a line an event.

Everything is folded from the events of the log; nothing else is kept. A statement is double-entry:
each line moves an amount from one place to another, so what went into a place less what left it is
the balance of that place, exactly.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Literal

from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    Fact,
    IntervalClosed,
    SpendReported,
    caps_of,
)
from vcap_es.projections.balances import CapBalance, balance_of
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

Place = Literal[
    "minted",
    "elsewhere",
    "available",
    "withheld",
    "held",
    "spent",
    "expired",
    "unreported",
]


class History(Fold):
    """A fold that keeps closed intervals too, of one cap or (without `cap`) of all.

    It grows with every interval that was ever open: fold what is asked for, and let it go.
    """

    def __init__(self, cap: str | None = None, meta: Meta | None = None) -> None:
        """Begin with nothing, or with what is known of `cap` already."""
        super().__init__(DataCentre(metas={meta.cap: meta} if meta is not None else {}))
        self.closed: dict[str, list[Interval]] = {}
        self._cap = cap

    def evolve(self, fact: Fact) -> None:
        """`fact` has become true; what does not speak of the cap is left out."""
        kept = fact if self._cap is None else narrowed(fact, self._cap)
        if kept is None:
            return
        closing = None
        if isinstance(kept, IntervalClosed):
            closing = self.state.interval(kept.cap, kept.number)
        super().evolve(kept)
        if closing is not None:
            self.closed.setdefault(kept.cap, []).append(closing)  # type: ignore[union-attr]  # an IntervalClosed has a cap

    def intervals(self, cap: str) -> list[Interval]:
        """Every interval of `cap` that was ever opened, by its number."""
        meta = self.state.metas.get(cap)
        found = [*self.closed.get(cap, ()), *(meta.intervals if meta else ())]
        return sorted(found, key=lambda each: each.number)

    def balance(self, cap: str) -> CapBalance | None:
        """The balance of `cap`, closed intervals included; None where it was never defined."""
        meta = self.state.metas.get(cap)
        return None if meta is None else balance_of(meta, self.closed.get(cap, ()))


def narrowed(fact: Fact, cap: str) -> Fact | None:
    """What `fact` says of `cap`; None where that is nothing."""
    if isinstance(fact, SpendReported):
        entries = [entry for entry in fact.entries if entry.cap == cap]
        return SpendReported(incarnation=fact.incarnation, entries=entries) if entries else None
    return fact if cap in caps_of(fact) else None


def until(
    events: Iterable[Recorded], *, position: int | None = None, at: int | None = None
) -> Iterator[Recorded]:
    """The events up to `position` and up to the instant `at` (microseconds UTC), both included."""

    def is_within(event: Recorded) -> bool:
        within_position = position is None or event.position <= position
        return within_position and (at is None or event.recorded_at <= at)

    return takewhile(is_within, events)


def fold_until(
    events: Iterable[Recorded],
    *,
    cap: str | None = None,
    position: int | None = None,
    at: int | None = None,
) -> History:
    """The state after the last event up to `position` and `at`, closed intervals included.

    `events` are oldest first, from the first event of the log, or (with `cap`) of that cap.
    """
    history = History(cap)
    for event in until(events, position=position, at=at):
        history.evolve(event.fact)
    return history
