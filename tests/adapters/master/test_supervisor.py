"""The supervisor: a secondary outlives its starter, is buried, and speaks into a file."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vcap_es.adapters.master.supervisor import OUTPUT, Supervisor
from vcap_es.errors import SettingsError

TELL = "import os, sys; print(os.getsid(0) == os.getpid(), *sys.argv[1:], flush=True)"
PATIENCE_SECONDS = 20.0


def supervisor(data: Path, *command: str, environment: dict[str, str] | None = None) -> Supervisor:
    """One that runs `command`."""
    return Supervisor(
        command,
        data=data,
        join="http://m0:7100",
        secret_file="node.secret",
        environment={**os.environ, **(environment or {})},
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


def test_a_child_is_told_who_it_is_and_speaks_into_its_directory(tmp_path: Path) -> None:
    """In a session of its own; what it says is appended, and how it ended is logged."""
    places = ("{slot}", "{spawn}", "{data}", "{join}", "{secret_file}", "as{slot}")

    async def run() -> None:
        starter = supervisor(tmp_path, sys.executable, "-c", TELL, *places)
        starter.start(1, "first")
        await until(lambda: len(logs) == 2)
        starter.start(1, "second")
        await until(lambda: len(logs) == 4)
        assert await starter.close() == []

    with capture_logs() as logs:
        asyncio.run(run())
    # Then
    told = (tmp_path / "master1" / OUTPUT).read_text().splitlines()
    rest = f"{tmp_path}/master1 http://m0:7100 node.secret as1"
    assert told == [f"True 1 first {rest}", f"True 1 second {rest}"]
    assert [each["event"] for each in logs[:2]] == ["started a secondary", "a secondary ended"]
    assert (logs[1]["exit_code"], logs[1]["log_level"]) == (0, "info")


def test_how_a_child_failed_is_told(tmp_path: Path) -> None:
    """Its exit code, or that there is no such command; neither ends its starter."""

    async def run() -> None:
        starter = supervisor(tmp_path, sys.executable, "-c", "raise SystemExit(75)")
        starter.start(0, "taken")
        supervisor(tmp_path, str(tmp_path / "nothing")).start(0, "missing")
        await until(lambda: len(logs) == 3)
        await starter.close()

    with capture_logs() as logs:
        asyncio.run(run())
    (ended,) = [each for each in logs if "exit_code" in each]
    assert (ended["exit_code"], ended["log_level"]) == (75, "warning")
    (missing,) = [each for each in logs if each["spawn"] == "missing"]
    assert (missing["event"], missing["log_level"]) == ("a secondary cannot be started", "error")


def test_a_child_outlives_its_starter(tmp_path: Path) -> None:
    """A primary that goes must not take along the one that is to lead after it."""

    async def run() -> subprocess.Popen[bytes]:
        starter = supervisor(tmp_path, sys.executable, "-c", "import time; time.sleep(600)")
        starter.start(1, "lasting")
        await until(lambda: logs)
        (child,) = await starter.close()
        return child

    with capture_logs() as logs:
        child = asyncio.run(run())
    assert child.poll() is None
    child.kill()
    assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_what_says_who_we_are_is_not_inherited(tmp_path: Path) -> None:
    """Another master has its own name and place; how patient both are is the same."""
    told = "import os; print(sorted(n for n in os.environ if n.startswith('VCAP__MASTER__')))"
    environment = {
        "VCAP__MASTER__SLOT": "0",
        "VCAP__MASTER__NAME": "m0",
        "VCAP__MASTER__DIRECTORY": "here",
        "VCAP__MASTER__TIMINGS__HEARTBEAT_MS": "50",
    }

    async def run() -> None:
        starter = supervisor(tmp_path, sys.executable, "-c", told, environment=environment)
        starter.start(1, "other")
        await until(lambda: len(logs) == 2)
        await starter.close()

    with capture_logs() as logs:
        asyncio.run(run())
    assert (
        tmp_path / "master1" / OUTPUT
    ).read_text() == "['VCAP__MASTER__TIMINGS__HEARTBEAT_MS']\n"


@pytest.mark.parametrize("word", ["{sloth}", "{", "{0}", "{}"])
def test_a_placeholder_that_there_is_not_is_named(tmp_path: Path, word: str) -> None:
    """When it is set, not when a secondary is needed."""
    with pytest.raises(SettingsError, match="secondary_command"):
        supervisor(tmp_path, "vcap", word)
