"""Consumes per second of a backtest: a dense trace, and one that is empty nearly everywhere.

Journals are on and the log is a real one in SQLite with synchronous=OFF. The totals are mixed: some
caps are nearly always exhausted, some never. In the sparse trace one hour in fifty has traffic,
over eight years: it shows what an hour without any costs.
"""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.rows import Row, sized
from vcap_es.backtest import BacktestTotals, backtest
from vcap_es.caps_file import CapsFile
from vcap_es.events.facts import Definition
from vcap_es.events.facts.meta import IntervalKind
from vcap_es.events.instants import format_instant, parse_instant
from vcap_es.events.units import SECOND_US

SERVERS = 4
LINES, CAPS, DAYS = sized(1_000_000, tiny=2_000), 50, 2
TOTALS = (100, 5_000, 20_000, 1_000_000)
CONSUMES_PER_SECOND_MIN = 50_000

SPARSE_LINES, SPARSE_PERIODS = sized((63_710, 7_057), tiny=(300, 30))
SPARSE_HOURS, SPARSE_TOTALS = 8 * 8_766, (3, 10, 12, 100, 1000)
SPARSE_CONSUMES_PER_SECOND_MIN = 20_000

_BEGIN = parse_instant("2016-01-01T00:00:00Z")
_HOUR_SECONDS = 3600

Line = tuple[int, int, int]
"""(seconds after the beginning, cap, amount)"""


AIMS = {
    "dense trace": f">= {CONSUMES_PER_SECOND_MIN:,}",
    "dense trace, stranded": "0",
    "sparse trace": f">= {SPARSE_CONSUMES_PER_SECOND_MIN:,}",
    "sparse trace, stranded": "0",
}


def figures() -> list[Row]:
    """How fast a trace is worked off, start to end, the final check against the log included."""
    dense = _run("day", [TOTALS[each % len(TOTALS)] for each in range(CAPS)], _dense())
    sparse = _run("hour", SPARSE_TOTALS, sparse_lines(SPARSE_LINES, SPARSE_PERIODS))
    return [
        *_rows("dense trace", LINES, dense, CONSUMES_PER_SECOND_MIN),
        *_rows("sparse trace", SPARSE_LINES, sparse, SPARSE_CONSUMES_PER_SECOND_MIN),
    ]


def _rows(trace: str, lines: int, totals: BacktestTotals, least: int) -> list[Row]:
    rate, stranded = totals.consumes_per_second, f"{trace}, stranded"
    return [
        Row(f"{trace}, its length", f"{lines:,}", "lines"),
        Row(f"{trace}, events of it", f"{totals.events:,}", "events"),
        Row(f"{trace}, refused", f"{totals.refused:,}", "units"),
        Row(trace, f"{rate:,}", "lines/s", AIMS[trace], rate >= least),
        Row(stranded, str(totals.stranded), "units", AIMS[stranded], totals.stranded == 0),
    ]


def _run(kind: IntervalKind, totals: Iterable[int], lines: Iterable[Line]) -> BacktestTotals:
    caps = {
        f"cap{number}": Definition(total=total, interval=kind)
        for number, total in enumerate(totals)
    }
    with TemporaryDirectory(prefix="vcap-bench-") as folder:
        trace = Path(folder) / "trace.csv"
        write(trace, lines)
        return backtest(CapsFile(caps=caps, templates={}), trace, servers=SERVERS).totals


def write(path: Path, lines: Iterable[Line]) -> None:
    """Write a trace of these lines."""
    with path.open("w", encoding="utf-8") as file:
        file.write("at,cap,amount\n")
        for seconds, cap, amount in lines:
            file.write(f"{format_instant(_BEGIN + seconds * SECOND_US)},cap{cap},{amount}\n")


def _dense() -> Iterable[Line]:
    random = Random(1)
    for line in range(LINES):
        cap, amount = random.randrange(CAPS), _amount(random)
        yield line * DAYS * 86_400 // LINES, cap, amount


def sparse_lines(lines: int, periods: int) -> list[Line]:
    """So many lines in so many hours of five caps, at random over eight years, in order."""
    random = Random(1)
    caps = len(SPARSE_TOTALS)
    busy = random.sample(range(SPARSE_HOURS * caps), periods)
    found = []
    for line in range(lines):
        hour, cap = divmod(busy[line % periods], caps)
        seconds = hour * _HOUR_SECONDS + random.randrange(_HOUR_SECONDS)
        found.append((seconds, cap, _amount(random)))
    return sorted(found)


def _amount(random: Random) -> int:
    return random.choice((1, 1, 1, 2, 5))
