"""Every section of the benchmarks runs to its end, with real parts, in a tiny size."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from msgspec import json

from benchmarks import __main__ as bench
from benchmarks.rows import Row
from benchmarks.tools import tool
from compose.broker import INSTALLED, PACKAGES
from compose.packages import Unavailable, unpacked
from tests.support.deployment import ROOT

TINY = {**os.environ, "BENCH_SIZE": "tiny"}
PATIENCE_SECONDS = 300


def needs(section: str) -> None:
    """Skip where what this section needs cannot be had on this machine."""
    try:
        if section == "http":
            tool("wrk"), tool("nginx")
        if section == "transfers" and not INSTALLED.exists():
            unpacked("rabbitmq", PACKAGES)
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("section", bench.SECTIONS)
def test_a_section_measures_all_that_it_names(section: str, tmp_path: Path) -> None:
    """Each row has its figure, a value and a unit, and each aim that is named was measured."""
    needs(section)
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks", section, "--report", str(report)]
    done = subprocess.run(
        command, cwd=ROOT, env=TINY, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("not judged, 0 not measured")
    rows = json.decode(report.read_bytes(), type=dict[str, list[Row]])[section]
    assert all(row.figure and row.value and row.unit for row in rows)
    assert sum(row.reached is not None for row in rows) > 0


CRASHES = """
import subprocess, sys, threading, time
def figures():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(FOLDER + "/child", "w").write(str(child.pid))
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise ValueError("it went wrong")
"""


def run_made_up(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`python -m benchmarks`, where the section `memory` has this text."""
    program = (
        "import sys, types, benchmarks\n"
        f"module = types.ModuleType('benchmarks.memory'); module.FOLDER = {str(folder)!r}\n"
        f"exec({text!r}, module.__dict__)\n"
        "sys.modules['benchmarks.memory'] = module\n"
    )
    (folder / "sitecustomize.py").write_text(program)
    environment = {**TINY, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "memory", "backtest"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_section_that_crashes_ends_the_whole(tmp_path: Path) -> None:
    """Its traceback is shown, the status is 1, and neither a thread nor a child keeps on."""
    done = run_made_up(CRASHES, tmp_path)
    assert done.returncode == bench.CRASHED
    assert "ValueError: it went wrong" in done.stderr
    assert done.stdout.splitlines()[-1] == "memory has crashed: nothing after it was run"
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


LACKS = """
from compose.packages import Unavailable
AIMS = {"speed": ">= 7"}
def figures():
    raise Unavailable("there is no such thing here")
"""


def test_an_aim_that_was_not_measured_is_counted_and_named(tmp_path: Path) -> None:
    """What cannot be measured is no success: it is in the last lines and in the status."""
    done = run_made_up(LACKS, tmp_path)
    assert done.returncode == bench.NOT_MEASURED, done.stdout + done.stderr
    *_, named, last = done.stdout.splitlines()
    assert named == "NOT MEASURED  memory: speed"
    assert last == "5 aims: not judged, 1 not measured"
    assert "there is no such thing here" in done.stdout


@pytest.mark.parametrize(
    ("reached", "status", "last"),
    [
        ([True, True], 0, "2 aims: 2 reached, 0 missed, 0 not measured"),
        ([True, False], bench.MISSED, "2 aims: 1 reached, 1 missed, 0 not measured"),
        ([None, False], bench.NOT_MEASURED, "2 aims: 0 reached, 1 missed, 1 not measured"),
    ],
)
def test_the_last_line_counts_every_aim(
    reached: list[bool | None], status: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reached, missed and not measured add up to all; any but reached is in the status."""
    rows = [Row(f"f{at}", "1", "x", ">= 1", each) for at, each in enumerate(reached)]
    assert bench.close({"made up": [*rows, Row("no aim", "1", "x")]}, is_tiny=False) == status
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_every_section_names_its_aims() -> None:
    """A section that cannot run still tells which figures are missing."""
    for name in bench.SECTIONS:
        assert import_module(f"benchmarks.{name}").AIMS, name
