"""Facts of an interval: one serving period of a meta."""

from msgspec import Struct

from vcap_es.events.facts.meta import Version


class IntervalOpened(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`total` units exist for the period `[start, end)`, in microseconds UTC.

    This is the one mint of the interval. `timezone` and `tzdata` say by which calendar the bounds
    were computed; a replay uses the stored bounds and never computes them again. `charged` are the
    units of its period that earlier intervals may have spent: they are not among the `total`, which
    is below 0 where they are more than the period ever had.
    """

    cap: str
    number: int
    start: int
    end: int
    total: int
    version: Version
    timezone: str
    tzdata: str
    charged: int = 0


class IntervalLearned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `minter` has opened the period `[start, end)`; nothing of it is here yet."""

    cap: str
    number: int
    start: int
    end: int
    minter: str


class IntervalTotalChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The open interval has this total from now on; a lower one may leave a debt.

    `charged` are the units of its period that earlier intervals may still have spent.
    """

    cap: str
    number: int
    total: int
    version: Version
    charged: int = 0


class IntervalBounded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The interval is `[start, end)` from now on, by this version of the definition.

    Instants are in microseconds UTC. Who has not heard of it may serve within the bounds before.
    """

    cap: str
    number: int
    start: int
    end: int
    version: Version


class IntervalHeard(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """All servers that may have units of it serve by its bounds, since `at`, microseconds UTC."""

    cap: str
    number: int
    at: int


class IntervalEnded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Nothing is granted any more, and no total changes; what was available is expired."""

    cap: str
    number: int


class IntervalClosed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The books of the interval are final; `unreported` units count as spent for ever."""

    cap: str
    number: int
    unreported: int
