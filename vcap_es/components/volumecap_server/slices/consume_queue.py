"""The queues of a volumecap server: who waits for which slice, first in, first out."""

from collections import deque
from collections.abc import Callable

from vcap_es.components.messages.outcomes import Refused
from vcap_es.components.messages.refusals import capped, counted_out, paced, unavailable
from vcap_es.components.messages.server import Verdict
from vcap_es.components.timing_wheel import TimingWheel
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.slice import NO_SLOT, Slice, Waiter
from vcap_es.components.volumecap_server.slices.table import SliceTable, WatchedCap
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.units import MS


class ConsumeQueue:
    """Lets consumes wait until a slice suffices, a verdict refuses them, or their time is over."""

    def __init__(
        self,
        table: SliceTable,
        journal_writer: JournalWriter,
        reporter: Reporter,
        alarms: TimingWheel,
        wake: Callable[[Slice], None],
    ) -> None:
        self._table, self._journal_writer, self._reporter = table, journal_writer, reporter
        self._alarms, self._wake = alarms, wake
        self._waiting = 0

    # ---- coming and going

    def enqueue(self, waiter: Waiter) -> None:
        """Let a consume wait until a slice of its cap suffices, or until it is refused."""
        why = self._closed_because()
        if why:
            waiter.is_done = True
            waiter.refused(unavailable(waiter.cap, why))
            return
        self._reporter.ask_for(waiter.cap)
        self._route(waiter)
        if not waiter.is_done:
            self._waiting += 1
            at_ns = max(waiter.deadline_ns, self._table.now_ns)
            waiter.alarm = self._alarms.at(at_ns, lambda _: self._waited(waiter))

    def _closed_because(self) -> str:
        if self._table.is_stopping or self._table.is_abandoned:
            return "this server is stopping"
        full = self._waiting >= self._table.limits.waiting_max
        return "too many consumes wait here" if full else ""

    def _route(self, waiter: Waiter) -> None:
        """Put the consume where it waits now: at a slice, or for news of its cap."""
        refusal = self._table.refusal(waiter.cap)
        found = self._table.slice_at(waiter.cap)
        if refusal is not None:
            self._refuse(waiter, refusal)
        elif waiter.only not in (None, found):
            self._refuse(waiter, unavailable(waiter.cap, "its interval is over"))
        elif found is None:
            self._table.watch(waiter.cap).waiters[waiter] = None
            self._reporter.hunger_for(waiter.cap)
        elif found.slot == NO_SLOT and self._journal_writer.is_full:
            self._refuse(waiter, unavailable(waiter.cap, "the journal has no room for its slice"))
        else:
            found.waiters.append(waiter)
            self._wake(found)

    def resume(self, watched: WatchedCap) -> None:
        """There is news of a cap: those who waited for it go on."""
        waiting, watched.waiters = watched.waiters, {}
        for waiter in waiting:
            self._route(waiter)

    def refuse_all(self, why: str) -> None:
        """Nobody is served here any more."""
        for watched in list(self._table.watched.values()):
            waiting = list(watched.waiters)
            for found in watched.slices.values():
                waiting += found.waiters
                found.waiters.clear()
            watched.waiters.clear()
            for waiter in waiting:
                if not waiter.is_done:
                    self._refuse(waiter, unavailable(waiter.cap, why))

    def _finish(self, waiter: Waiter) -> None:
        waiter.is_done = True
        if waiter.alarm is not None:
            self._waiting -= 1
            self._alarms.call_off(waiter.alarm)
            waiter.alarm = None

    def _refuse(self, waiter: Waiter, refusal: Refused) -> None:
        self._finish(waiter)
        waiter.refused(refusal)

    def _take(self, found: Slice, waiter: Waiter, amount: int) -> None:
        self._finish(waiter)
        if waiter.pins:
            found.pinned += amount
        else:
            self._table.cells[found.slot] += amount
        waiter.taken(found, amount)

    # ---- when the time of a consume is over

    def _waited(self, waiter: Waiter) -> None:
        found = self._table.slice_at(waiter.cap)
        is_over = waiter.only not in (None, found)
        if found is None or is_over or not self._take_what_is_here(found, waiter):
            linked = self._reporter.is_connected
            why = "no answer in time" if linked else "no primary master is connected"
            detail = f"{why}, and the slice here does not suffice"
            self._refuse(waiter, unavailable(waiter.cap, detail))
        self._table.watch(waiter.cap).waiters.pop(waiter, None)
        for each in list(self._table.watch(waiter.cap).slices.values()):
            if waiter in each.waiters:
                each.waiters.remove(waiter)
                self._wake(each)

    def _take_what_is_here(self, found: Slice, waiter: Waiter) -> bool:
        """The last chance of a consume that would take less than it asked."""
        cells = self._table.cells
        amount = min(waiter.maximum, found.balance(cells), found.countable(cells))
        if amount < waiter.minimum or waiter.minimum == waiter.maximum:
            return False
        if not found.within_ceiling(cells, amount):
            return False
        self._take(found, waiter, amount)
        return True

    # ---- serving

    def serve(self, found: Slice) -> None:
        """Serve the queue first in, first out, as far as the slice suffices."""
        while found.waiters:
            waiter = found.waiters[0]
            if waiter.is_done:
                found.waiters.popleft()
            elif not found.is_open(self._table.now_ns):
                self._reroute(found)
            elif not self._serve(found, waiter):
                self._reporter.hunger(found)
                return

    def _serve(self, found: Slice, waiter: Waiter) -> bool:
        """Whether the waiter left the queue, served or refused."""
        amount, ever = self._hope(found, waiter)
        if ever < waiter.minimum:
            found.waiters.popleft()
            self._refuse(waiter, self._exhausted(found, waiter, waiter.minimum - amount))
            return True
        countable = found.countable(self._table.cells)
        if countable < waiter.minimum <= found.total:  # of more there is none: it will be capped
            found.waiters.popleft()
            is_gone = waiter.minimum > found.total - found.net_spent(self._table.cells)
            why = self._exhausted(found, waiter, waiter.minimum) if is_gone else None
            self._refuse(waiter, why or self._counted_out(found, waiter))
            return True
        amount = min(amount, countable)
        if amount < waiter.minimum or amount > found.balance(self._table.cells):
            return False
        if not found.within_ceiling(self._table.cells, amount):
            if found.ceiling < MAX_AMOUNT:  # else some of it is set aside, and comes free or not
                self._journal_writer.keep(found)
            return False
        found.waiters.popleft()
        self._take(found, waiter, amount)
        return True

    def _hope(self, found: Slice, waiter: Waiter) -> tuple[int, int]:
        """What the waiter may hope for now, and at most if all that is undecided comes free here.

        That is its maximum, or by a verdict that is good still what there is at all.
        """
        balance = found.balance(self._table.cells)
        verdict = self.verdict(found)
        if verdict is None or balance >= waiter.maximum:
            return waiter.maximum, waiter.maximum
        here = balance + _returned_since(found, verdict)
        hope = here + verdict.rest
        return min(waiter.maximum, hope), min(waiter.maximum, hope + found.pinned)

    def verdict(self, found: Slice) -> Verdict | None:
        """The verdict of exhaustion that holds now; none that is older than a moment."""
        verdict, now_ns = found.verdict, self._table.now_ns
        if verdict is None:
            return None
        if verdict.until and now_ns >= self._instant_ns(found, verdict.until):
            found.verdict = None
        is_fresh = now_ns - found.heard_ns < self._table.limits.fresh_ms * MS
        return found.verdict if is_fresh else None

    def _instant_ns(self, found: Slice, instant: int) -> int:
        """An instant of the interval on our own clock; surely not before it."""
        return found.end_ns - (found.end - instant) * 1000

    def _exhausted(self, found: Slice, waiter: Waiter, missing: int) -> Refused:
        """Refused: `missing` more units than there are would be needed."""
        if found.verdict is not None and found.verdict.counted_out:
            return self._counted_out(found, waiter)
        self.count_refused(found, waiter.minimum)
        verdict = found.verdict
        if verdict is not None and verdict.until and missing <= found.pool_available - verdict.rest:
            # The verdict ends when one more unit is released; the others follow evenly.
            length, total = found.end - found.start, max(1, found.total)
            until = min(found.end, verdict.until - (-(missing - 1) * length // total))
            return paced(waiter.cap, waiter.minimum, self._wait_ms(found, until))
        wait_ms = self._wait_ms(found, found.end)
        return capped(waiter.cap, waiter.minimum, wait_ms, withheld=found.pool_withheld)

    def _counted_out(self, found: Slice, waiter: Waiter) -> Refused:
        self.count_refused(found, waiter.minimum)
        return counted_out(found.cap, found.number, self._wait_ms(found, found.end))

    def _wait_ms(self, found: Slice, until: int) -> int:
        return max(1, -(-(self._instant_ns(found, until) - self._table.now_ns) // MS))

    def count_refused(self, found: Slice, amount: int) -> None:
        """Count units that were asked for and refused in this interval; the count ends at 2**63-1.

        Nobody has to have what is asked for, so two calls may ask for more than a cell can count.
        """
        if found.slot == NO_SLOT:
            found.refused_before = min(found.refused_before + amount, MAX_AMOUNT)
        else:
            cells, at = self._table.cells, found.slot + 1
            cells[at] = min(cells[at] + amount, MAX_AMOUNT)

    def unpin(self, found: Slice, amount: int, *, spend: bool) -> None:
        """Spend units that were set aside, or let them go; `wake` the slice afterwards."""
        found.pinned -= amount
        if spend:
            self._table.cells[found.slot] += amount

    def _reroute(self, found: Slice) -> None:
        """The interval is over for new consumes: those that wait go to the next one."""
        waiting, found.waiters = found.waiters, deque()
        for waiter in waiting:
            if not waiter.is_done:
                self._route(waiter)


def _returned_since(found: Slice, verdict: Verdict) -> int:
    """What went back to the pool after the verdict, which speaks of elsewhere as it was before."""
    return max(0, found.returned - verdict.returned)
