"""The state of an interval: its bounds, its total in force, and its pool."""

from msgspec import Struct

from vcap_es.events.facts import (
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
)
from vcap_es.projections.states.places import Pool, close, end, mint


class Interval(Struct, gc=False):
    """One serving period `[start, end)`, in microseconds UTC, and where its amounts are."""

    number: int
    start: int
    end: int
    pool: Pool


def opened(fact: IntervalOpened) -> Interval:
    """The interval as it is when it has just been opened."""
    pool = Pool()
    mint(pool, fact.total)
    return Interval(fact.number, fact.start, fact.end, pool)


def evolve(interval: Interval, fact: IntervalTotalChanged | IntervalEnded | IntervalClosed) -> None:
    """The interval has changed by `fact`."""
    match fact:
        case IntervalTotalChanged():
            mint(interval.pool, fact.total)
        case IntervalEnded():
            end(interval.pool)
        case IntervalClosed():
            close(interval.pool, fact.unreported)
