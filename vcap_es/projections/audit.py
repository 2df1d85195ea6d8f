"""The independent audit: the books recomputed from the raw facts, by other code than the balances.

It shares no code with the states. Where they move amounts step by step, the audit keeps the raw
running totals and computes in closed form; both must come out the same:

    left      = total - sum of moved + sum of returned
    withheld  = what a generation before the restore may have granted, if that is above 0
    rest      = left - withheld
    available = rest                        before the end
    available = min(rest, 0), expired = max(rest, 0)       from the end on
    held      = moved - returned - spent + refunded, of each server; unreported from the close on

It never stops at what it finds: each finding names the event, the rule and the detail.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct, field

from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    AmountWithheld,
    ClusterCreated,
    ConfigDecided,
    EpochStarted,
    HoldingRecovered,
    HomeMoved,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    LogRestored,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    PromotionForced,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    TransferSettled,
    Version,
    WithheldReleased,
)
from vcap_es.projections.amounts import Amounts

Rule = Literal[
    "order",
    "version",
    "one mint",
    "numbers grow",
    "periods",
    "unknown",
    "totals shrink",
    "after the end",
    "overdrawn",
    "overspent",
    "final",
    "closed is final",
    "equation",
    "balances",
    "withheld",
]

FINDINGS_MAX = 1000
"""Findings that are kept; a log that is wrong in one place may be wrong in a million."""


class Finding(Struct, frozen=True, kw_only=True, gc=False):
    """What is wrong: the event at `position` breaks `rule`."""

    position: int
    rule: Rule
    detail: str


class Totals(Struct, frozen=True, kw_only=True):
    """The recomputed amounts of every interval that is not closed, and the sum over all ever."""

    intervals: dict[tuple[str, int], Amounts]
    closed: Amounts
    sum: Amounts


class _Server(Struct, gc=False):
    moved: int = 0
    returned: int = 0
    spent: int = 0
    refunded: int = 0
    refused: int = 0
    final: bool = False

    @property
    def held(self) -> int:
        return self.moved - self.returned - self.spent + self.refunded


class _Interval(Struct):
    """`away` is the sum of moved less the sum of returned, over all servers.

    `received` and `sent` are running totals by data centre. The interval is `[start, end)`, and may
    be served `until` then, or until its end. `old` is what a generation before may have granted,
    None where it cannot have opened this.
    """

    total: int
    start: int
    end: int
    until: int = 0
    is_own: bool = True
    away: int = 0
    ended: bool = False
    servers: dict[str, _Server] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    old: int | None = None

    @property
    def withheld(self) -> int:
        return max(self.old or 0, 0)

    @property
    def used(self) -> int:
        net = sum(self.received.values()) - sum(self.sent.values())
        return max(0, self.away + self.withheld - net)

    @property
    def left(self) -> int:
        net = sum(self.received.values()) - sum(self.sent.values())
        return self.total + net - self.away - self.withheld

    def amounts(self) -> Amounts:
        left = self.left
        return Amounts(
            total=self.total,
            received=sum(self.received.values()),
            sent=sum(self.sent.values()),
            available=min(left, 0) if self.ended else left,
            withheld=self.withheld,
            held=sum(each.held for each in self.servers.values()),
            spent=sum(each.spent - each.refunded for each in self.servers.values()),
            expired=max(left, 0) if self.ended else 0,
        )


class _Cap(Struct):
    version: Version
    opened: int = -1
    closed_until: int = -(2**63)
    ended_before: int = 0
    closed_before: int = 0
    retired: bool = False
    intervals: dict[int, _Interval] = field(default_factory=dict)


class Audit:
    """Feed it every event of a log, from the first on; then read `findings` and `totals`.

    `count` is the number of findings, of which the first `FINDINGS_MAX` are kept.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.count = 0
        self._position = self._recorded_at = self._epoch = self._started = 0
        self._decided = (0, 0)
        self._caps: dict[str, _Cap] = {}
        self._is_forced = False
        self._cluster, self._restored_at = "", -(2**63)
        self._unsettled: set[tuple[str, int]] = set()
        self._closed = Amounts()

    def feed(self, recorded: Recorded) -> None:
        """Check the next event against all before it."""
        self._check_order(recorded)
        check = _CHECKS.get(type(recorded.fact))
        if check is not None:
            check(self, recorded.fact)

    def totals(self) -> Totals:
        """The amounts as of the last event."""
        intervals = {
            (name, number): interval.amounts()
            for name, cap in self._caps.items()
            for number, interval in cap.intervals.items()
        }
        whole = sum(intervals.values(), self._closed)
        return Totals(intervals=intervals, closed=self._closed, sum=whole)

    def compare(self, shown: Mapping[tuple[str, int], Amounts]) -> None:
        """Find where the live balances differ from the recomputed ones, and where either lacks one.

        `shown` are the balances as of the last event of all intervals that are not closed, by cap
        and number.
        """
        computed = self.totals().intervals
        for key in sorted(computed.keys() | shown.keys()):
            if computed.get(key) != shown.get(key):
                place = f"interval {key[1]} of {key[0]}"
                self._find(
                    "balances", f"{place} is shown as {shown.get(key)}, but is {computed.get(key)}"
                )

    def _find(self, rule: Rule, detail: str) -> None:
        self.count += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(position=self._position, rule=rule, detail=detail))

    def _check_order(self, recorded: Recorded) -> None:
        before = self._position
        self._position = recorded.position
        if recorded.position <= before:
            self._find("order", f"position {recorded.position} follows position {before}")
        if recorded.recorded_at < self._recorded_at:
            self._find("order", f"recorded at {recorded.recorded_at}, after {self._recorded_at}")
        self._recorded_at = max(self._recorded_at, recorded.recorded_at)
        self._check_epoch(recorded)
        if self._unsettled and not isinstance(recorded.fact, AmountWithheld):
            name, number = min(self._unsettled)
            count = len(self._unsettled)
            self._find("withheld", f"of {count} open intervals, as {number} of {name}, nothing is")
            self._unsettled.clear()

    def _check_epoch(self, recorded: Recorded) -> None:
        """Epochs only rise, and each begins with its start; a founding stands before the first."""
        fact, epoch = recorded.fact, recorded.epoch
        if isinstance(fact, ClusterCreated):
            return
        if epoch < self._epoch:
            self._find("order", f"written in epoch {epoch}, after epoch {self._epoch}")
        elif isinstance(fact, EpochStarted):
            if fact.epoch != epoch:
                self._find("order", f"epoch {fact.epoch} starts in an event of epoch {epoch}")
        elif epoch > self._epoch:
            self._find("order", f"epoch {epoch} begins with {type(fact).__name__}, not its start")
        self._epoch = max(self._epoch, epoch)

    # primacy and metas

    def _cluster_created(self, fact: ClusterCreated) -> None:
        if self._position > 1:
            self._find("order", f"cluster {fact.cluster} is created on a log that had begun")
        self._cluster = fact.cluster

    def _log_restored(self, fact: LogRestored) -> None:
        """All that is open must be withheld right after it."""
        if (fact.was, fact.position) != (self._cluster, self._position - 1):
            here = f"cluster {self._cluster} at position {self._position - 1}"
            self._find("order", f"position {fact.position} of {fact.was} is restored in {here}")
        self._cluster, self._restored_at = fact.cluster, fact.restored_at
        self._unsettled = {(name, n) for name, cap in self._caps.items() for n in cap.intervals}

    def _withheld(self, fact: AmountWithheld) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        amounts = interval.amounts()
        there = amounts.available + amounts.withheld
        if fact.amount != there:
            detail = f"{fact.amount} of {_name(fact)} are withheld, and {there} were available"
            self._find("withheld", detail)
        self._unsettled.discard((fact.cap, fact.number))
        interval.old = fact.amount

    def _released(self, fact: WithheldReleased) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if not 0 < fact.amount == interval.withheld or len(set(fact.approved_by)) < 2:
            who = " and ".join(fact.approved_by)
            detail = f"{fact.amount} of {interval.withheld} of {_name(fact)} are released by {who}"
            self._find("withheld", detail)
        interval.old = None

    def _epoch_started(self, fact: EpochStarted) -> None:
        if fact.epoch <= self._started:
            self._find("order", f"epoch {fact.epoch} starts after the start of {self._started}")
        self._started = max(self._started, fact.epoch)

    def _config_decided(self, fact: ConfigDecided) -> None:
        stamp = (fact.epoch, fact.version)
        if stamp <= self._decided:
            self._find("order", f"configuration {stamp} is decided after {self._decided}")
        self._decided = max(self._decided, stamp)

    def _promotion_forced(self, _fact: PromotionForced) -> None:
        self._is_forced = True

    def _defined(self, fact: MetaDefined) -> None:
        cap = self._caps.get(fact.cap)
        if cap is None:
            self._caps[fact.cap] = _Cap(fact.version)
            return
        self._check_version(fact.cap, cap, fact.version)
        cap.retired = False

    def _changed(
        self, fact: MetaChanged | MetaPaused | MetaResumed | MetaRetired | HomeMoved
    ) -> None:
        cap = self._cap(fact.cap)
        if cap is None:
            return
        self._check_version(fact.cap, cap, fact.version)
        if isinstance(fact, MetaRetired):
            cap.retired = True
            cap.ended_before = max(cap.ended_before, fact.ended_before)

    def _learned(self, fact: MetaLearned) -> None:
        cap = self._caps.get(fact.cap)
        if cap is None:
            cap = self._caps[fact.cap] = _Cap(fact.version)
        else:
            self._check_version(fact.cap, cap, fact.version)
        cap.retired = fact.retired
        cap.ended_before = max(cap.ended_before, fact.ended_before)

    def _check_version(self, name: str, cap: _Cap, version: Version) -> None:
        if version <= cap.version:
            self._find("version", f"{name} goes from version {cap.version} to {version}")
        cap.version = max(cap.version, version)

    # intervals

    def _opened(self, fact: IntervalOpened) -> None:
        cap = self._cap(fact.cap)
        if cap is None:
            return
        place = f"interval {fact.number} of {fact.cap}"
        if fact.number in cap.intervals:
            self._find("one mint", f"{place} is opened a second time")
            return
        if fact.number <= cap.opened:
            self._find("numbers grow", f"{place} is opened after interval {cap.opened}")
        if cap.retired or fact.number < cap.ended_before:
            self._find("after the end", f"{place} is opened, but the cap is retired")
        self._check_bounds(cap, fact)
        cap.opened = max(cap.opened, fact.number)
        cap.intervals[fact.number] = _Interval(
            fact.total, fact.start, fact.end, old=fact.total if fact.withheld else None
        )
        self._check_charged(cap, fact)
        if fact.start <= self._restored_at and not fact.withheld:
            self._find("withheld", f"{place} began before the restore, and nothing of it is")

    def _check_bounds(self, cap: _Cap, fact: IntervalOpened | IntervalBounded) -> None:
        """No instant is in two intervals; one that was cut before it began has none."""
        bounds = f"{_name(fact)} is opened for [{fact.start}, {fact.end})"
        if isinstance(fact, IntervalOpened) and not cap.closed_until <= fact.start < fact.end:
            self._find("periods", f"{bounds} after one that ends at {cap.closed_until}")
        for number, other in cap.intervals.items():
            if isinstance(fact, IntervalBounded) and not other.is_own:
                continue
            is_one = number != fact.number and other.start < other.end and fact.start < fact.end
            if is_one and other.start < fact.end and fact.start < other.end:
                ends = f"with interval {number} for [{other.start}, {other.end})"
                self._find("periods", f"{bounds} {ends}")

    def _check_charged(self, cap: _Cap, fact: IntervalOpened | IntervalTotalChanged) -> None:
        """What may be spent of others within the bounds of an interval is not minted again."""
        own = cap.intervals[fact.number]
        others = [each for each in cap.intervals.values() if each is not own and each.is_own]
        used = sum(
            each.used
            for each in others
            if each.ended and each.start < own.end and own.start < max(each.end, each.until)
        )
        if fact.charged < used:
            told = f"{fact.charged} charged, and {used} may be spent of others"
            self._find("one mint", f"{_name(fact)} has {told}")

    def _bounded(self, fact: IntervalBounded) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if interval.ended:
            self._find("after the end", f"the bounds of {_name(fact)} change")
        if interval.is_own:  # of others they are heard in any order
            self._check_bounds(self._caps[fact.cap], fact)
        if interval.sent or any(each.moved for each in interval.servers.values()):
            interval.until = max(interval.until, interval.end, fact.end)
        interval.start, interval.end = fact.start, fact.end

    def _heard(self, fact: IntervalHeard) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is not None:
            interval.until = fact.at

    def _interval_learned(self, fact: IntervalLearned) -> None:
        cap = self._cap(fact.cap)
        if cap is None:
            return
        if fact.number in cap.intervals or fact.number < cap.closed_before:
            self._find("one mint", f"{_name(fact)} is learned a second time")
            return
        cap.opened = max(cap.opened, fact.number)
        cap.intervals[fact.number] = _Interval(0, fact.start, fact.end, is_own=False)

    def _opening_recovered(self, fact: IntervalRecovered) -> None:
        cap = self._cap(fact.cap)
        if cap is None:
            return
        if "+" not in self._cluster:
            self._find("order", f"{_name(fact)} is recovered without a restore")
        if fact.number in cap.intervals or fact.number < cap.closed_before:
            self._find("one mint", f"{_name(fact)} is recovered, and is known")
            return
        cap.opened = max(cap.opened, fact.number)
        cap.intervals[fact.number] = _Interval(fact.total, fact.start, fact.end, old=fact.total)

    def _total_changed(self, fact: IntervalTotalChanged) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if interval.ended:
            self._find("after the end", f"the total of {_name(fact)} changes to {fact.total}")
        if interval.old is not None:
            interval.old += fact.total - interval.total
        interval.total = fact.total
        self._check_charged(self._caps[fact.cap], fact)

    def _ended(self, fact: IntervalEnded) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if interval.ended:
            self._find("after the end", f"{_name(fact)} ends a second time")
        interval.ended = True

    def _close(self, fact: IntervalClosed) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if not interval.ended:
            self._find("after the end", f"{_name(fact)} closes before it ends")
        amounts = interval.amounts()
        final = Amounts(
            total=amounts.total,
            received=amounts.received,
            sent=amounts.sent,
            available=amounts.available,
            withheld=amounts.withheld,
            spent=amounts.spent,
            expired=amounts.expired,
            unreported=fact.unreported,
        )
        if final.difference:
            told = f"{fact.unreported} unreported, with {amounts.held} held"
            self._find("equation", f"{_name(fact)} closes with {told}: {final}")
        self._closed += final
        cap = self._caps[fact.cap]
        cap.closed_before = max(cap.closed_before, fact.number + 1)
        cap.closed_until = max(cap.closed_until, interval.end)
        del cap.intervals[fact.number]

    # movements and spends

    def _topped_up(self, fact: ToppedUp) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        server = interval.servers.setdefault(fact.incarnation, _Server())
        more = fact.moved - server.moved
        if more < 0:
            self._shrinks(fact, "moved", server.moved, fact.moved)
        if more <= 0:
            return
        if interval.ended:
            self._find("after the end", f"{more} of {_name(fact)} go to {fact.incarnation}")
        self._move(fact, interval, server, more)

    def _recovered(self, fact: TopupRecovered) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if not self._is_forced:
            self._find("order", f"a topup of {_name(fact)} is recovered, and none was lost")
        server = interval.servers.setdefault(fact.incarnation, _Server())
        more = fact.moved - server.moved
        if more > 0:
            self._move(fact, interval, server, more)

    def _move(
        self, fact: ToppedUp | TopupRecovered, interval: _Interval, server: _Server, more: int
    ) -> None:
        if more > interval.left:
            left = f"{more} of {_name(fact)} go to {fact.incarnation}; {interval.left} were left"
            self._find("overdrawn", left)
        server.moved = fact.moved
        interval.away += more

    def _holding_recovered(self, fact: HoldingRecovered) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if "+" not in self._cluster and interval.old is None:
            self._find("order", f"a holding of {_name(fact)} is recovered without a restore")
        server = interval.servers.setdefault(fact.incarnation, _Server())
        moved = max(fact.moved - server.moved, 0)
        returned = max(fact.returned - server.returned, 0)
        server.moved, server.returned = server.moved + moved, server.returned + returned
        server.spent = max(server.spent, fact.spent)
        server.refunded = max(server.refunded, fact.refunded)
        interval.away += moved - returned
        if interval.old is None:
            interval.old = returned or None
        else:
            interval.old += returned - moved
        self._check_within(fact, fact.incarnation, server)

    def _sent(self, fact: TransferSent) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        before = interval.sent.get(fact.to, 0)
        if fact.moved < before:
            self._shrinks(fact, "sent", before, fact.moved)
        elif fact.moved - before > interval.left:
            more, left = fact.moved - before, interval.left
            self._find("overdrawn", f"{more} of {_name(fact)} go to {fact.to}; {left} were left")
        if interval.ended and fact.moved > before:
            self._find("after the end", f"{_name(fact)} is sent to {fact.to}")
        interval.sent[fact.to] = max(before, fact.moved)

    def _received(self, fact: TransferReceived) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        before = interval.received.get(fact.source, 0)
        if fact.moved < before:
            self._shrinks(fact, "received", before, fact.moved)
        interval.received[fact.source] = max(before, fact.moved)

    def _transfers_recovered(self, fact: TransferRecovered) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        if "+" not in self._cluster:
            self._find("order", f"transfers of {_name(fact)} are recovered without a restore")
        sent = max(fact.sent - interval.sent.get(fact.centre, 0), 0)
        received = max(fact.received - interval.received.get(fact.centre, 0), 0)
        interval.sent[fact.centre] = interval.sent.get(fact.centre, 0) + sent
        interval.received[fact.centre] = interval.received.get(fact.centre, 0) + received
        if interval.old is None:
            interval.old = received or None
        else:
            interval.old += received - sent

    def _settled(self, fact: TransferSettled) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is not None and fact.moved > interval.sent.get(fact.to, 0):
            sent = interval.sent.get(fact.to, 0)
            detail = f"{fact.to} has {fact.moved} of {_name(fact)}, and {sent} were sent there"
            self._find("overspent", detail)

    def _returned(self, fact: Returned) -> None:
        interval = self._interval(fact.cap, fact.number)
        if interval is None:
            return
        server = interval.servers.setdefault(fact.incarnation, _Server())
        more = fact.returned - server.returned
        if more < 0:
            self._shrinks(fact, "returned", server.returned, fact.returned)
        if more <= 0:
            return
        if server.final:
            self._find("final", f"{fact.incarnation} returns of {_name(fact)} after its final")
        server.returned = fact.returned
        interval.away -= more
        self._check_within(fact, fact.incarnation, server)

    def _spend_reported(self, fact: SpendReported) -> None:
        for entry in fact.entries:
            interval = self._interval(entry.cap, entry.number)
            if interval is not None:
                server = interval.servers.setdefault(fact.incarnation, _Server())
                self._spend(fact.incarnation, server, entry)

    def _spend(self, incarnation: str, server: _Server, entry: Spend) -> None:
        for total in ("spent", "refunded", "refused"):
            before, told = getattr(server, total), getattr(entry, total)
            if told < before:
                self._shrinks(entry, total, before, told)
            elif told > before and server.final and total != "refused":
                self._find("final", f"{incarnation} has {total} of {_name(entry)} after its final")
            setattr(server, total, max(before, told))
        server.final |= entry.final
        self._check_within(entry, incarnation, server)

    def _check_within(
        self, fact: HoldingRecovered | Returned | Spend, incarnation: str, server: _Server
    ) -> None:
        if server.held < 0 or server.refunded > server.spent:
            self._find(
                "overspent", f"{incarnation} tells what cannot be of {_name(fact)}: {server}"
            )

    def _shrinks(
        self,
        fact: ToppedUp | Returned | Spend | TransferSent | TransferReceived,
        total: str,
        before: int,
        now: int,
    ) -> None:
        self._find("totals shrink", f"{total} of {_name(fact)} goes from {before} to {now}")

    # what a fact speaks of

    def _cap(self, name: str) -> _Cap | None:
        cap = self._caps.get(name)
        if cap is None:
            self._find("unknown", f"{name} was never defined")
        return cap

    def _interval(self, name: str, number: int) -> _Interval | None:
        cap = self._cap(name)
        if cap is None:
            return None
        interval = cap.intervals.get(number)
        if interval is None and number <= cap.opened:
            self._find("closed is final", f"interval {number} of {name} is closed, and is changed")
        elif interval is None:
            self._find("unknown", f"interval {number} of {name} was never opened")
        return interval


