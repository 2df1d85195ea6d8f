"""`vcap backtest`: what caps would have done on recorded traffic."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vcap_es.backtest import BacktestReport
from vcap_es.backtest import backtest as rehearse
from vcap_es.caps_file import parse_caps
from vcap_es.cli.control import read_text
from vcap_es.cli.output import Json, print_json, print_table


def backtest(
    *,
    caps: Annotated[Path, Parameter(help="The caps, as `vcap cap apply` takes them.")],
    trace: Annotated[Path, Parameter(help="The traffic: CSV with the columns at, cap, amount.")],
    servers: Annotated[int, Parameter(help="Volumecap servers among which lines are spread.")] = 4,
    report: Annotated[Path | None, Parameter(help="Write the report to this JSON file.")] = None,
    json: Json = False,
) -> None:
    """Run recorded traffic through the real components, on its own time, and report."""
    wanted = parse_caps(read_text(caps), str(caps))
    with _progress() as progress:
        task = progress.add_task("", total=1.0)
        found = rehearse(
            wanted,
            trace,
            servers=servers,
            on_progress=lambda done: progress.update(task, completed=done),
        )
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    print_json(found) if json else _print(found)


def _progress() -> Progress:
    return Progress(
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _print(found: BacktestReport) -> None:
    columns = ("cap", "intervals", "total", "consumed", "refused", "stranded")
    rows = [
        [name, len(each.intervals), *(_sum(each.intervals, column) for column in columns[2:])]
        for name, each in found.caps.items()
    ]
    print_table(columns, rows)
    totals = found.totals
    sys.stdout.write(
        f"\n{totals.consumed} consumed, {totals.refused} refused, {totals.stranded} stranded, "
        f"{totals.outside} outside; {totals.events} events, {totals.seconds:.1f} s, "
        f"{totals.consumes_per_second} consumes a second\n"
    )


def _sum(intervals: list, column: str) -> int:  # type: ignore[type-arg]  # structs of the report
    return sum(getattr(each, column) for each in intervals)
