"""The state of an interval: its bounds, its total in force, and its pool."""

from msgspec import Struct

from vcap_es.events.facts import (
    AmountWithheld,
    IntervalClosed,
    IntervalEnded,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    Phase,
    WithheldReleased,
)
from vcap_es.projections.states.places import Pool, close, end, mint, release, withhold


class Sharing(Struct, gc=False):
    """What an interval is to several data centres.

    `minter` opened it, "" where this data centre did. `phase` is None until the shares are given
    out; `shares` are those that its minter decided, `split` what there was when they were last
    given out.
    """

    minter: str = ""
    phase: Phase | None = None
    split: int = 0
    shares: dict[str, int] = {}


class Interval(Struct, gc=False):
    """One serving period `[start, end)`, in microseconds UTC, and where its amounts are.

    `sharing` is None where it is for this data centre alone.
    """

    number: int
    start: int
    end: int
    pool: Pool
    sharing: Sharing | None = None


def opened(fact: IntervalOpened) -> Interval:
    """The interval as it is when it has just been opened."""
    pool = Pool(old=0 if fact.withheld else None)
    mint(pool, fact.total)
    return Interval(fact.number, fact.start, fact.end, pool)


def learned(fact: IntervalLearned) -> Interval:
    """The interval of another data centre, as it is when it has just been heard of."""
    return Interval(fact.number, fact.start, fact.end, Pool(), Sharing(fact.minter))


def recovered(fact: IntervalRecovered) -> Interval:
    """An interval of the generation before, as it is when it has just been told of."""
    pool = Pool(old=0)
    mint(pool, fact.total)
    return Interval(fact.number, fact.start, fact.end, pool, Sharing())


IntervalChange = (
    IntervalTotalChanged | AmountWithheld | WithheldReleased | IntervalEnded | IntervalClosed
)


def evolve(interval: Interval, fact: IntervalChange) -> None:
    """The interval has changed by `fact`."""
    match fact:
        case IntervalTotalChanged():
            mint(interval.pool, fact.total)
        case AmountWithheld():
            withhold(interval.pool, fact.amount)
        case WithheldReleased():
            release(interval.pool, fact.amount)
        case IntervalEnded():
            end(interval.pool)
        case IntervalClosed():
            close(interval.pool, fact.unreported)
