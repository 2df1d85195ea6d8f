"""Drafts for the tests of logs: every one with an id of its own, or one that the test names."""

from collections.abc import Iterator
from itertools import count

from vcap_es.events.envelope import Draft
from vcap_es.events.facts import EpochStarted, Fact, Spend, SpendReported, ToppedUp

_ids: Iterator[int] = count(1)


def draft(fact: Fact | None = None, *, event_id: int | None = None, cap: str = "ads:1") -> Draft:
    """A draft of `fact`, or of a topup of `cap`."""
    number = next(_ids) if event_id is None else event_id
    return Draft(
        event_id=number.to_bytes(16),
        recorded_at=1_790_000_000_000_000 + number,
        dc="ams",
        actor="key:1",
        correlation=f"request-{number}",
        fact=fact or topped_up(cap, moved=number),
    )


def drafts(amount: int, *, cap: str = "ads:1") -> list[Draft]:
    """So many topups of `cap`."""
    return [draft(cap=cap) for _ in range(amount)]


def topped_up(cap: str, *, moved: int) -> ToppedUp:
    """A topup with everything but cap and amount made up."""
    return ToppedUp(cap=cap, number=20_412, incarnation="5f" * 16, moved=moved)


def spend_reported(*caps: str) -> SpendReported:
    """A report of one unit spent of each of `caps`."""
    entries = [
        Spend(cap=cap, number=20_412, spent=1, refunded=0, refused=0, final=False) for cap in caps
    ]
    return SpendReported(incarnation="5f" * 16, entries=entries)


def epoch_started(epoch: int) -> EpochStarted:
    """The fact that opens an epoch; it speaks of no cap."""
    return EpochStarted(epoch=epoch, leader="master-1")
