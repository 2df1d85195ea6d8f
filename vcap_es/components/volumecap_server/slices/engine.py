"""The slices of a volumecap server: the server's side of the slice protocol.

Its parts, each a page: the `table` has the slices, the `consume_queue` serve who waits for them,
`returns` returns what is recalled, `refilling` asks ahead of need, the `journal_writer` keeps every
total in the journal before anybody is told of it, and `receiver` and `reporter` speak with the
master. Whatever happens to a slice, it is then looked at in one order: serve, give back, refill.
"""

from collections.abc import Callable

from vcap_es.components.messages.outcomes import RefusalCode, Refused
from vcap_es.components.messages.server import Broadcast, Grants, Notice
from vcap_es.components.timing_wheel import Alarm, Ring, TimingWheel
from vcap_es.components.volumecap_server.slices.consume_queue import ConsumeQueue
from vcap_es.components.volumecap_server.slices.grant_receiver import GrantReceiver
from vcap_es.components.volumecap_server.slices.journal import Cells, Entry, Journal
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import Abandon, Reply, ServerOutput
from vcap_es.components.volumecap_server.slices.refill import Refill
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.returns import Returns
from vcap_es.components.volumecap_server.slices.slice import NEVER_NS, Slice, Waiter
from vcap_es.components.volumecap_server.slices.table import SliceTable, WatchedCap
from vcap_es.events.units import MS

ROUNDS_PER_PERIOD = 20

_SHADOWED: tuple[RefusalCode, ...] = ("capped", "paced", "counted_out", "unavailable")
"""What a shadow cap says yes to, and a hard one does not."""

FREE_NS = 500 * MS
"""Nanoseconds that the answer to a refund waits, at most, until every server can have the units."""


