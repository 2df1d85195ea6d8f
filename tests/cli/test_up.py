"""`vcap up`: a data centre by one command, and its quiet end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.support.deployment import (
    PATIENCE_SECONDS,
    PATIENT,
    ROOT,
    eventually,
    ports_in_a_row,
    wipe,
)
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.projections.balances import IntervalBalance, interval_balance
from vcap_es.projections.history import fold_until

BUSY = ("slow disk", "this process was not run")
"""What a node warns of that a busy machine alone is to blame for."""


def started(data: Path, port: int, *more: str) -> "subprocess.Popen[str]":
    """`vcap up`, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "vcap_es", "up", "--data", str(data), "--port", str(port), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **PATIENT},
    )


def welcome(process: "subprocess.Popen[str]") -> str:
    """What it prints when all is up."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "client key" in line:
            return "".join(lines)
    raise AssertionError(process.stderr and process.stderr.read())


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Ctrl-C: its exit code, what it still printed, and its complaint."""
    process.send_signal(signal.SIGINT)
    out, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, complaint


def test_a_data_centre_comes_up_serves_and_goes_quietly(tmp_path: Path) -> None:
    """It prints where everything is; after Ctrl-C nothing is held anywhere."""
    # Given
    data, port = tmp_path / "data", ports_in_a_row(4)
    process = started(data, port)
    printed = welcome(process)
    for word in (f":{port} ", f":{port + 1} ", f":{port + 2}\n", f"{data}/client.key"):
        assert word in printed
    admin = {"Authorization": f"Bearer {(data / 'master0' / 'admin.key').read_text().strip()}"}
    client = {"Authorization": f"Bearer {(data / 'client.key').read_text().strip()}"}
    url = f"http://127.0.0.1:{port}/v1/caps/c"
    assert httpx2.put(url, json={"total": 10_000}, headers=admin).status_code == 201
    for server in (1, 2):
        url = f"http://127.0.0.1:{port + server}/v1/caps/c/consume"
        assert httpx2.post(url, json={"amount": 7}, headers=client).status_code == 200
    # When
    assert ended(process) == (0, "", "")
    # Then
    found = asyncio.run(first_interval(data / "master0" / "log.sqlite"))
    assert (found.available, found.held, found.spent) == (10_000 - 14, 0, 14)
    told = [json.loads(line) for log in data.glob("*.log") for line in log.read_text().splitlines()]
    assert not [each for each in told if each["level"] != "info" and each["event"] not in BUSY]


async def first_interval(log: Path) -> IntervalBalance:
    """The books of the first interval of the cap `c`."""
    reader = await SqliteLog.open_reader(log)
    history = fold_until(await reader.read(0, limit=10_000))
    await reader.close()
    return interval_balance(history.state.metas["c"].intervals[0])