def _name(fact: Any) -> str:
    return f"interval {fact.number} of {fact.cap}"


_CHECKS: dict[type, Callable[[Audit, Any], None]] = {
    ClusterCreated: Audit._cluster_created,
    LogRestored: Audit._log_restored,
    EpochStarted: Audit._epoch_started,
    ConfigDecided: Audit._config_decided,
    PromotionForced: Audit._promotion_forced,
    MetaDefined: Audit._defined,
    MetaChanged: Audit._changed,
    MetaPaused: Audit._changed,
    MetaResumed: Audit._changed,
    MetaRetired: Audit._changed,
    HomeMoved: Audit._changed,
    MetaLearned: Audit._learned,
    IntervalOpened: Audit._opened,
    IntervalLearned: Audit._interval_learned,
    IntervalRecovered: Audit._opening_recovered,
    TransferSent: Audit._sent,
    TransferReceived: Audit._received,
    TransferRecovered: Audit._transfers_recovered,
    TransferSettled: Audit._settled,
    IntervalTotalChanged: Audit._total_changed,
    IntervalBounded: Audit._bounded,
    IntervalHeard: Audit._heard,
    AmountWithheld: Audit._withheld,
    WithheldReleased: Audit._released,
    IntervalEnded: Audit._ended,
    IntervalClosed: Audit._close,
    ToppedUp: Audit._topped_up,
    TopupRecovered: Audit._recovered,
    HoldingRecovered: Audit._holding_recovered,
    Returned: Audit._returned,
    SpendReported: Audit._spend_reported,
}
