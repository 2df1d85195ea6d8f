"""Consumes per second of a backtest: a million lines, 50 caps, four servers.

Journals are on and the log is a real one in SQLite with synchronous=OFF. The totals are mixed: some
caps are nearly always exhausted, some never.
"""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from vcap_es.backtest import backtest
from vcap_es.caps_file import CapsFile
from vcap_es.events.facts import Definition
from vcap_es.events.instants import SECOND_US, format_instant, parse_instant

LINES, CAPS, SERVERS = 1_000_000, 50, 4
DAYS = 2
TOTALS = (100, 5_000, 20_000, 1_000_000)
CONSUMES_PER_SECOND_MIN = 50_000

_BEGIN = parse_instant("2026-03-01T00:00:00Z")


def figures() -> list[dict[str, object]]:
    """How fast a trace is worked off, start to end, the final check against the log included."""
    caps = CapsFile(
        caps={
            f"cap{number}": Definition(total=TOTALS[number % len(TOTALS)]) for number in range(CAPS)
        },
        templates={},
    )
    with TemporaryDirectory(prefix="vcap-bench-") as folder:
        trace = Path(folder) / "trace.csv"
        _write(trace)
        totals = backtest(caps, trace, servers=SERVERS).totals
    rate = totals.consumes_per_second
    return [
        {
            "figure": f"backtest of {LINES:,} lines, consumes a second",
            "value": f"{rate:,} ({totals.refused:,} units refused, {totals.events:,} events)",
            "aim": f">= {CONSUMES_PER_SECOND_MIN:,}",
            "reached": rate >= CONSUMES_PER_SECOND_MIN,
        },
        {
            "figure": "stranded in it",
            "value": totals.stranded,
            "aim": "0",
            "reached": totals.stranded == 0,
        },
    ]


def _write(path: Path) -> None:
    random = Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write("at,cap,amount\n")
        for line in range(LINES):
            at = _BEGIN + line * DAYS * 86_400 // LINES * SECOND_US
            cap, amount = random.randrange(CAPS), random.choice((1, 1, 1, 2, 5))
            file.write(f"{format_instant(at)},cap{cap},{amount}\n")