def test_a_second_one_in_the_same_place_is_refused(tmp_path: Path) -> None:
    """The same directory, or the same port: it says which, and the first is not disturbed."""
    data, port = tmp_path / "data", ports_in_a_row(3)
    first = started(data, port, "--servers", "1")
    welcome(first)
    second = started(data, ports_in_a_row(3), "--servers", "1")
    out, complaint = second.communicate(timeout=PATIENCE_SECONDS)
    assert (second.returncode, out) == (2, "")
    assert f"{data} is in use" in complaint
    third = started(tmp_path / "other", port, "--servers", "1")
    out, complaint = third.communicate(timeout=PATIENCE_SECONDS)
    assert (third.returncode, out) == (2, "")
    assert f"127.0.0.1:{port}" in complaint
    assert httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success
    assert ended(first) == (0, "", "")


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Stopped and started in the same directory: the same keys, the same caps, the demo again."""
    data, port = tmp_path / "data", ports_in_a_row(3)
    for _ in range(2):
        process = started(data, port, "--servers", "1", "--demo")
        welcome(process)
        key = (data / "client.key").read_text().strip()
        url = f"http://127.0.0.1:{port + 1}/v1/caps/demo:coupons"
        answer = httpx2.get(url, headers={"Authorization": f"Bearer {key}"})
        assert answer.json()["total"] == 100
        assert ended(process) == (0, "", "")


def test_a_node_that_ends_ends_all_with_its_reason(tmp_path: Path) -> None:
    """The last words of the node that could not go on are on standard error."""
    data, port = tmp_path / "data", ports_in_a_row(3)
    (data / "master0" / "log.sqlite").mkdir(parents=True)
    process = started(data, port, "--servers", "1")
    out, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (2, "")
    assert complaint.startswith("vcap: a master ended with exit code 2")
    assert "log.sqlite" in complaint


@pytest.mark.parametrize("lost", ["master0", "master1", "server1", "server2"])
def test_it_recovers_from_the_loss_of_any_one_folder(tmp_path: Path, lost: str) -> None:
    """Caps and keys are there, the books are exact, and what was lost is an empty node again."""
    # Given
    data, port = tmp_path / "data", ports_in_a_row(4)
    process = started(data, port)
    welcome(process)
    define(data, port, "c", 10)
    assert consumed(data, port + 1, 7) == 200
    assert ended(process)[0] == 0
    # When
    wipe(data / lost)
    process = started(data, port)
    welcome(process)
    # Then
    try:
        assert consumed(data, port + 2, 4) == 429
        assert consumed(data, port + 1, 3) == 200
        assert (data / "master0" / "admin.key").exists()
    finally:
        assert ended(process)[0] == 0


def test_a_folder_that_lost_both_masters_is_not_begun_anew(tmp_path: Path) -> None:
    """What its servers hold was given by a log that is gone: people must decide."""
    data, port = tmp_path / "data", ports_in_a_row(3)
    process = started(data, port, "--servers", "1")
    welcome(process)
    assert ended(process)[0] == 0
    for slot in (0, 1):
        wipe(data / f"master{slot}")
    process = started(data, port, "--servers", "1")
    out, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (2, "")
    assert f"{data} has been in use, and no master there has its log any more" in complaint


def test_whoever_is_killed_is_started_again(tmp_path: Path) -> None:
    """A server, and both masters at once: nobody has to be asked, and everything is as it was."""
    data, port = tmp_path / "data", ports_in_a_row(3)
    process = started(data, port, "--servers", "1")
    welcome(process)
    try:
        define(data, port, "c", 10)
        assert consumed(data, port + 1, 7) == 200
        killed = [lock_holder(data / "server1" / "lock")]
        killed += [lock_holder(data / f"master{slot}" / "log.sqlite-lock") for slot in (0, 1)]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        # Then
        assert eventually(lambda: consumed(data, port + 1, 4) == 429, "it is refused again")
        assert consumed(data, port + 1, 3) == 200
        assert lock_holder(data / "server1" / "lock") not in killed
    finally:
        code, printed, complaint = ended(process)
    assert (code, complaint) == (0, "")
    assert "a server ended with exit code -9" in printed


def lock_holder(path: Path) -> int:
    """The process that has an flock on this file."""
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, _, pid, where, *_ = line.split()
        if kind == "FLOCK" and int(where.rpartition(":")[2]) == inode:
            return int(pid)
    raise AssertionError(f"nobody has {path}")


def define(data: Path, port: int, cap: str, total: int) -> None:
    """Define a cap at whichever master leads."""
    key = (data / "master0" / "admin.key").read_text().strip()

    def defined() -> bool:
        url = f"http://127.0.0.1:{port}/v1/caps/{cap}"
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.put(url, json={"total": total}, headers=headers).status_code in (200, 201)

    eventually(defined, f"{cap} is defined")


def consumed(data: Path, port: int, amount: int) -> int:
    """The status of a consume of the cap `c`, once the server is there and knows."""
    headers = {"Authorization": f"Bearer {(data / 'client.key').read_text().strip()}"}

    def answered() -> int:
        url, body = f"http://127.0.0.1:{port}/v1/caps/c/consume", {"amount": amount}
        try:
            status = httpx2.post(url, json=body, headers=headers, timeout=30).status_code
        except httpx2.TransportError:
            return 0
        return 0 if status in (404, 503) else status

    return int(eventually(answered, "a consume is answered"))
