"""What follows for the intervals of a meta as time passes and definitions change.

A period is minted once: whatever becomes of a definition, an interval that is opened for the rest
of a period has what is left of it. An open interval that the definition does not fit any more gets
other bounds where everything that it ever had is of the period that it shall be for; else it ends.
"""

from collections.abc import Container, Iterator

from vcap_es.components.decisions.rest import charge, period
from vcap_es.errors import InvalidDefinition
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
)
from vcap_es.events.facts.bounds import COUNT_MAX
from vcap_es.events.periods import Window, first_window, next_window, opening_total, window_at
from vcap_es.events.zones import tzdata_version
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

CLOSE_AFTER_US = 24 * 3600 * 1_000_000


AHEAD = 1
"""Intervals that are open after the current one, so that servers have slices when it ends."""


def due(
    meta: Meta,
    now: int,
    ahead: int | None = AHEAD,
    restored_at: int | None = None,
    lost: Container[str] = (),
) -> list[Fact]:
    """The next facts of this meta's intervals at `now`; asked again after they hold, no more.

    The current interval is opened, and `ahead` that follow it; none at all where `ahead` is None.
    What a generation before may have opened, whose log was restored at `restored_at`, is withheld.
    Nobody sees to what the data centres that are `lost` have opened.
    Ends come before openings, so that an amount is never open twice, and an interval is never
    ended before it is opened.
    """
    ended = [fact for each in meta.intervals for fact in _ended(meta, each, now)]
    # What is left of a period for others is known when what ends has ended.
    return (
        ended
        or _fitted(meta, now, lost)
        or [
            *(fact for each in meta.intervals for fact in _total_changed(meta, each, now)),
            *(_opened(meta, now, ahead, restored_at) if ahead is not None else ()),
            *(_closed(meta, each) for each in meta.intervals if _is_settled(each, now)),
        ]
    )


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
    window = None if meta.home else next(_not_open(meta, now), None)
    if window is None or window.start <= now:
        return []
    return [opening_instant(window, now)] if opening_instant(window, now) > now else []


def next_begin(meta: Meta, now: int) -> int:
    """When a cap serves next, in microseconds UTC; 0 where it does now, or that is not known."""
    starts = [each.start for each in meta.intervals if not each.pool.ended]
    if meta.retired or any(start <= now for start in starts):
        return 0
    if not starts:
        # It is opened a little before, or when what an earlier home has opened is over.
        elsewhere = meta.opened_until if meta.home else meta.taken_until
        starts = [max(meta.definition.start or 0, elsewhere)]
    first, last = min(starts), meta.definition.end
    return max(0, first) if first > now and (last is None or first < last) else 0


def opening_instant(window: Window, now: int) -> int:
    """When a window after now may be opened: one length ahead of its start, not earlier."""
    return max(now, window.start - (window.end - window.start))


def _is_foreign(interval: Interval) -> bool:
    """Whether another data centre has opened it: that one changes its total."""
    return interval.sharing is not None and bool(interval.sharing.minter)


def _is_over(meta: Meta, interval: Interval, now: int) -> bool:
    over = now >= interval.end or interval.number < meta.ended_before
    return over and not interval.pool.ended


def _ended(meta: Meta, interval: Interval, now: int) -> list[Fact]:
    """How an interval that is over ends; one that is over before its end is cut."""
    if not _is_over(meta, interval, now):
        return []
    if now < interval.end and not _is_foreign(interval):
        return _cut(meta, interval, now)
    return [IntervalEnded(cap=meta.cap, number=interval.number)]


def _cut(meta: Meta, interval: Interval, now: int) -> list[Fact]:
    """The interval is over now, whatever is left of its period."""
    bounded = _bounded(meta, interval, Window(min(interval.start, now), now))
    return [bounded, IntervalEnded(cap=meta.cap, number=interval.number)]


def _bounded(meta: Meta, interval: Interval, window: Window) -> IntervalBounded:
    return IntervalBounded(
        cap=meta.cap,
        number=interval.number,
        start=window.start,
        end=window.end,
        version=meta.version,
    )


