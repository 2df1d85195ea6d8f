"""What is left of a period of which earlier intervals have had a part already.

A period is minted once, under whichever numbers and bounds it was opened. All that earlier
intervals moved out and did not get back counts as spent, in each period in which they may have been
served; so what is left only rises, as their books come in.
"""

from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.periods import Window, period_of
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.usage import Usage


def period(meta: Meta, start: int) -> Window:
    """The whole period in which an interval of `meta` begins at `start`, in microseconds UTC.

    A `single` whose definition has no start has begun with the first one that was opened.
    """
    whole = period_of(meta.definition, start)
    if meta.definition.interval != "single":
        return whole
    if meta.definition.start is not None:
        return Window(min(meta.definition.start, start), whole.end)
    return Window(start if meta.single_start < 0 else min(meta.single_start, start), whole.end)


def charge(meta: Meta, window: Window, number: int) -> int:
    """The units of the period of interval `number`, which is `window` of it, that others had.

    They may have spent them all, as far as is known here. An interval may last for longer than a
    period of the definition does, where the one before had a longer one and it has not ended yet.
    """
    others = [each for each in meta.intervals if _is_own(each) and each.number != number]
    usages = [*meta.usages, *(each.usage for each in others if each.pool.ended)]
    usages += [_reach(each) for each in others if _goes_on_before(each, window)]
    if not usages:
        return 0
    whole = period(meta, window.start)
    start, end = min(whole.start, window.start), max(whole.end, window.end)
    units = sum(each.units for each in usages if each.overlaps(start, end))
    return min(units, MAX_AMOUNT)


def _is_own(interval: Interval) -> bool:
    """Whether it is not another data centre's to open."""
    return interval.sharing is None or not interval.sharing.minter


def _goes_on_before(interval: Interval, window: Window) -> bool:
    """Whether an interval that is open yet begins before `window`: it may be of the same period."""
    return not interval.pool.ended and interval.start < window.start


def _reach(interval: Interval) -> Usage:
    """What may come to be spent of an open interval: all that it has."""
    used = interval.usage
    return Usage(used.start, used.end, max(used.units, interval.pool.minted))
