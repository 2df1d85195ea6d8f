"""What follows for the intervals of a meta as time passes and definitions change."""

from vcap_es.errors import InvalidDefinition
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
)
from vcap_es.events.facts.bounds import COUNT_MAX
from vcap_es.events.periods import (
    Window,
    first_window,
    next_window,
    opening_total,
    tzdata_version,
    window_at,
)
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

CLOSE_AFTER_US = 24 * 3600 * 1_000_000


AHEAD = 1
"""Intervals that are open after the current one, so that servers have slices when it ends."""


def due(
    meta: Meta, now: int, ahead: int | None = AHEAD, restored_at: int | None = None
) -> list[Fact]:
    """The next facts of this meta's intervals at `now`; asked again after they hold, no more.

    The current interval is opened, and `ahead` that follow it; none at all where `ahead` is None.
    What a generation before may have opened, whose log was restored at `restored_at`, is withheld.
    Ends come before openings, so that an amount is never open twice, and an interval is never
    ended before it is opened.
    """
    return [
        *(_ended(meta, each) for each in meta.intervals if _is_over(meta, each, now)),
        *(fact for each in meta.intervals for fact in _total_changed(meta, each, now)),
        *(_opened(meta, now, ahead, restored_at) if ahead is not None else ()),
        *(_closed(meta, each) for each in meta.intervals if _is_settled(each, now)),
    ]


def next_due(meta: Meta, now: int, ahead: int | None = AHEAD) -> int | None:
    """The instant at which time alone will next change something; None where it never does."""
    instants = [_next_due(each) for each in meta.intervals if each.end > now or each.pool.ended]
    if ahead:  # when an interval begins, another one is to be open ahead
        instants += [each.start for each in meta.intervals if not each.pool.ended]
    later = [instant for instant in instants if instant > now]
    if ahead and not meta.retired:
        later += _future_start(meta, now)
    return min(later, default=None)


def _next_due(interval: Interval) -> int:
    return interval.end + CLOSE_AFTER_US if interval.pool.ended else interval.end


def _future_start(meta: Meta, now: int) -> list[int]:
    """A cap that starts later opens its first interval a little before, not long before."""
    window = None if meta.home else _next_window(meta, now)
    if window is None or window.start <= now:
        return []
    return [opening_instant(window, now)] if opening_instant(window, now) > now else []


def opening_instant(window: Window, now: int) -> int:
    """When a window after now may be opened: one length ahead of its start, not earlier."""
    return max(now, window.start - (window.end - window.start))


def _is_foreign(interval: Interval) -> bool:
    """Whether another data centre has opened it: that one changes its total."""
    return interval.sharing is not None and bool(interval.sharing.minter)


def _is_over(meta: Meta, interval: Interval, now: int) -> bool:
    over = now >= interval.end or interval.number < meta.ended_before
    return over and not interval.pool.ended


def _ended(meta: Meta, interval: Interval) -> IntervalEnded:
    return IntervalEnded(cap=meta.cap, number=interval.number)


def _total_changed(meta: Meta, interval: Interval, now: int) -> list[Fact]:
    if interval.pool.ended or _is_over(meta, interval, now) or _is_foreign(interval):
        return []
    total = total_in_force(meta, Window(interval.start, interval.end))
    if total == interval.pool.minted:
        return []
    fact = IntervalTotalChanged(
        cap=meta.cap, number=interval.number, total=total, version=meta.version
    )
    return [fact]


def total_in_force(meta: Meta, window: Window) -> int:
    """The total that an interval of this window has by the definition that is known."""
    return 0 if meta.paused else opening_total(meta.definition, window)


def _opened(meta: Meta, now: int, ahead: int, restored_at: int | None) -> list[Fact]:
    """The current interval and those ahead of it, as far as they are not open yet."""
    facts: list[Fact] = []
    window = None if meta.retired or meta.home else _next_window(meta, now)
    number = meta.next_number
    ahead -= sum(each.start > now and not each.pool.ended for each in meta.intervals)
    while window is not None and (window.start <= now or ahead > 0):
        if opening_instant(window, now) > now:
            break
        withheld = restored_at is not None and may_be_served(meta.definition, window, restored_at)
        facts.append(_open(meta, number, window, withheld=withheld))
        ahead -= window.start > now
        number, window = number + 1, next_window(meta.definition, window.end)
    return facts


def _next_window(meta: Meta, now: int) -> Window | None:
    """The first window that is not open: after the last one, and none that is over already."""
    if meta.definition.interval == "single" and meta.single_number >= meta.ended_before:
        return None  # it was opened already, and is opened once
    if meta.next_number and meta.opened_until > now:
        return next_window(meta.definition, meta.opened_until)
    window = first_window(meta.definition, now)
    if window is None or window.start >= meta.opened_until:
        return window
    return Window(meta.opened_until, window.end)


def may_be_served(definition: Definition, window: Window, restored_at: int) -> bool:
    """Whether a generation that ended at `restored_at` can have opened this window, or part of it.

    The period that it was in and the next one always exist; the one after that never did. It may
    have had any cap that is not known here, so a `single` may have been open whenever it starts.
    """
    if definition.interval == "single":
        return True
    period = window_at(definition.interval, definition.timezone, restored_at)
    return window.start <= period.end


def _open(meta: Meta, number: int, window: Window, *, withheld: bool) -> IntervalOpened:
    if number > COUNT_MAX:
        detail = f"{meta.cap} has come to interval {number}, which no other could follow"
        raise InvalidDefinition(f"{detail}: define another cap instead")
    return IntervalOpened(
        cap=meta.cap,
        number=number,
        start=window.start,
        end=window.end,
        total=total_in_force(meta, window),
        version=meta.version,
        timezone=meta.definition.timezone,
        tzdata=tzdata_version(),
        withheld=withheld,
    )


def _is_settled(interval: Interval, now: int) -> bool:
    """The books can be closed here alone; where it is shared, all data centres have to agree."""
    return interval.sharing is None and is_settled_here(interval, now)


def is_settled_here(interval: Interval, now: int) -> bool:
    """Every holder has told its last and holds nothing, or a day has passed."""
    pool = interval.pool
    if not pool.ended:
        return False
    told = all(
        account.final and account.held == 0 for account in pool.places.values() if account.out > 0
    )
    return told or now >= interval.end + CLOSE_AFTER_US


def _closed(meta: Meta, interval: Interval) -> IntervalClosed:
    return IntervalClosed(cap=meta.cap, number=interval.number, unreported=interval.pool.held)
