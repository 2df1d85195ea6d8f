"""How old a consume may be and still be refunded, where its period does not end soon.

The books of a period end its refunds; a period longer than any month has none for years, and its
marks would only ever grow. So the running total spent is noted from time to time: what is below the
total of a refund age ago is older than that, cannot be refunded any more, and needs no mark.
"""

from bisect import bisect_left
from collections.abc import Callable

from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Aged
from vcap_es.components.volumecap_server.slices.slice import Slice

STEPS = 16
"""The total is noted this often in a refund age: a refund ends up to one such part too late."""

LONGEST_MONTH_US = 32 * 86_400 * 1_000_000
"""A period that is longer ends its refunds by their age."""


class RefundAges:
    """The noted totals of all long periods; `forgotten` is told whose marks are needed no more."""

    def __init__(self, holdings: SliceEngine, forgotten: Callable[[str], None]) -> None:
        self._holdings, self._forgotten = holdings, forgotten
        self._age_us = holdings.limits.refund_age_ms * 1000
        holdings.surveyed = self.look

    def look(self, found: Slice) -> None:
        """Note how much is spent, and end what is too old."""
        now_us = self._holdings.utc_us
        if not now_us or found.end - found.start <= LONGEST_MONTH_US or not found.is_confirmed:
            return
        seen, floor = list(found.seen), found.floor
        spent = found.spent(self._holdings.cells)
        is_due = not seen or now_us - seen[-1][0] >= self._age_us // STEPS
        if is_due and spent > (seen[-1][1] if seen else floor):
            seen.append((now_us, spent))
        while seen and now_us - seen[0][0] >= self._age_us:
            floor = seen.pop(0)[1]
        if found.expiries:
            floor = max(found.floor, min(floor, min(found.expiries)[0]))
        if (tuple(seen), floor) != (found.seen, found.floor):
            found.seen, found.floor = tuple(seen), floor
            aged = Aged(cap=found.cap, number=found.number, floor=floor, seen=seen)
            self._holdings.journal_writer.note(aged)
            self._forget_below(found)

    def _forget_below(self, found: Slice) -> None:
        """No total that was noted lies inside a consume, so each is below it or not."""
        spans = found.spans or []
        at = bisect_left(spans, (found.floor, 0))
        for span in spans[:at]:
            self._forgotten(found.forget_span(span))
        found.spans = spans[at:] or None
