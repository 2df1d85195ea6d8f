"""The slices of a volumecap server: the server's side of the slice protocol.

It queues consumes, asks the pool for what they need, gives back what is recalled, and keeps every
total in the journal before anybody is told of it.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import islice

from msgspec import Struct

from vcap_es.components.journal_records import Dropped, Entry, Journal, Kept
from vcap_es.components.messages import (
    Broadcast,
    FromServer,
    Grant,
    Holding,
    Notice,
    Order,
    Period,
    Report,
    Standing,
    Watch,
)
from vcap_es.components.outcomes import Refused
from vcap_es.components.slice import (
    CELLS_PER_SLOT,
    NEVER_NS,
    NO_SLOT,
    Cells,
    Slice,
    Waiter,
)

MS = 1_000_000
HOLDINGS_PER_REPORT = 2000
NOTICES_PER_WATCH = 2000


class Limits(Struct, frozen=True, kw_only=True):
    """Times and bounds of a volumecap server; times in milliseconds, amounts in units."""

    max_wait_ms: int = 50
    fresh_ms: int = 1000
    report_ms: int = 1000
    repeat_ms: int = 50
    horizon_ms: int = 2000
    refund_window_ms: int = 60_000
    lead_ms: int = 10_000
    clock_margin_permille: int = 1
    ceiling_step_min: int = 64
    waiting_max: int = 10_000
    keys_max: int = 1_000_000
    marks_max: int = 1_000_000
    slots_max: int = 1 << 20


class SendToMaster(Struct, frozen=True, gc=False):
    """Send `message` to the primary master, if it is connected."""

    message: FromServer


class Write(Struct, frozen=True, gc=False):
    """Write one frame to the journal before anything after it in the outputs leaves.

    With a `ticket`, fsync it and call `written(ticket)`; with 0 it need only survive the process.
    """

    entries: list[Entry]
    ticket: int = 0


class Reply(Struct, frozen=True, gc=False):
    """Answer the call `token`."""

    token: int
    outcome: object


class Abandon(Struct, frozen=True, gc=False):
    """This incarnation must not go on: its journal is not what the master has seen of it."""

    reason: str


Output = SendToMaster | Write | Reply | Abandon


class Watched(Struct):
    """A cap that the server has been asked for: what is known of it, and who waits to know."""

    notice: Notice | None = None
    slices: dict[int, Slice] = {}
    waiters: list[Waiter] = []


class Holdings:
    """All slices of one incarnation. Plain code: it is told the boot clock and never waits."""

    def __init__(self, journal: Journal, cells: Cells, limits: Limits) -> None:
        self.incarnation = journal.incarnation
        self.limits = limits
        self.cells = cells
        self.outputs: list[Output] = []
        self.current: dict[str, Slice] = {}
        self.slices: dict[tuple[str, int], Slice] = {}
        self.dropped: Callable[[Slice], None] = lambda _: None
        self.is_connected = self.is_stopping = False
        self.epoch = 0
        self.waiting = 0
        self._order: Order = (journal.start, 0)
        self._watched: dict[str, Watched] = {}
        self._unwatched: list[str] = []
        self._urgent: dict[Slice, None] = {}
        self._to_write: dict[Slice, None] = {}
        self._more_entries: list[Entry] = []
        self._after_write: list[Callable[[], None]] = []
        self._in_flight: tuple[int, list[Kept], list[Callable[[], None]]] | None = None
        self._tickets = 0
        self._alarms: list[tuple[int, int, Callable[[int], None]]] = []
        self._alarm_count = 0
        self._rounds: list[Slice] = []
        self._hungry: dict[Slice, None] = {}
        self._free_slots: list[int] = []
        self._slots_used = 0

        self._recover(journal)

    def _recover(self, journal: Journal) -> None:
        """Take up the slices where the journal left them."""
        for key, kept in journal.kept.items():
            found = self.open_slice(kept.cap, kept.number, kept.start, kept.end, 0)
            found.slot = kept.slot
            found.received = kept.received
            found.returned = found.returned_kept = kept.returned
            found.refunded = found.refunded_kept = kept.refunded
            found.ceiling = kept.ceiling
            found.marks = dict(journal.marks.get(key, {})) or None
            found.holds = dict(journal.holds.get(key, {})) or None
            self._urgent[found] = None
        used = {kept.slot for kept in journal.kept.values()}
        self._slots_used = max(used, default=-CELLS_PER_SLOT) // CELLS_PER_SLOT + 1
        slots = range(0, self._slots_used * CELLS_PER_SLOT, CELLS_PER_SLOT)
        self._free_slots = [slot for slot in slots if slot not in used]

    # ---- finding the slice of a cap

    def enqueue(self, waiter: Waiter, now_ns: int) -> None:
        """Let a consume wait until a slice of its cap suffices, or until it is refused."""
        if self.is_stopping:
            waiter.refused(_unavailable(waiter.cap, "this server is stopping"))
        elif self.waiting >= self.limits.waiting_max:
            waiter.refused(_unavailable(waiter.cap, "too many consumes wait here"))
        else:
            self._route(waiter, now_ns)

    def _route(self, waiter: Waiter, now_ns: int) -> None:
        watched = self.watch(waiter.cap)
        refusal = self._standing_refusal(waiter.cap, watched)
        if refusal is not None:
            waiter.refused(refusal)
            return
        found = self.slice_at(waiter.cap, now_ns)
        if found is None:
            watched.waiters.append(waiter)
            self._wait(waiter, now_ns)
            return
        found.waiters.append(waiter)
        self.pump(found, now_ns)
        if not waiter.is_done:
            self._wait(waiter, now_ns)

    def _wait(self, waiter: Waiter, now_ns: int) -> None:
        self.waiting += 1
        self.alarm(max(waiter.deadline_ns, now_ns), lambda at: self._waited(waiter, at))

    def _waited(self, waiter: Waiter, now_ns: int) -> None:
        self.waiting -= 1
        if waiter.is_done:
            return
        found = self.slice_at(waiter.cap, now_ns)
        if found is not None and self._take_what_is_here(found, waiter):
            return
        waiter.is_done = True
        why = "no primary master is connected" if not self.is_connected else "no answer in time"
        waiter.refused(_unavailable(waiter.cap, f"{why}, and the slice here does not suffice"))
        if found is not None:
            self._forget_done(found)
            self.pump(found, now_ns)

    def _take_what_is_here(self, found: Slice, waiter: Waiter) -> bool:
        """The last chance of a consume that would take less than it asked."""
        amount = min(waiter.maximum, found.balance(self.cells))
        if amount < waiter.minimum or waiter.minimum == waiter.maximum:
            return False
        if not found.within_ceiling(self.cells, amount):
            return False
        self._take(found, waiter, amount)
        return True

    def watch(self, cap: str) -> Watched:
        """What is known of `cap`; the master is asked where that is nothing."""
        watched = self._watched.get(cap)
        if watched is None:
            watched = self._watched[cap] = Watched(slices={}, waiters=[])
            self._unwatched.append(cap)
        return watched

    def slice_at(self, cap: str, now_ns: int) -> Slice | None:
        """The slice of `cap` that may be spent from now."""
        found = self.current.get(cap)
        if found is not None and found.is_open(now_ns):
            return found
        watched = self._watched.get(cap)
        for each in watched.slices.values() if watched else ():
            if each.is_open(now_ns):
                self.current[cap] = each
                self._remember_to_roll(each)
                return each
        self.current.pop(cap, None)
        return None

    def group_of(self, cap: str) -> str | None:
        """The group of `cap`, as far as it is known here."""
        watched = self._watched.get(cap)
        return watched.notice.group if watched and watched.notice else None

    def notice_of(self, cap: str) -> Notice | None:
        """What the master said of `cap`."""
        watched = self._watched.get(cap)
        return watched.notice if watched else None

    def refusal_of(self, cap: str) -> Refused | None:
        """Why `cap` is refused whatever is asked, as far as is known; asks the master if needed."""
        return self._standing_refusal(cap, self.watch(cap))

    def _standing_refusal(self, cap: str, watched: Watched) -> Refused | None:
        notice = watched.notice
        if notice is None or notice.state == "active":
            return None
        return _REFUSED_BY_STATE[notice.state](cap)

    # ---- the queue of a slice

    def pump(self, found: Slice, now_ns: int) -> None:
        """Serve the queue first in, first out, as far as the slice suffices."""
        while found.waiters:
            waiter = found.waiters[0]
            if waiter.is_done:
                found.waiters.popleft()
            elif not found.is_open(now_ns):
                self._reroute(found, now_ns)
                return
            elif not self._serve(found, waiter, now_ns):
                self._urgent[found] = self._hungry[found] = None
                break
        self.refresh(found, now_ns)

    def _serve(self, found: Slice, waiter: Waiter, now_ns: int) -> bool:
        """Whether the waiter left the queue, served or refused."""
        amount = self._fitting(found, waiter, now_ns)
        if amount < waiter.minimum:
            found.waiters.popleft()
            waiter.is_done = True
            waiter.refused(self._exhausted(found, waiter))
            return True
        if amount > found.balance(self.cells):
            return False
        if not found.within_ceiling(self.cells, amount):
            self.keep(found)
            return False
        found.waiters.popleft()
        self._take(found, waiter, amount)
        return True

    def _take(self, found: Slice, waiter: Waiter, amount: int) -> None:
        waiter.is_done = True
        if waiter.pins:
            found.pinned += amount
        else:
            self.cells[found.slot] += amount
        waiter.taken(found, amount)

    def _fitting(self, found: Slice, waiter: Waiter, now_ns: int) -> int:
        """What the waiter may hope for: its maximum, or what there is at all by a fresh verdict."""
        balance = found.balance(self.cells)
        verdict = found.verdict
        is_fresh = now_ns - found.heard_ns < self.limits.fresh_ms * MS
        if verdict is None or not is_fresh or balance >= waiter.maximum:
            return waiter.maximum
        own_returns = max(0, found.returned - verdict.returned)
        return min(waiter.maximum, balance + verdict.rest + own_returns)

    def _exhausted(self, found: Slice, waiter: Waiter) -> Refused:
        self.count_refused(found, waiter.minimum)
        until = found.verdict.until if found.verdict else 0
        if until:
            released_ns = found.deadline_ns - (found.end - until) * 1000
            wait_ms = max(1, (released_ns - found.heard_ns) // MS)
            detail = f"{waiter.cap} is released evenly over its interval: wait"
            return Refused(code="paced", cap=waiter.cap, detail=detail, retry_after_ms=wait_ms)
        wait_ms = max(1, (found.deadline_ns - found.heard_ns) // MS)
        detail = f"fewer than {waiter.minimum} units of {waiter.cap} are left in this interval"
        return Refused(code="capped", cap=waiter.cap, detail=detail, retry_after_ms=wait_ms)

    def count_refused(self, found: Slice, amount: int) -> None:
        """Count units that were asked for and refused in this interval."""
        if found.slot == NO_SLOT:
            found.refused_before += amount
        else:
            self.cells[found.slot + 1] += amount
        found.dirty = True

    def unpin(self, found: Slice, amount: int, *, spend: bool) -> None:
        """Spend units that were set aside, or let them go; `pump` the slice afterwards."""
        found.pinned -= amount
        if spend:
            self.cells[found.slot] += amount

    def _reroute(self, found: Slice, now_ns: int) -> None:
        """The interval is over for new consumes: those that wait go to the next one."""
        found.limit = -1
        waiting, found.waiters = list(found.waiters), type(found.waiters)()
        watched = self._watched[found.cap]
        for waiter in waiting:
            refusal = self._standing_refusal(found.cap, watched)
            following = self.slice_at(found.cap, now_ns)
            if waiter.is_done:
                continue
            if refusal is not None:
                waiter.is_done = True
                waiter.refused(refusal)
            elif following is None:
                watched.waiters.append(waiter)
            else:
                following.waiters.append(waiter)
        following = self.slice_at(found.cap, now_ns)
        if following is not None and following is not found:
            self.pump(following, now_ns)

    def _forget_done(self, found: Slice) -> None:
        while found.waiters and found.waiters[0].is_done:
            found.waiters.popleft()

    def refresh(self, found: Slice, now_ns: int) -> None:
        """Set the limit up to which a consume needs no thought, and ask for more ahead of need."""
        found.limit = -1
        if found.slot == NO_SLOT or found.waiters or not found.is_open(now_ns):
            self._ask_ahead(found)
            return
        spent, pinned = found.spent(self.cells), found.pinned
        here = found.received - found.returned + found.refunded_kept
        found.limit = min(here, found.ceiling) - pinned
        if self._ask_ahead(found):
            return
        low = here - pinned - found.desired // 2
        if found.want <= found.received and low > spent:
            found.limit = min(found.limit, low)
        step = self._ceiling_step(found)
        if found.ceiling < here and found.ceiling - spent <= step // 2:
            self.keep(found)
        elif found.ceiling < here:
            found.limit = min(found.limit, found.ceiling - step // 2)

    def _ask_ahead(self, found: Slice) -> bool:
        """Whether more is asked for: the low-water mark is reached, and more may be had."""
        balance = found.balance(self.cells)
        if found.ended or self.is_stopping or found.desired <= 0 or found.recall is not None:
            return False
        if balance > found.desired // 2 or self._is_exhausted(found):
            return False
        want = found.received + found.desired - balance
        if want > found.want:
            found.want = want
            self._urgent[found] = None
        return True

    def _is_exhausted(self, found: Slice) -> bool:
        return found.verdict is not None and found.verdict.rest == 0

    def _rate(self, found: Slice, now_ns: int) -> None:
        """Smooth the rate of spending, in units per second, and wish for its horizon."""
        elapsed_ns = now_ns - found.rated_ns
        if elapsed_ns < self.limits.report_ms * MS // 4:
            return
        spent = found.spent(self.cells)
        rate = (spent - found.rated_spent) * 1000 * MS // elapsed_ns
        found.rate = rate if found.rated_ns == 0 else (found.rate + rate) // 2
        found.rated_ns, found.rated_spent = now_ns, spent
        found.desired = max(found.rate * self.limits.horizon_ms // 1000, found.total // 256)

    # ---- what the journal keeps

    def keep(self, found: Slice) -> None:
        """Let the totals of this slice be in the next record."""
        self._to_write[found] = None

    def note(self, *entries: Entry) -> None:
        """Write entries that need only survive the process, before what is answered next."""
        self.outputs.append(Write(list(entries)))

    def keep_with(self, entry: Entry, found: Slice, then: Callable[[], None]) -> None:
        """Let an entry be fsynced in one record with the totals of its slice; then call `then`."""
        self._more_entries.append(entry)
        self._after_write.append(then)
        self.keep(found)

    def _begin_write(self) -> None:
        if self._in_flight is not None or not (self._to_write or self._more_entries):
            return
        kept = [self._record(each) for each in self._to_write if not each.closed]
        entries: list[Entry] = [*kept, *self._more_entries]
        self._tickets += 1
        self._in_flight = (self._tickets, kept, self._after_write)
        self._to_write, self._more_entries, self._after_write = {}, [], []
        self.outputs.append(Write(entries, self._tickets))

    def _record(self, found: Slice) -> Kept:
        self._give_slot(found)
        waiting = sum(waiter.maximum for waiter in islice(found.waiters, 64))
        step = self._ceiling_step(found)
        record = Kept(
            cap=found.cap,
            number=found.number,
            start=found.start,
            end=found.end,
            slot=found.slot,
            received=found.received,
            returned=found.returned,
            ceiling=found.ceiling_wanted(self.cells, waiting, step),
            refunded=found.refunded,
        )
        found.ceiling = min(found.ceiling, record.ceiling)
        found.limit = min(found.limit, found.ceiling - found.pinned)
        return record

    def _ceiling_step(self, found: Slice) -> int:
        return max(self.limits.ceiling_step_min, found.desired)

    def _give_slot(self, found: Slice) -> None:
        if found.slot != NO_SLOT:
            return
        if self._free_slots:
            found.slot = self._free_slots.pop()
        else:
            assert self._slots_used < self.limits.slots_max, "all slots of the journal are in use"
            found.slot = self._slots_used * CELLS_PER_SLOT
            self._slots_used += 1
        self.cells[found.slot] = 0
        self.cells[found.slot + 1] = found.refused_before

    def written(self, ticket: int, now_ns: int) -> None:
        """The record of that ticket is fsynced."""
        assert self._in_flight is not None and self._in_flight[0] == ticket, "one write at a time"
        _, kept, then = self._in_flight
        self._in_flight = None
        for record in kept:
            found = self.slices.get((record.cap, record.number))
            if found is not None:
                self._apply(found, record, now_ns)
        for call in then:
            call()
        for record in kept:
            found = self.slices.get((record.cap, record.number))
            if found is not None:
                self.pump(found, now_ns)

    def _apply(self, found: Slice, record: Kept, now_ns: int) -> None:
        freed = record.refunded > found.refunded_kept
        gave = record.returned > found.returned_kept
        found.returned_kept = record.returned
        found.refunded_kept = record.refunded
        found.ceiling = record.ceiling
        if found.answering is not None and found.returned == found.returned_kept:
            found.answered, found.answering = found.answering, None
            self._urgent[found] = None
        if found.recall is not None or found.ended or self.is_stopping:
            self._give(found)
        if freed or gave:
            self._urgent[found] = None

    # ---- giving back

    def _give(self, found: Slice) -> None:
        """Return what is asked for, but for what waiting consumes that fit will take."""
        asked = self._asked_back(found)
        if asked is None:
            return
        amount = min(self._spare(found), asked - found.returned)
        if amount > 0:
            found.returned += amount
            found.want = 0
            self.keep(found)
        if found.recall is None:
            return
        if found.returned < asked and self._is_undecided(found):
            return
        found.answering, found.recall = found.recall[0], None
        self.keep(found)

    def _asked_back(self, found: Slice) -> int | None:
        if self.is_stopping or found.ended:
            return found.returned + max(0, found.balance(self.cells))
        return found.recall[1] if found.recall else None

    def _spare(self, found: Slice) -> int:
        balance = found.balance(self.cells)
        for waiter in found.waiters:
            if waiter.is_done:
                continue
            if waiter.minimum > balance:
                break
            balance -= min(waiter.maximum, balance)
        return max(0, balance)

    def _is_undecided(self, found: Slice) -> bool:
        """Whether the fate of some unit is open: it may still come free here."""
        balance = found.balance(self.cells)
        fits = any(not each.is_done and each.minimum <= balance for each in found.waiters)
        return fits or found.pinned > 0 or found.refunded > found.refunded_kept

    # ---- what the master says

    def connected(self, now_ns: int) -> None:
        """The primary master is connected: tell everything anew."""
        self.is_connected = True
        self._unwatched = list(self._watched)
        for found in self.slices.values():
            found.told = (-1, 0, 0, 0)
            self._urgent[found] = None

    def disconnected(self) -> None:
        """The connection is gone. Slices are served on, up to their deadlines."""
        self.is_connected = False

    def broadcast(self, message: Broadcast, now_ns: int) -> None:
        """Intervals exist, have changed or have ended."""
        if message.epoch < self.epoch:
            return
        self.epoch = message.epoch
        for notice in message.notices:
            self._notice(notice, message, now_ns)

    def _notice(self, notice: Notice, message: Broadcast, now_ns: int) -> None:
        watched = self.watch(notice.cap)
        watched.notice = notice
        for period in notice.periods:
            self._period(watched, notice.cap, period, message, now_ns)
        waiting, watched.waiters = watched.waiters, []
        for waiter in waiting:
            if not waiter.is_done:
                self._resume(watched, waiter, now_ns)

    def _period(
        self, watched: Watched, cap: str, period: Period, message: Broadcast, now_ns: int
    ) -> None:
        found = watched.slices.get(period.number)
        if found is None:
            found = self.open_slice(cap, period.number, period.start, period.end, period.total)
        found.start, found.end, found.total = period.start, period.end, period.total
        self._bound(found, message.now, message.echo_ns, now_ns)

    def _resume(self, watched: Watched, waiter: Waiter, now_ns: int) -> None:
        refusal = self._standing_refusal(waiter.cap, watched)
        found = self.slice_at(waiter.cap, now_ns)
        if refusal is not None:
            waiter.is_done = True
            waiter.refused(refusal)
        elif found is None:
            watched.waiters.append(waiter)
        else:
            found.waiters.append(waiter)
            self.pump(found, now_ns)

    def open_slice(self, cap: str, number: int, start: int, end: int, total: int) -> Slice:
        """A slice of an interval that is new here; it holds nothing yet."""
        prefix = f"{self.incarnation}.{number}.{cap}."
        found = Slice(cap, number, start, end, total, prefix)
        found.desired = total // 256
        self.slices[found.key] = found
        self.watch(cap).slices[number] = found
        return found

    def _bound(self, found: Slice, now: int, echo_ns: int, now_ns: int) -> None:
        """Where the interval surely lies on our own clock, by the master's clock at `now`."""
        if echo_ns <= 0:
            return
        margin = self.limits.clock_margin_permille
        left_ns, ahead_ns = (found.end - now) * 1000, (found.start - now) * 1000
        deadline_ns = echo_ns + left_ns * (1000 - margin) // 1000
        found.deadline_ns = max(found.deadline_ns, deadline_ns)
        opens_ns = now_ns + ahead_ns * (1000 + margin) // 1000 if ahead_ns > 0 else 0
        if opens_ns < found.opens_ns:
            found.opens_ns = opens_ns
            if opens_ns > now_ns:
                self.alarm(opens_ns, lambda at: self._opens(found, at))

    def _opens(self, found: Slice, now_ns: int) -> None:
        """The interval begins: whoever waited for it goes on."""
        watched = self._watched.get(found.cap)
        if watched is None or found.closed:
            return
        waiting, watched.waiters = watched.waiters, []
        for waiter in waiting:
            if not waiter.is_done:
                self._resume(watched, waiter, now_ns)

    def _remember_to_roll(self, found: Slice) -> None:
        """Shortly before the interval ends, hear the time again and fill the next slice."""
        lead_ns = min(self.limits.lead_ms * MS, (found.end - found.start) * 100)
        at_ns = found.deadline_ns - lead_ns
        if found.deadline_ns < NEVER_NS:
            self.alarm(at_ns, lambda now_ns: self._roll(found, lead_ns, now_ns))

    def _roll(self, found: Slice, lead_ns: int, now_ns: int) -> None:
        if found.ended or found.closed:
            return
        remaining_ns = found.deadline_ns - now_ns
        self._urgent[found] = None
        if remaining_ns > 2 * lead_ns:
            self.alarm(found.deadline_ns - lead_ns, lambda at: self._roll(found, lead_ns, at))
            return
        following = self._watched[found.cap].slices.get(found.number + 1)
        if following is not None and (found.rate or found.spent(self.cells)):
            self._rate(found, now_ns)
            following.desired = max(following.desired, found.desired)
            self._ask_ahead(following)
        if remaining_ns > 50 * MS:
            self.alarm(now_ns + remaining_ns // 2, lambda at: self._roll(found, lead_ns, at))

    def standing(self, message: Standing, now_ns: int) -> None:
        """Where we stand with the pools of some intervals."""
        is_current = message.epoch >= self.epoch
        self.epoch = max(self.epoch, message.epoch)
        for grant in message.grants:
            self._grant(grant, message, is_current, now_ns)

    def _grant(self, grant: Grant, message: Standing, is_current: bool, now_ns: int) -> None:
        found = self.slices.get((grant.cap, grant.number))
        if found is None:
            if grant.closed or grant.moved == 0:
                return
            found = self.open_slice(grant.cap, grant.number, 0, 0, 0)
        if self._is_suspect(found, grant):
            return
        grew = grant.moved > found.received
        found.received = max(found.received, grant.moved)
        found.returned_heard = max(found.returned_heard, grant.returned)
        if grew:
            found.answered, found.answering = (0, 0), None
            self.keep(found)
        if is_current:
            self._newest(found, grant, message, now_ns)
        self.pump(found, now_ns)
        self._give(found)
        self.refresh(found, now_ns)
        if grew and found.want > found.received:
            self._urgent[found] = None
        if found.closed:
            self._drop(found)

    def _is_suspect(self, found: Slice, grant: Grant) -> bool:
        """The master has seen more of us than we know: our journal is an old copy, or damaged."""
        spent = found.spent(self.cells)
        seen = (grant.returned, grant.spent, grant.refunded)
        known = (found.returned_kept, spent, found.refunded_kept)
        if grant.closed or all(each <= own for each, own in zip(seen, known, strict=True)):
            return False
        reason = (
            f"of {found.cap}, interval {found.number}, the master has seen (returned, spent, "
            f"refunded) {seen}, and the journal has {known}: it is an old copy"
        )
        self.outputs.append(Abandon(reason))
        return True

    def _newest(self, found: Slice, grant: Grant, message: Standing, now_ns: int) -> None:
        found.heard_ns = max(found.heard_ns, message.echo_ns)
        found.pool_available = grant.available
        if found.end:
            self._bound(found, message.now, message.echo_ns, now_ns)
        if grant.ended and not found.ended:
            found.ended, found.ended_at_ns = True, now_ns
            found.limit = -1
            self.alarm(now_ns + self.limits.refund_window_ms * MS, lambda _: self._say_final(found))
        found.closed = grant.closed
        if grant.version > found.version:
            found.version = grant.version
            if found.verdict is not None and found.verdict.version < grant.version:
                found.verdict = None
        if grant.verdict is not None and tuple(grant.verdict.version) >= found.version:
            found.verdict = grant.verdict
        if grant.recall is not None and tuple(grant.recall[0]) not in (
            found.answered,
            found.answering,
        ):
            found.recall = grant.recall
            self._hungry[found] = None
        self._answer_lookups(found)

    def _answer_lookups(self, found: Slice) -> None:
        for token in found.lookups:
            self.outputs.append(Reply(token, found))
        found.lookups.clear()

    def look(self, found: Slice, token: int) -> None:
        """Answer `token` with the slice when the master has spoken of it again."""
        found.lookups.append(token)
        self._urgent[found] = self._hungry[found] = None

    def _say_final(self, found: Slice) -> None:
        self._urgent[found] = None

    def _drop(self, found: Slice) -> None:
        del self.slices[found.key]
        watched = self._watched.get(found.cap)
        if watched is not None:
            watched.slices.pop(found.number, None)
        if self.current.get(found.cap) is found:
            del self.current[found.cap]
        self._urgent.pop(found, None)
        self._to_write.pop(found, None)
        self.dropped(found)
        if found.slot != NO_SLOT:
            self.note(Dropped(cap=found.cap, number=found.number))
            self._free_slots.append(found.slot)

    # ---- what the master is told

    def _holding(self, found: Slice) -> Holding:
        refused = found.refused_before
        if found.slot != NO_SLOT:
            refused = self.cells[found.slot + 1]
        return Holding(
            found.cap,
            found.number,
            found.received,
            found.returned_kept,
            found.spent(self.cells),
            found.refunded_kept,
            refused,
            self._need(found),
            max(found.want, 0) if found.recall is None else 0,
            self._is_final(found),
            found.answered,
        )

    def _need(self, found: Slice) -> int:
        """The running total that would serve the first waiting consume."""
        waiter = next((each for each in found.waiters if not each.is_done), None)
        if waiter is None or self.is_stopping or found.ended:
            return 0
        balance = found.balance(self.cells)
        verdict, aim = found.verdict, waiter.maximum
        if verdict is not None and waiter.minimum < waiter.maximum:
            aim = max(waiter.minimum, min(aim, balance + verdict.rest))
        return found.received + aim - balance if aim > balance else 0

    def _is_final(self, found: Slice) -> bool:
        """Nothing here will ever change again: over, empty, nothing open, everything kept."""
        return (
            found.ended
            and found.balance(self.cells) == 0
            and found.pinned == 0
            and found.refunded == found.refunded_kept
            and found.returned == found.returned_kept
            and not found.has_open_hold()
            and self.now_ns - found.ended_at_ns >= self.limits.refund_window_ms * MS
        )

    now_ns = 0

    def tick(self, now_ns: int) -> None:
        """Time has passed: ring the alarms that are due, and look at some slices."""
        self.now_ns = now_ns
        while self._alarms and self._alarms[0][0] <= now_ns:
            heappop(self._alarms)[2](now_ns)

    def survey(self, now_ns: int) -> None:
        """Look at a twentieth of the slices: tell what has changed. Wanted 20 times per period."""
        if not self._rounds:
            self._rounds = list(self.slices.values())
        share = max(1, len(self.slices) // 20)
        for found in self._rounds[-share:]:
            self._survey(found, now_ns)
        del self._rounds[-share:]

    def _survey(self, found: Slice, now_ns: int) -> None:
        if found.closed or found.key not in self.slices:
            return
        self._rate(found, now_ns)
        if found.received and self._totals(found) != found.told:
            self._urgent[found] = None
        if found.is_open(now_ns) and found.received:
            self.refresh(found, now_ns)
        if found.ended and self._is_final(found):
            self._urgent[found] = None

    def repeat(self, now_ns: int) -> None:
        """Tell again what somebody waits for: a wish repeats until it is met."""
        for found in list(self._hungry):
            if found.closed or not (found.waiters or found.recall or found.lookups):
                del self._hungry[found]
            else:
                self._urgent[found] = None

    @property
    def is_hungry(self) -> bool:
        """Whether `repeat` is wanted soon."""
        return bool(self._hungry)

    def _totals(self, found: Slice) -> tuple[int, int, int, int]:
        refused = self.cells[found.slot + 1] if found.slot != NO_SLOT else found.refused_before
        return (found.spent(self.cells), found.returned_kept, found.refunded_kept, refused)

    def next_alarm_ns(self) -> int | None:
        """When `tick` is wanted next, on the boot clock."""
        return self._alarms[0][0] if self._alarms else None

    def take(self, now_ns: int) -> list[Output]:
        """All outputs so far, in order; records and reports are composed now."""
        self.now_ns = now_ns
        self._begin_write()
        if self.is_connected:
            self._send_watches(now_ns)
            self._send_reports(now_ns)
        outputs, self.outputs = self.outputs, []
        return outputs

    def _send_watches(self, now_ns: int) -> None:
        while self._unwatched:
            caps = self._unwatched[:NOTICES_PER_WATCH]
            del self._unwatched[:NOTICES_PER_WATCH]
            self.outputs.append(SendToMaster(Watch(caps=caps, sent_ns=now_ns)))

    def _send_reports(self, now_ns: int) -> None:
        while self._urgent:
            batch = list(islice(self._urgent, HOLDINGS_PER_REPORT))
            for each in batch:
                del self._urgent[each]
                each.told = self._totals(each)
            self._order = (self._order[0], self._order[1] + 1)
            holdings = [self._holding(each) for each in batch if not each.closed]
            report = Report(
                incarnation=self.incarnation, order=self._order, sent_ns=now_ns, holdings=holdings
            )
            self.outputs.append(SendToMaster(report))

    # ---- alarms and stopping

    def alarm(self, at_ns: int, ring: Callable[[int], None]) -> None:
        """Call `ring` with the time when the boot clock reaches `at_ns`."""
        self._alarm_count += 1
        heappush(self._alarms, (at_ns, self._alarm_count, ring))

    def stop(self, now_ns: int) -> None:
        """Serve no more, and give everything back."""
        self.is_stopping = True
        for found in list(self.slices.values()):
            found.limit = -1
            for waiter in found.waiters:
                if not waiter.is_done:
                    waiter.is_done = True
                    waiter.refused(_unavailable(found.cap, "this server is stopping"))
            found.waiters.clear()
            self._give(found)
            self._urgent[found] = None

    def is_empty(self) -> bool:
        """Whether everything is given back and kept, so that an orderly stop is complete."""
        return (
            self._in_flight is None
            and not self._to_write
            and not self._urgent
            and all(
                each.balance(self.cells) <= 0 and each.returned == each.returned_heard
                for each in self.slices.values()
            )
        )


def _unavailable(cap: str, why: str) -> Refused:
    return Refused(code="unavailable", cap=cap, detail=why, retry_after_ms=1000)


def _unknown(cap: str) -> Refused:
    return Refused(code="unknown_cap", cap=cap, detail=f"no cap {cap} is defined: define it first")


def _not_started(cap: str) -> Refused:
    return Refused(code="not_started", cap=cap, detail=f"{cap} has not started yet")


def _over(cap: str) -> Refused:
    return Refused(code="ended", cap=cap, detail=f"{cap} serves no more: it is over or retired")


_REFUSED_BY_STATE: dict[str, Callable[[str], Refused]] = {
    "unknown": _unknown,
    "not_started": _not_started,
    "retired": _over,
    "over": _over,
}
