"""Facts of an interval: one serving period of a meta."""

from msgspec import Struct

from vcap_es.events.facts.bounds import Long
from vcap_es.events.facts.meta import Version


class IntervalOpened(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`total` units exist for the period `[start, end)`, in microseconds UTC.

    This is the one mint of the interval. `timezone` and `tzdata` say by which calendar the bounds
    were computed; a replay uses the stored bounds and never computes them again. All of it is
    `withheld`, and by how much it is changed, where a generation before the restore of this log may
    have opened the same period. `charged` are the units of its period that earlier intervals may
    have spent: they are not among the `total`, which is below 0 where they are more than the period
    ever had.
    """

    cap: str
    number: Long
    start: Long
    end: Long
    total: Long
    version: Version
    timezone: str
    tzdata: str
    withheld: bool = False
    charged: Long = 0


class IntervalLearned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `minter` has opened the period `[start, end)`; nothing of it is here yet."""

    cap: str
    number: Long
    start: Long
    end: Long
    minter: str


class IntervalRecovered(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The generation before the restore of this log had opened the period `[start, end)`.

    Another data centre has told of it. All of its `total` is withheld.
    """

    cap: str
    number: Long
    start: Long
    end: Long
    total: Long


class IntervalTotalChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The open interval has this total from now on; a lower one may leave a debt.

    `charged` are the units of its period that earlier intervals may still have spent.
    """

    cap: str
    number: Long
    total: Long
    version: Version
    charged: Long = 0


class IntervalBounded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The interval is `[start, end)` from now on, by this version of the definition.

    Instants are in microseconds UTC. Who has not heard of it may serve within the bounds before.
    """

    cap: str
    number: Long
    start: Long
    end: Long
    version: Version


class IntervalHeard(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """All servers that may have units of it serve by its bounds, since `at`, microseconds UTC."""

    cap: str
    number: Long
    at: Long


class IntervalEnded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Nothing is granted any more, and no total changes; what was available is expired."""

    cap: str
    number: Long


class AmountWithheld(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This log was restored: all that was available, `amount` units, counts as spent.

    The generation before may have granted it. A debt is a negative amount, and stays one.
    """

    cap: str
    number: Long
    amount: Long


class WithheldReleased(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Two operators let `amount` withheld units be available, though they may have been served."""

    cap: str
    number: Long
    amount: Long
    approved_by: list[str]


class IntervalClosed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The books of the interval are final; `unreported` units count as spent for ever."""

    cap: str
    number: Long
    unreported: Long