class SliceEngine:
    """All slices of one incarnation. Plain code: it is told the boot clock and never waits.

    `dropped`, `heard` and `noted` are called when a slice is gone, when the master has spoken of
    a slice, and when it has told what a cap is; `surveyed` once a report period for each slice.
    """

    def __init__(
        self,
        journal: Journal,
        cells: Cells,
        limits: Limits,
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.incarnation, self.limits, self.cells = journal.incarnation, limits, cells
        self.outputs: list[ServerOutput] = []
        self.dropped: Callable[[Slice], None] = lambda _: None
        self.heard: Callable[[Slice], None] = lambda _: None
        self.noted: Callable[[str], None] = lambda _: None
        self.surveyed: Callable[[Slice], None] = lambda _: None
        self.alarms = TimingWheel()
        self.table = SliceTable(journal.incarnation, cells, limits)
        self.current, self.slices = self.table.current, self.table.slices
        self.journal_writer = JournalWriter(journal, self.table, self.outputs, has_room)
        self.reporter = Reporter(journal.start, self.table, self.outputs)
        self._consume_queue = ConsumeQueue(
            self.table, self.journal_writer, self.reporter, self.alarms, self.wake
        )
        self._giving = Returns(self.table, self.journal_writer, self.reporter)
        self._refilling = Refill(
            self.table, self.journal_writer, self.reporter, self.alarms, self._consume_queue.verdict
        )
        self._receiver = GrantReceiver(
            self.table,
            self.journal_writer,
            self.reporter,
            self.alarms,
            wake=self._heard,
            resume=self._resume,
            drop=self._drop,
            abandon=self._abandon,
        )
        self.table.became_current = self._refilling.remember_to_roll
        self._awake: dict[Slice, None] = {}
        self._is_waking = False
        self._rounds: list[Slice] = []
        self._reason = ""
        self._heard_at = (0, 0)

    # ---- looking at a slice

    def wake(self, found: Slice) -> None:
        """Something has happened to this slice: look at it, after what is looked at now."""
        self._awake[found] = None
        if self._is_waking:
            return
        self._is_waking = True
        try:
            while self._awake:
                self._look(self._awake.popitem()[0])
        finally:
            self._is_waking = False

    def _look(self, found: Slice) -> None:
        self._consume_queue.serve(found)
        self._giving.give(found)
        self._refilling.refresh(found)

    def _heard(self, found: Slice) -> None:
        self.wake(found)
        if found.freeing:
            self._freed(found)
        if found.lookups:
            self.heard(found)

    def _resume(self, watched: WatchedCap) -> None:
        self._consume_queue.resume(watched)
        if watched.lookups and watched.notice is not None:
            self.noted(watched.notice.cap)

    def _drop(self, found: Slice) -> None:
        found.closed = True
        self._freed(found)
        self.table.remove(found)
        self._awake.pop(found, None)
        self.reporter.forget(found)
        self.dropped(found)
        self.journal_writer.drop(found)

    # ---- what clients ask

    def enqueue(self, waiter: Waiter) -> None:
        """Let a consume wait until a slice of its cap suffices, or until it is refused."""
        self._consume_queue.enqueue(waiter)

    def unpin(self, found: Slice, amount: int, *, spend: bool) -> None:
        """Spend units that were set aside, or let them go; `wake` the slice afterwards."""
        self._consume_queue.unpin(found, amount, spend=spend)

    def count_refused(self, found: Slice, amount: int) -> None:
        """Count units that were asked for and refused in this interval."""
        self._consume_queue.count_refused(found, amount)

    def keep_with(self, entries: list[Entry], found: Slice, then: Callable[[], None]) -> None:
        """Let entries be fsynced in one record with the totals of their slice; then call `then`."""
        self.journal_writer.keep_with(entries, found, then)

    def when_free(self, found: Slice, refunded: int, then: Callable[[], None]) -> None:
        """Call `then` when refunds up to this running total can be had at every server.

        That is at once where no master is connected, and after `FREE_NS` at the latest.
        """
        if not self.reporter.is_connected or found.closed or found.ended or found.free >= refunded:
            then()
            return
        alarm = self.alarms.at(self.now_ns + FREE_NS, lambda _: self._freed(found))
        found.freeing = [*(found.freeing or ()), (refunded, alarm, then)]

    def _freed(self, found: Slice) -> None:
        """Answer those whose refunds can be had everywhere, or who have waited for long enough."""
        waiting, found.freeing = found.freeing or [], None
        for refunded, alarm, then in waiting:
            is_over = alarm.ring is None  # it has rung
            is_cut_off = found.closed or found.ended or not self.reporter.is_connected
            if is_over or is_cut_off or found.free >= refunded:
                self.alarms.call_off(alarm)
                then()
            else:
                found.freeing = [*(found.freeing or ()), (refunded, alarm, then)]

    def alarm(self, at_ns: int, ring: Ring) -> Alarm:
        """Call `ring` with the time when the boot clock reaches `at_ns`."""
        return self.alarms.at(at_ns, ring)

    def slice_at(self, cap: str) -> Slice | None:
        """The slice of `cap` that may be spent from now."""
        return self.table.slice_at(cap)

    def group_of(self, cap: str) -> str | None:
        """The group of `cap`, as far as it is known here."""
        notice = self.notice_of(cap)
        return notice.group if notice else None

    def notice_of(self, cap: str) -> Notice | None:
        """What the master said of `cap`."""
        watched = self.table.watched.get(cap)
        return watched.notice if watched else None

    def shadowed_code(self, refusal: Refused) -> RefusalCode | None:
        """The code of a refusal that a shadow cap does not give; None where it stands.

        It stands where the cap serves nobody now, and where this server serves nobody any more.
        """
        notice, is_served = self.notice_of(refusal.cap), self.slice_at(refusal.cap) is not None
        is_shadow = notice is not None and notice.mode == "shadow" and is_served
        is_serving = not (self.table.is_stopping or self.table.is_abandoned)
        return refusal.code if is_shadow and is_serving and refusal.code in _SHADOWED else None

    def refusal_of(self, cap: str) -> Refused | None:
        """Why `cap` is refused whatever is asked, as far as is known; asks the master if needed."""
        self.reporter.ask_for(cap)
        return self.table.refusal(cap)

    # ---- the master

    def connected(self, now_ns: int) -> None:
        """The primary master is connected: tell everything anew."""
        self.table.now_ns = now_ns
        self.reporter.connected()

    def disconnected(self) -> None:
        """The connection is gone. Slices are served on, up to their deadlines."""
        self.reporter.is_connected = False
        for found in list(self.slices.values()):
            if found.freeing:
                self._freed(found)

    @property
    def utc_us(self) -> int:
        """The master's clock in microseconds UTC, about; 0 where it was not heard yet."""
        at_ns, now_us = self._heard_at
        return now_us + (self.now_ns - at_ns) // 1000 if now_us else 0

    def broadcast(self, message: Broadcast, now_ns: int) -> None:
        """Intervals exist, have changed or have ended."""
        self.table.now_ns = now_ns
        self._heard_at = now_ns, message.now
        if not self.table.is_abandoned:
            self._receiver.broadcast(message)

    def standing(self, message: Grants, now_ns: int) -> None:
        """Where we stand with the pools of some intervals."""
        self.table.now_ns = now_ns
        self._heard_at = now_ns, message.now
        if not self.table.is_abandoned:
            self._receiver.standing(message)

    def _abandon(self, reason: str) -> None:
        """Serve, write and tell nothing more."""
        self.table.is_abandoned = True
        self._reason = reason
        self._shut("this server's journal is an old copy")

    def _shut(self, why: str) -> None:
        for found in self.slices.values():
            found.limit = -1
        self._consume_queue.refuse_all(why)

    # ---- the journal and the clock

    def written(self, ticket: int, now_ns: int) -> None:
        """The record of that ticket is fsynced."""
        self.table.now_ns = now_ns
        if self.table.is_abandoned:
            return
        before = [(each, each.told[1:3]) for each, _ in self.journal_writer.written(ticket)]
        for found, told in before:
            self._giving.answer(found)
            if told != (found.returned_kept, found.refunded_kept):
                self.reporter.tell(found)
            self.wake(found)

    @property
    def now_ns(self) -> int:
        """The boot clock as it was last told."""
        return self.table.now_ns

    def tick(self, now_ns: int) -> None:
        """Time has passed: ring the alarms that are due."""
        self.table.now_ns = now_ns
        self.alarms.ring(now_ns)

    def survey(self, now_ns: int) -> None:
        """Look at a twentieth of the slices: tell what has changed. Wanted 20 times per period."""
        self.table.now_ns = now_ns
        if not self._rounds:
            self._rounds = list(self.slices.values())
        share = max(1, len(self.slices) // ROUNDS_PER_PERIOD)
        for found in self._rounds[-share:]:
            if not found.closed and (found.received or now_ns >= found.deadline_ns):
                self._survey(found)
                self.surveyed(found)
        del self._rounds[-share:]

    def _survey(self, found: Slice) -> None:
        if self._is_quiet(found):
            return
        self._refilling.rate(found)
        self.reporter.survey(found)
        if found.is_open(self.now_ns):
            self._refilling.refresh(found)

    def _is_quiet(self, found: Slice) -> bool:
        """Whether nothing was spent since it was looked at, and the master knows how it stands."""
        totals = found.totals(self.cells)
        is_known = totals == found.told and totals[0] == found.rated_spent and found.rate == 0
        return is_known and not found.ended and self.now_ns < found.deadline_ns

    def repeat(self, now_ns: int) -> None:
        """Tell again what somebody waits for: a wish repeats until it is met."""
        self.table.now_ns = now_ns
        self.reporter.repeat()

    @property
    def is_hungry(self) -> bool:
        """Whether `repeat` is wanted soon."""
        return self.reporter.is_hungry

    def next_alarm_ns(self) -> int | None:
        """When `tick` is wanted next, on the boot clock."""
        return self.alarms.next_ns

    def take(self, now_ns: int) -> list[ServerOutput]:
        """All outputs so far, in order; records and reports are composed now."""
        self.table.now_ns = now_ns
        if self.table.is_abandoned:
            return self._last_outputs()
        self.journal_writer.begin()
        self.reporter.send()
        outputs = self.outputs[:]
        self.outputs.clear()
        return outputs

    def _last_outputs(self) -> list[ServerOutput]:
        outputs: list[ServerOutput] = [each for each in self.outputs if isinstance(each, Reply)]
        self.outputs.clear()
        reason, self._reason = self._reason, ""
        return [*outputs, Abandon(reason)] if reason else outputs

    # ---- stopping

    @property
    def is_stopping(self) -> bool:
        """Whether this server gives everything back, to stop."""
        return self.table.is_stopping

    def stop(self, now_ns: int) -> None:
        """Serve no more, and give everything back."""
        self.table.now_ns = now_ns
        self.table.is_stopping = True
        self._shut("this server is stopping")
        for found in list(self.slices.values()):
            self.wake(found)
            found.told_ns = NEVER_NS
            self.reporter.hunger(found)

    def is_empty(self) -> bool:
        """Whether everything is given back and kept, so that an orderly stop is complete.

        What the master granted before it heard of the stop has come here and gone back too: it
        has answered the last report of each slice.
        """
        told = self.journal_writer.is_idle and self.reporter.is_idle
        return told and all(found.is_back(self.cells) for found in self.slices.values())
