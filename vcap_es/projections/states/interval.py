"""The state of an interval: its bounds, its total in force, and its pool."""

from msgspec import Struct

from vcap_es.events.facts import (
    AmountWithheld,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    Phase,
    Version,
    WithheldReleased,
)
from vcap_es.projections.states.places import Pool, close, end, mint, release, withhold
from vcap_es.projections.states.usage import Usage

IntervalChange = (
    IntervalTotalChanged
    | IntervalBounded
    | IntervalHeard
    | AmountWithheld
    | WithheldReleased
    | IntervalEnded
    | IntervalClosed
)


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

    `version` is the definition's that its total follows, `bounded` the one that its bounds follow,
    None where they are as it was opened. Who has not heard of its end may serve it until `until`,
    where that is later. `charged` are the units of its period that earlier intervals may have
    spent, which its pool does not have. `sharing` is None where it is for this data centre alone.
    """

    number: int
    start: int
    end: int
    pool: Pool
    sharing: Sharing | None = None
    version: Version | None = None
    bounded: Version | None = None
    until: int = 0
    charged: int = 0

    @property
    def total(self) -> int:
        """The total of its period, in units."""
        return self.pool.minted + self.charged

    @property
    def served_until(self) -> int:
        """When nobody serves it any more, at the latest."""
        return max(self.end, self.until)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever moved out of its pool, so that nothing can have been spent."""
        pool = self.pool
        return pool.old is None and not pool.sent and not any(e.out for e in pool.places.values())

    @property
    def usage(self) -> Usage:
        """What may have been spent of it: all that was moved out and has not come back.

        What counts as granted by a generation before is among it.
        """
        out = sum(each.out - each.back for each in self.pool.places.values()) + self.pool.withheld
        return Usage(self.start, self.served_until, max(0, out - self.pool.net))


def opened(fact: IntervalOpened) -> Interval:
    """The interval as it is when it has just been opened."""
    pool = Pool(old=0 if fact.withheld else None)
    mint(pool, fact.total)
    interval = Interval(fact.number, fact.start, fact.end, pool, version=fact.version)
    interval.charged = fact.charged
    return interval


def learned(fact: IntervalLearned) -> Interval:
    """The interval of another data centre, as it is when it has just been heard of."""
    return Interval(fact.number, fact.start, fact.end, Pool(), Sharing(fact.minter))


def recovered(fact: IntervalRecovered) -> Interval:
    """An interval of the generation before, as it is when it has just been told of."""
    pool = Pool(old=0)
    mint(pool, fact.total)
    return Interval(fact.number, fact.start, fact.end, pool, Sharing())


def evolve(interval: Interval, fact: IntervalChange) -> None:
    """The interval has changed by `fact`."""
    match fact:
        case IntervalTotalChanged():
            mint(interval.pool, fact.total)
            interval.charged, interval.version = fact.charged, fact.version
        case IntervalBounded():
            if not interval.is_untouched:  # nobody has anything to serve by the bounds before
                interval.until = max(interval.served_until, fact.end)
            interval.start, interval.end = fact.start, fact.end
            interval.bounded = fact.version
        case IntervalHeard():
            interval.until = fact.at
        case AmountWithheld():
            withhold(interval.pool, fact.amount)
        case WithheldReleased():
            release(interval.pool, fact.amount)
        case IntervalEnded():
            end(interval.pool)
        case IntervalClosed():
            close(interval.pool, fact.unreported)


IntervalKey = tuple[str, int]
