"""`make bench`: every figure of this project, with the machine, the settings and the ratios.

    python -m benchmarks            all
    python -m benchmarks log http   some

Machines are noisy: read the ratios, which are taken in one run, and not the absolute figures.
"""

import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    backtest,
    boundary,
    catch_up,
    embedded,
    history,
    http,
    log,
    memory,
    topups,
    transfers,
)

Figures = dict[str, object]

SECTIONS: dict[str, Callable[[], list[Figures]]] = {
    "log": log.figures,
    "embedded": embedded.figures,
    "http": http.figures,
    "topups": topups.figures,
    "transfers": transfers.figures,
    "catch_up": catch_up.figures,
    "history": history.figures,
    "memory": memory.figures,
    "boundary": boundary.figures,
    "backtest": backtest.figures,
}
"""Each gives rows of `figure`, `value`, and where there is one, `aim` and `reached`."""


def main() -> None:
    """Run the sections that are named, or all."""
    names = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        sys.exit(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    _print_machine()
    missed = [row for name in names for row in _run(name) if row.get("reached") is False]
    print()
    print(f"{len(missed)} aims missed" if missed else "all aims reached")


def _run(name: str) -> list[Figures]:
    print(f"\n{name}", flush=True)
    rows = SECTIONS[name]()
    width = max((len(str(row["figure"])) for row in rows), default=0)
    for row in rows:
        aim = f"   aim {row['aim']}" if "aim" in row else ""
        mark = {True: "  reached", False: "  MISSED", None: ""}[row.get("reached")]  # type: ignore[index]  # a flag or nothing
        print(f"  {row['figure']!s:<{width}}  {row['value']}{aim}{mark}", flush=True)
    return rows


def _print_machine() -> None:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    print(f"machine   {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}")
    print(f"python    {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    print("settings  API keys checked, journals on, log synchronous=FULL unless it says otherwise")


if __name__ == "__main__":
    main()