def _fitted(meta: Meta, now: int, lost: Container[str]) -> list[Fact]:
    """The open intervals that the definition in force does not fit: bounded anew, or cut."""
    clipped = [fact for each in meta.intervals for fact in _clipped_here(meta, each, now, lost)]
    if clipped:
        return clipped
    own = [each for each in meta.intervals if not each.pool.ended and not _is_foreign(each)]
    if meta.retired or all(meta.version in (each.version, each.bounded) for each in own):
        return []
    wanted = list(_wanted(meta, sorted(own, key=lambda each: each.start), now))
    if all(window == Window(each.start, each.end) for each, window in wanted):
        return []
    facts: list[Fact] = []
    # What becomes shorter makes room first, then what is longer from the last on: no instant is
    # ever in two.
    shorter = [each for each in wanted if not _is_longer(*each)]
    longer = [each for each in reversed(wanted) if _is_longer(*each)]
    for each, window in (*shorter, *longer):
        # Also those that fit already: nobody must ask again what they are for.
        if window is not None and _may_be_bounded(meta, each, window):
            facts.append(_bounded(meta, each, window))
        else:
            facts += _cut(meta, each, now)
    return facts


def _clipped_here(meta: Meta, interval: Interval, now: int, lost: Container[str]) -> list[Fact]:
    """How an interval goes on that an earlier home has opened, which may not know the definition.

    It ends with the definition. Where that home is lost, it is over where a period goes on after
    it: what else was spent in that period is not known. What the home itself has opened came as it
    is to be.
    """
    sharing, last = interval.sharing, meta.definition.end
    is_own = sharing is None or sharing.minter in ("", meta.home)
    if is_own or interval.pool.ended:
        return []
    assert sharing is not None, "it is another data centre's"
    if last is not None and last < interval.end:
        return [_bounded(meta, interval, Window(min(interval.start, last), last))]
    end = period(meta, interval.start).end
    is_part = interval.end < (end if last is None else min(end, last))
    return _cut(meta, interval, now) if is_part and sharing.minter in lost else []


def _is_longer(interval: Interval, window: Window | None) -> bool:
    """Whether an interval is to end later than it does."""
    return window is not None and window.end > interval.end


def _may_be_bounded(meta: Meta, interval: Interval, window: Window) -> bool:
    """Whether all that was ever moved out of the interval is of the period of `window`."""
    whole = period(meta, window.start)
    is_within = whole.start <= interval.start and interval.end <= whole.end
    return interval.is_untouched or is_within


def _wanted(
    meta: Meta, intervals: list[Interval], now: int
) -> Iterator[tuple[Interval, Window | None]]:
    """What the definition wants in the place of each open interval, in the order of their starts.

    Where another data centre decides the cap, that one opens what follows: here is only cut off
    what is over.
    """
    following = None if meta.home else _first_window(meta, now)
    for each in intervals:
        window = _clipped(meta, each, now) if meta.home else _in_place(meta, each, following, now)
        yield each, window
        if window is not None and not meta.home:
            following = next_window(meta.definition, window.end)


def _in_place(meta: Meta, interval: Interval, window: Window | None, now: int) -> Window | None:
    """What an interval is to be where `window` is wanted.

    What has begun, and of which something was moved out, goes on, whatever becomes of its start.
    """
    has_begun = interval.start <= now
    goes_on = has_begun and not interval.is_untouched
    if goes_on and (window is None or window.start > now):
        return _clipped(meta, interval, now)
    if window is None or not has_begun or window.start > now:
        return window
    start = interval.start if goes_on else max(interval.start, window.start)
    return Window(start, window.end)


def _clipped(meta: Meta, interval: Interval, now: int) -> Window | None:
    """The interval as it is, but for what lies after the end of the definition."""
    last = meta.definition.end
    end = interval.end if last is None else min(interval.end, last)
    return Window(interval.start, end) if max(interval.start, now) < end else None


