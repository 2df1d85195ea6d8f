"""The tally of a backtest: every answer counted from outside, then held against the log."""

from collections.abc import Mapping

from msgspec import Struct

from vcap_es.backtest.calendar import Calendar, TrafficPeriod
from vcap_es.backtest.report import CapReport, IntervalReport
from vcap_es.backtest.trace import Consumption
from vcap_es.components.decisions.volumecap import released
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.events.facts import Definition
from vcap_es.events.periods import Window, opening_total
from vcap_es.projections.balances import IntervalBalance
from vcap_es.projections.history import History
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta


class Count(Struct):
    """What was answered inside one interval, in units."""

    consumed: int = 0
    refused: int = 0
    stranded: int = 0


NOTHING: Mapping[int, Count] = {}
NOBODY = Count()


class AnswerTally:
    """Counts answers by cap and interval; an interval is known by its end."""

    def __init__(self) -> None:
        self.lines = 0
        self.outside = 0
        self._last_at = 0
        self.counts: dict[str, dict[int, Count]] = {}
        self._defined_at: dict[str, int] = {}

    def defined(self, cap: str, at: int) -> None:
        """Cap `cap` is there from the instant `at` on."""
        self._defined_at[cap] = at

    def count(self, line: Consumption, answer: Consumed | Refused, state: DataCentre) -> None:
        """Count one answer, given in the state of that moment.

        A shadow cap says yes where a hard one refuses: here that is a refusal.
        """
        self.lines += 1
        self._last_at = line.at
        if isinstance(answer, Consumed) and answer.shadow is None:
            self._of(line.cap, answer.resets_at).consumed += answer.consumed
        else:
            self._refused(line, state.metas.get(line.cap))

    def _refused(self, line: Consumption, meta: Meta | None) -> None:
        interval = meta.at(line.at) if meta is not None else None
        if meta is None or interval is None:
            self.outside += line.amount
            return
        count = self._of(line.cap, interval.end)
        count.refused += line.amount
        if line.amount <= _served_at(meta, interval, line.at) - count.consumed:
            count.stranded += line.amount

    def _of(self, cap: str, end: int) -> Count:
        counts = self.counts.get(cap)
        if counts is None:
            counts = self.counts[cap] = {}
        found = counts.get(end)
        if found is None:
            found = counts[end] = Count()
        return found

    def report(self, history: History) -> dict[str, CapReport]:
        """What each cap did, by its intervals: those on the log, and those that nobody asked for.

        Every unit counted is held against the log's own account: they must agree exactly.
        """
        calendar = Calendar(self._last_at)
        return {
            cap: CapReport(intervals=self._intervals(cap, history, calendar))
            for cap in history.state.metas
        }

    def _intervals(self, cap: str, history: History, calendar: Calendar) -> list[IntervalReport]:
        balance = history.balance(cap)
        assert balance is not None, f"{cap} was never defined"
        counts = self.counts.get(cap, NOTHING)
        opened = {each.end: each for each in balance.intervals}
        for each in balance.intervals:
            _check(cap, each, counts.get(each.end, Count()))
        assert opened.keys() >= counts.keys(), f"{cap}: something was counted in no interval"
        definition = history.state.metas[cap].definition
        periods = calendar.periods(definition, self._defined_at[cap])
        seen = {each.end for each in periods if each.end in opened}
        assert seen == opened.keys(), f"{cap}: an interval of the log is none of the calendar"
        return [
            _interval(each, opened[each.end].total, counts[each.end])
            if each.end in counts
            else _interval(each, _total(definition, each), NOBODY)
            for each in periods
        ]


def _served_at(meta: Meta, interval: Interval, at: int) -> int:
    """What the interval may have served by the instant `at`, over all places."""
    if meta.definition.pacing == "even":
        return released(interval, at)
    return interval.pool.minted


def _check(cap: str, balance: IntervalBalance, count: Count) -> None:
    assert balance.spent == count.consumed, (
        f"{cap}, interval {balance.number}: {count.consumed} units were counted as consumed, "
        f"and the log has {balance.spent}"
    )
    assert balance.held == balance.unreported == 0, f"{cap}: {balance} was not settled"


def _total(definition: Definition, period: TrafficPeriod) -> int:
    return opening_total(definition, Window(period.start, period.end))


def _interval(period: TrafficPeriod, total: int, count: Count) -> IntervalReport:
    return IntervalReport(
        start=period.begins,
        end=period.ends,
        total=total,
        consumed=count.consumed,
        refused=count.refused,
        stranded=count.stranded,
    )
