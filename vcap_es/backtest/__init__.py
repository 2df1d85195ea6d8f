"""Backtests: what caps would have done on recorded traffic.

The real components run on the trace's own time, with real journals and a real log, in one thread.
So the figures are those of the code that serves, and the log can be verified like any other.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from vcap_es.backtest.data_centre import BacktestDataCentre
from vcap_es.backtest.ledger import BacktestLog
from vcap_es.backtest.report import BacktestReport, BacktestTotals, CapReport, IntervalReport
from vcap_es.backtest.tally import AnswerTally
from vcap_es.backtest.trace import Consumption, Trace
from vcap_es.caps_file import CapsFile
from vcap_es.components.decisions.meta import Define, DefineTemplate
from vcap_es.errors import InvalidInput
from vcap_es.events.patterns import best_match

SERVERS_MAX = 256


def backtest(
    caps: CapsFile,
    trace: Path,
    *,
    servers: int = 4,
    log: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> BacktestReport:
    """What `caps` would have done on the traffic in the CSV file `trace`.

    The lines are spread among `servers` volumecap servers (1 to 256) by a stable hash; each is all
    or nothing. The caps exist from the first line on. The event log is written to the new file
    `log`, or to none that stays. `on_progress` hears the share of the trace that is done, 0 to 1.
    Blocks for as long as it takes; no event loop may run in this thread.

    Raises InvalidInput, naming file, line and column, where the trace cannot be read, is not
    sorted by time, or names a cap that is neither defined nor matched by a template.
    """
    if not 1 <= servers <= SERVERS_MAX:
        raise InvalidInput(f"{servers} servers: choose 1 to {SERVERS_MAX}")
    began = time.perf_counter()
    with TemporaryDirectory(prefix="vcap-backtest-") as directory:
        ledger = BacktestLog(log or Path(directory) / "log.sqlite")
        try:
            tally = _run(caps, Trace(trace, on_progress), ledger, Path(directory), servers)
        finally:
            ledger.close()
        found = tally.report(ledger.replay())
        seconds = time.perf_counter() - began
    on_progress(1.0)
    return BacktestReport(
        caps=found,
        totals=BacktestTotals(
            consumed=_sum(found, "consumed"),
            refused=_sum(found, "refused"),
            stranded=_sum(found, "stranded"),
            outside=tally.outside,
            events=ledger.position,
            seconds=round(seconds, 3),
            consumes_per_second=int(tally.lines / seconds),
        ),
    )


def _run(
    caps: CapsFile, trace: Trace, ledger: BacktestLog, directory: Path, servers: int
) -> AnswerTally:
    tally = AnswerTally()
    lines = iter(trace)
    first = next(lines, None)
    if first is None:
        return tally
    centre = BacktestDataCentre(ledger, directory, servers=servers, now=first.at)
    try:
        for cap, definition in caps.caps.items():
            centre.command(Define(cap=cap, definition=definition))
            tally.defined(cap, first.at)
        for match, definition in caps.templates.items():
            centre.command(DefineTemplate(match=match, definition=definition))
        known = set(caps.caps)
        line: Consumption | None = first
        while line is not None:
            if line.cap not in known:
                _check_template(caps, trace, line)
                tally.defined(line.cap, line.at)
                known.add(line.cap)
            centre.advance(line.at)
            answer = centre.consume(line.place, line.cap, line.amount)
            tally.count(line, answer, centre.state)
            line = next(lines, None)
        centre.stop()
    finally:
        centre.close()
    return tally


def _check_template(caps: CapsFile, trace: Trace, line: Consumption) -> None:
    if best_match(caps.templates, line.cap) is None:
        why = f"{line.cap!r} is not among the caps, and no template matches it: add it to them"
        raise trace.wrong(line.line, "cap", why)


def _sum(caps: dict[str, CapReport], column: str) -> int:
    return sum(getattr(each, column) for cap in caps.values() for each in cap.intervals)


__all__ = ["BacktestReport", "BacktestTotals", "CapReport", "IntervalReport", "backtest"]
