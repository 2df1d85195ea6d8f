"""What a volumecap server hears from the master: which intervals exist, and where it stands.

Everything may come twice, late or not at all. Running totals are merged by maximum; what is not
a running total counts only from the newest message.
"""

from collections.abc import Callable

from vcap_es.components.messages.server import Broadcast, Grant, Grants, Notice, OpenInterval
from vcap_es.components.timing_wheel import TimingWheel
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.slice import NEVER_NS, Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable, WatchedCap
from vcap_es.events.units import MS

Stamp = tuple[int, int]
"""(epoch, number of the message in it): of two messages, which was composed later."""


class GrantReceiver:
    """Takes in broadcasts and standings.

    `wake` lets a slice be looked at, `resume` the consumes that wait for news of a cap, `drop`
    forgets a slice, and `abandon` ends this incarnation.
    """

    def __init__(
        self,
        table: SliceTable,
        journal_writer: JournalWriter,
        reporter: Reporter,
        alarms: TimingWheel,
        *,
        wake: Callable[[Slice], None],
        resume: Callable[[WatchedCap], None],
        drop: Callable[[Slice], None],
        abandon: Callable[[str], None],
    ) -> None:
        self.epoch = 0
        self._newest: Stamp = (0, 0)
        self._table, self._journal_writer = table, journal_writer
        self._reporter, self._alarms = reporter, alarms
        self._wake, self._resume, self._drop, self._abandon = wake, resume, drop, abandon

    # ---- broadcasts

    def broadcast(self, message: Broadcast) -> None:
        """Intervals exist, have changed or have ended."""
        if message.epoch < self.epoch:
            return
        self.epoch = message.epoch
        self._reporter.heard(message.echo_ns)
        stamp = (message.epoch, message.number)
        for notice in message.notices:
            watched = self._table.watch(notice.cap)
            if stamp >= watched.heard:
                watched.heard = stamp
                self._notice(watched, notice, message)

    def _notice(self, watched: WatchedCap, notice: Notice, message: Broadcast) -> None:
        is_newer = watched.notice is None or notice.version > watched.notice.version
        self._table.noted(watched, notice)
        ahead_ns = (notice.begins - message.now) * 1000
        watched.begins_ns = self._table.now_ns + ahead_ns if notice.begins else 0
        for period in notice.periods:
            self._period(watched, notice.cap, period, message)
        for found in list(watched.slices.values()):
            self._follow(found, notice, is_newer=is_newer)
        if notice.asks:
            self._reporter.confirm(notice.cap, notice.version)
        open_numbers = {period.number for period in notice.periods}
        for found in list(watched.slices.values()):
            if found.number not in open_numbers:
                self._end(found, message.now)
                self._wake(found)
                self._drop_if_unused(found)
        self._resume(watched)

    def _period(
        self, watched: WatchedCap, cap: str, period: OpenInterval, message: Broadcast
    ) -> None:
        found = watched.slices.get(period.number)
        if found is None:
            found = self._table.put(cap, period.number, period.start, period.end, period.total)
        if period.version < found.bounded:
            return
        if period.version > found.bounded:
            # What was heard before is not merged with this: the new end may be the earlier one.
            found.bounded = period.version
            found.deadline_ns, found.opens_ns, found.end_ns = -1, NEVER_NS, NEVER_NS
        found.start, found.end, found.total = period.start, period.end, period.total
        if found.is_confirmed:
            self._bound(found, message.now, message.echo_ns)

    def _follow(self, found: Slice, notice: Notice, *, is_newer: bool) -> None:
        """A slice goes by what its cap is now; what a newer definition leaves may be asked anew."""
        is_paused = notice.state == "paused"
        if is_newer or is_paused != found.is_paused:
            found.is_paused, found.verdict = is_paused, None
            self._wake(found)

    def _drop_if_unused(self, found: Slice) -> None:
        """Nothing ever came here, so nothing is to be settled; what still comes starts anew."""
        if found.received == 0 and found.is_confirmed:
            self._drop(found)

    # ---- the bounds of an interval on our own clock

    def _bound(self, found: Slice, now: int, echo_ns: int) -> None:
        """Where the interval surely lies on our own clock, by the master's clock at `now`.

        The master's `now` lies between the sending of what it echoes and this moment.
        """
        if echo_ns <= 0 or not found.end:
            return
        margin, now_ns = self._table.limits.clock_margin_permille, self._table.now_ns
        left_ns, ahead_ns = (found.end - now) * 1000, (found.start - now) * 1000
        found.deadline_ns = max(found.deadline_ns, echo_ns + left_ns * (1000 - margin) // 1000)
        found.end_ns = min(found.end_ns, now_ns + left_ns)
        opens_ns = now_ns + ahead_ns * (1000 + margin) // 1000 if ahead_ns > 0 else 0
        if opens_ns < found.opens_ns:
            found.opens_ns = opens_ns
            if opens_ns > now_ns:
                self._alarms.at(opens_ns, lambda _: self._opens(found))
            else:
                self._opens(found)

    def _opens(self, found: Slice) -> None:
        """The interval has begun: whoever waited for it goes on."""
        watched = self._table.watched.get(found.cap)
        if watched is not None and watched.waiters and not found.closed:
            self._resume(watched)

    def _end(self, found: Slice, now: int) -> None:
        """The interval is over, at the latest at the master's `now`."""
        if found.ended:
            return
        found.ended, found.limit = True, -1
        now_ns = self._table.now_ns
        since_ns = max(0, now - found.end) * 1000 if found.end else 0
        found.ended_at_ns = now_ns - since_ns
        window_ns = self._table.limits.refund_window_ms * MS
        self._alarms.at(found.ended_at_ns + window_ns, lambda _: self._reporter.survey(found))

    # ---- standings

    def standing(self, message: Grants) -> None:
        """Where we stand with the pools of some intervals."""
        is_current = message.epoch >= self.epoch
        self._reporter.heard(message.echo_ns)
        self.epoch = max(self.epoch, message.epoch)
        stamp = (message.epoch, message.number)
        is_newest = stamp >= self._newest
        self._newest = max(self._newest, stamp)
        for grant in message.grants:
            if self._table.is_abandoned:
                return
            found = self._slice_of(grant, is_newest)
            if found is not None:
                self._grant(found, grant, message, is_current)

    def _slice_of(self, grant: Grant, is_newest: bool) -> Slice | None:
        """The slice spoken of. One that is unknown may be dropped already: then it is old news."""
        found = self._table.slices.get((grant.cap, grant.number))
        if found is None and not grant.closed and grant.moved and is_newest:
            self._reporter.ask_again(grant.cap)
            return self._table.put(grant.cap, grant.number, 0, 0, 0)
        return found

    def _grant(self, found: Slice, grant: Grant, message: Grants, is_current: bool) -> None:
        if grant.closed:
            self._close(found, message)
            return
        if self._is_suspect(found, grant):
            return
        grew = grant.moved > found.received
        found.received = max(found.received, grant.moved)
        found.returned_heard = max(found.returned_heard, grant.returned)
        if grew:
            self._journal_writer.keep(found)
        if is_current:
            self._take_newest(found, grant, message)
        self._wake(found)
        if grew and found.want > found.received:
            self._reporter.tell(found)

    def _close(self, found: Slice, message: Grants) -> None:
        self._end(found, message.now)
        found.closed = True
        self._wake(found)
        self._drop(found)

    def _is_suspect(self, found: Slice, grant: Grant) -> bool:
        """The master has seen more of us than we know: our journal is an old copy, or damaged."""
        spent = found.spent(self._table.cells)
        seen = (grant.returned, grant.spent, grant.refunded)
        known = (found.returned_kept, spent, found.refunded_kept)
        if all(each <= own for each, own in zip(seen, known, strict=True)):
            return False
        self._abandon(
            f"of {found.cap}, interval {found.number}, the master has seen (returned, spent, "
            f"refunded) {seen}, and the journal has {known}: it is an old copy"
        )
        return True

    def _take_newest(self, found: Slice, grant: Grant, message: Grants) -> None:
        found.is_confirmed = True
        # A restart forgets that everything was told: what came back after that would be lost.
        found.is_final = found.is_final or grant.final
        found.heard_ns = max(found.heard_ns, message.echo_ns)
        found.pool_available, found.pool_withheld = grant.available, grant.withheld
        found.free = max(found.free, grant.free)
        self._bound(found, message.now, message.echo_ns)
        if grant.ended:
            self._end(found, message.now)
        if grant.version > found.version:
            found.version = grant.version
            if found.verdict is not None:
                self._reporter.tell(found)
            if found.verdict is not None and found.verdict.version < grant.version:
                found.verdict = None
        if grant.verdict is not None and grant.verdict.version >= found.version:
            found.verdict = grant.verdict
        if grant.recall is not None and grant.recall[0] not in (found.answered, found.answering):
            found.recall = grant.recall
            self._reporter.hunger(found)
