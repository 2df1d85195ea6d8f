"""Facts of an interval: one serving period of a meta."""

from msgspec import Struct

from vcap_es.events.facts.bounds import Long
from vcap_es.events.facts.meta import Version


class IntervalOpened(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`total` units exist for the period `[start, end)`, in microseconds UTC.

    This is the one mint of the interval. `timezone` and `tzdata` say by which calendar the bounds
    were computed; a replay uses the stored bounds and never computes them again.
    """

    cap: str
    number: Long
    start: Long
    end: Long
    total: Long
    version: Version
    timezone: str
    tzdata: str


class IntervalLearned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `minter` has opened the period `[start, end)`; nothing of it is here yet."""

    cap: str
    number: Long
    start: Long
    end: Long
    minter: str


class IntervalTotalChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The open interval has this total from now on; a lower one may leave a debt."""

    cap: str
    number: Long
    total: Long
    version: Version


class IntervalEnded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Nothing is granted any more, and no total changes; what was available is expired."""

    cap: str
    number: Long


class IntervalClosed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The books of the interval are final; `unreported` units count as spent for ever."""

    cap: str
    number: Long
    unreported: Long
