"""`make bench`: every figure of this project, with the machine, the settings and the ratios.

    python -m benchmarks                     all
    python -m benchmarks log http            some
    BENCH_SIZE=tiny python -m benchmarks     seconds each; figures of that size mean nothing
    python -m benchmarks --report FILE       the rows in JSON as well

Machines are noisy: read the ratios, which are taken in one run, and not the absolute figures.

Each section has a process of its own. One that crashes ends the whole, with status 1. Else the
status is 0 where all aims were reached, 2 where some were missed, and 3 where some were not
measured; how many, and which, is in the last lines.
"""

import os
import platform
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, signal
from tempfile import TemporaryDirectory

from msgspec import json

from benchmarks.rows import IS_TINY, Row

SECTIONS = (
    *("log", "embedded", "http", "keyed", "topups", "transfers"),
    *("catch_up", "history", "memory", "boundary", "backtest"),
)
"""Each is a module here, with `figures` that gives rows, and `AIMS`: the figures that have one."""

PATIENCE_SECONDS, END_SECONDS = 1800, 60
"""A section that takes longer has crashed; then it may end those whom it has started."""

CRASHED, MISSED, NOT_MEASURED = 1, 2, 3


def main(words: list[str]) -> int:
    """Run the sections that are named, or all; gives the exit status."""
    report = None
    if "--report" in words[:-1]:
        at = words.index("--report")
        report = Path(words[at + 1])
        words = words[:at] + words[at + 2 :]
    unknown = [name for name in words if name not in SECTIONS]
    if unknown:
        sys.exit(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    _print_machine()
    found: dict[str, list[Row]] = {}
    for name in words or SECTIONS:
        rows = _run(name)
        if rows is None:
            print(f"\n{name} has crashed: nothing after it was run", flush=True)
            return CRASHED
        found[name] = rows
    if report is not None:
        report.write_bytes(json.encode(found))
    return close(found, is_tiny=IS_TINY)


def _run(name: str) -> list[Row] | None:
    """The rows of a section, printed; None where it has crashed. Nobody that it started is left."""
    print(f"\n{name}", flush=True)
    began = time.perf_counter()
    with TemporaryDirectory(prefix="vcap-bench-") as folder:
        results = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.section", name, str(results)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            status = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            status = CRASHED
            print(f"  has no end after {PATIENCE_SECONDS} s", file=sys.stderr, flush=True)
        finally:
            _end(process)
        rows = json.decode(results.read_bytes(), type=list[Row]) if status == 0 else None
    for row in rows or ():
        print(_line(row, max(len(each.figure) for each in rows or ())), flush=True)
    print(f"  ({time.perf_counter() - began:.1f} s)", flush=True)
    return rows


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a section end in order that still runs, as at Ctrl-C, and then all that is left of it."""
    process.send_signal(SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)
    process.wait()


def _line(row: Row, width: int) -> str:
    aim = f"   aim {row.aim}" if row.aim else ""
    mark = {True: "  reached", False: "  MISSED"}.get(row.reached, "") if row.aim else ""  # type: ignore[call-overload]  # None is no key
    return f"  {row.figure:<{width}}  {row.value} {row.unit}{aim}{mark}"


def close(found: dict[str, list[Row]], *, is_tiny: bool) -> int:
    """Name the aims that were not reached, and count them; gives the exit status."""
    aims = [(name, row) for name, rows in found.items() for row in rows if row.aim]
    missed = [f"{name}: {row.figure}" for name, row in aims if row.reached is False]
    unmeasured = [f"{name}: {row.figure}" for name, row in aims if row.reached is None]
    print()
    if is_tiny:
        missed = []  # no figure of this size means anything
    for what, figures in (("missed", missed), ("NOT MEASURED", unmeasured)):
        for each in figures:
            print(f"{what}  {each}")
    reached = len(aims) - len(missed) - len(unmeasured)
    verdict = f"{reached} reached, {len(missed)} missed" if not is_tiny else "not judged"
    print(f"{len(aims)} aims: {verdict}, {len(unmeasured)} not measured")
    return NOT_MEASURED if unmeasured else MISSED if missed else 0


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
    signal(SIGTERM, lambda *_: sys.exit(CRASHED))  # what a section has started ends then too
    sys.exit(main(sys.argv[1:]))
