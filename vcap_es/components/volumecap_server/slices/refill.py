"""Refilling: how far a slice may be spent without a thought, and more asked for ahead of need."""

from collections.abc import Callable

from vcap_es.components.messages.server import Verdict
from vcap_es.components.timing_wheel import TimingWheel
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.slice import NEVER_NS, NO_SLOT, Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.units import MS


class Refill:
    """Keeps slices above their low-water mark, and fills the next one before an interval ends."""

    def __init__(
        self,
        table: SliceTable,
        journal_writer: JournalWriter,
        reporter: Reporter,
        alarms: TimingWheel,
        verdict: Callable[[Slice], Verdict | None],
    ) -> None:
        self._table, self._journal_writer, self._reporter = table, journal_writer, reporter
        self._alarms, self._verdict = alarms, verdict

    def refresh(self, found: Slice) -> None:
        """Set the limit up to which a consume needs no thought, and ask for more ahead of need."""
        found.limit = -1
        if found.slot == NO_SLOT or found.waiters or not found.is_open(self._table.now_ns):
            self._ask_ahead(found)
            return
        spent, pinned = found.spent(self._table.cells), found.pinned
        here = found.spendable
        found.limit = min(here, found.ceiling) - pinned
        found.reach = spent + found.balance(self._table.cells) + found.pool_available
        if self._ask_ahead(found):
            return
        low = here - pinned - found.desired // 2
        if found.want <= found.received and low > spent:
            found.limit = min(found.limit, low)
        self._raise_ceiling(found, spent, here)

    def _raise_ceiling(self, found: Slice, spent: int, here: int) -> None:
        half_step = self._journal_writer.ceiling_step(found) // 2
        if found.ceiling < here and found.ceiling - spent <= half_step:
            self._journal_writer.keep(found)
        elif found.ceiling < here:
            found.limit = min(found.limit, found.ceiling - half_step)

    def _ask_ahead(self, found: Slice) -> bool:
        """Whether more is asked for: the low-water mark is reached, and more may be had."""
        balance = found.balance(self._table.cells)
        if found.ended or self._table.is_stopping or found.desired <= 0 or found.recall is not None:
            return False
        if balance > found.desired // 2 or self._is_exhausted(found):
            return False
        want = min(found.received + found.desired - balance, MAX_AMOUNT)
        if want <= found.received or found.countable(self._table.cells) <= balance:
            return False  # no more can be counted, or spent
        if want > found.want:
            found.want = want
            self._reporter.tell(found)
        return True

    def _is_exhausted(self, found: Slice) -> bool:
        """Once told so, no more is asked for ahead of need until there is other news."""
        self._verdict(found)
        return found.verdict is not None and found.verdict.rest == 0

    def rate(self, found: Slice) -> None:
        """Smooth the rate of spending, in units per second, and wish for its horizon."""
        elapsed_ns = self._table.now_ns - found.rated_ns
        if elapsed_ns < self._table.limits.report_ms * MS // 4:
            return
        spent = found.spent(self._table.cells)
        rate = (spent - found.rated_spent) * 1000 * MS // elapsed_ns
        found.rate = rate if found.rated_ns == 0 else (found.rate + rate) // 2
        found.rated_ns, found.rated_spent = self._table.now_ns, spent
        horizon = found.rate * self._table.limits.horizon_ms // 1000
        found.desired = min(max(horizon, found.total // 256), found.total)

    # ---- from one interval to the next

    def remember_to_roll(self, found: Slice) -> None:
        """Shortly before the interval ends, hear the time again and fill the next slice."""
        lead_ns = min(self._table.limits.lead_ms * MS, (found.end - found.start) * 100)
        if lead_ns and found.deadline_ns < NEVER_NS:
            self._alarms.at(found.deadline_ns - lead_ns, lambda _: self._roll(found, lead_ns))

    def _roll(self, found: Slice, lead_ns: int) -> None:
        if found.ended or found.closed:
            return
        remaining_ns = found.deadline_ns - self._table.now_ns
        self._reporter.tell(found)
        if remaining_ns > 2 * lead_ns:
            at_ns = found.deadline_ns - lead_ns
        else:
            self._fill_next(found)
            at_ns = self._table.now_ns + remaining_ns // 2
        if remaining_ns > 50 * MS:
            self._alarms.at(at_ns, lambda _: self._roll(found, lead_ns))

    def _fill_next(self, found: Slice) -> None:
        watched = self._table.watched.get(found.cap)
        following = watched.slices.get(found.number + 1) if watched else None
        if following is None:
            self._reporter.ask_again(found.cap)
        elif found.rate or found.spent(self._table.cells):
            self.rate(found)
            following.desired = max(following.desired, found.desired, 1)
            self._ask_ahead(following)