def _total_changed(meta: Meta, interval: Interval, now: int) -> list[Fact]:
    if interval.pool.ended or _is_over(meta, interval, now) or _is_foreign(interval):
        return []
    window = Window(interval.start, interval.end)
    charged = charge(meta, window, interval.number)
    if interval.version == meta.version:
        charged = min(charged, interval.charged)  # what is left only rises
    total = total_in_force(meta, window) - charged
    if (total, charged) == (interval.pool.minted, interval.charged):
        return []
    fact = IntervalTotalChanged(
        cap=meta.cap,
        number=interval.number,
        total=total,
        version=meta.version,
        charged=charged,
    )
    return [fact]


def total_in_force(meta: Meta, window: Window) -> int:
    """The total that an interval of this window has by the definition that is known."""
    return 0 if meta.paused else opening_total(meta.definition, window)


def _opened(meta: Meta, now: int, ahead: int, restored_at: int | None) -> list[Fact]:
    """The current interval and those ahead of it, as far as they are not open yet."""
    facts: list[Fact] = []
    if meta.retired or meta.home:
        return facts
    ahead -= sum(each.start > now and not each.pool.ended for each in meta.intervals)
    for number, window in enumerate(_not_open(meta, now), meta.next_number):
        is_ahead = window.start > now
        if (is_ahead and ahead <= 0) or opening_instant(window, now) > now:
            break
        withheld = restored_at is not None and may_be_served(meta.definition, window, restored_at)
        facts.append(_open(meta, number, window, withheld=withheld))
        ahead -= is_ahead
    return facts


def _not_open(meta: Meta, now: int) -> Iterator[Window]:
    """The windows from `now` on of which nothing is open, in order."""
    intervals = [each for each in meta.intervals if not each.pool.ended]
    window = _first_window(meta, now)
    while window is not None:
        end = window.end
        others = [each for each in intervals if each.start < end and window.start < each.end]
        first = min(others, key=lambda each: each.start, default=None)
        if first is None:
            yield window
        else:
            if window.start < first.start and now < first.start:
                yield Window(window.start, first.start)
            end = first.end
        window = next_window(meta.definition, end)


def _first_window(meta: Meta, now: int) -> Window | None:
    """The window that `now` lies in, or the first one after it, as far as it can be opened here.

    It begins where the last interval has ended; where the first part of a period was opened
    elsewhere, what is left of it cannot be known here, and it is passed over.
    """
    definition, taken = meta.definition, meta.taken_until
    if definition.interval == "single" and _was_single_elsewhere(meta):
        return None
    window = first_window(definition, now)
    if window is not None and window.start < meta.ended_until:
        is_over = window.end <= meta.ended_until
        window = (
            next_window(definition, meta.ended_until)
            if is_over
            else Window(meta.ended_until, window.end)
        )
    if window is None or period(meta, window.start).start >= taken:
        return window
    window = next_window(definition, taken)
    if window is None or period(meta, window.start).start >= taken:
        return window
    return next_window(definition, window.end)


def _was_single_elsewhere(meta: Meta) -> bool:
    """Whether an earlier home has opened this `single`, which is opened once."""
    start = meta.definition.start
    is_later = start is not None and start >= meta.taken_until
    return meta.taken_until > 0 and meta.single_number >= 0 and not is_later


def may_be_served(definition: Definition, window: Window, restored_at: int) -> bool:
    """Whether a generation that ended at `restored_at` can have opened this window, or part of it.

    The period that it was in and the next one always exist; the one after that never did. It may
    have had any cap that is not known here, so a `single` may have been open whenever it starts.
    """
    if definition.interval == "single":
        return True
    last = window_at(definition.interval, definition.timezone, restored_at)
    return window.start <= last.end


def _open(meta: Meta, number: int, window: Window, *, withheld: bool) -> IntervalOpened:
    if number > COUNT_MAX:
        detail = f"{meta.cap} has come to interval {number}, which no other could follow"
        raise InvalidDefinition(f"{detail}: define another cap instead")
    charged = charge(meta, window, number)
    return IntervalOpened(
        cap=meta.cap,
        number=number,
        start=window.start,
        end=window.end,
        total=total_in_force(meta, window) - charged,
        version=meta.version,
        timezone=meta.definition.timezone,
        tzdata=tzdata_version(),
        charged=charged,
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
