"""What takes longer than it should is told once, with what it waits for."""

from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs

from vcap_es.adapters.stalls import COMMIT_MS, DISK_MS, PAUSED_MS, Stalls, timed
from vcap_es.clock import boot_ns
from vcap_es.components.master.master import Master
from vcap_es.events.units import MS


def core(waited_ms: int, why: str) -> Master:
    """One that leads, whose oldest round has waited so long for this."""
    leadership = SimpleNamespace(hindrance=lambda _: (waited_ms * MS, why))
    return cast(Master, SimpleNamespace(leadership=leadership))


def told(logs: Any) -> list[str]:
    """What happened, in order."""
    return [each["event"] for each in logs]


def test_what_a_commit_waits_for_is_told_once_and_its_end_too() -> None:
    """Whoever reads the log sees how long nothing was acknowledged, and why."""
    stalls = Stalls()
    with capture_logs() as logs:
        for waited_ms in (COMMIT_MS - 1, COMMIT_MS + 50, COMMIT_MS + 150):
            stalls.look(core(waited_ms, "its own disk"), boot_ns())
        stalls.look(core(0, ""), boot_ns())
        stalls.look(core(0, ""), boot_ns())
    assert told(logs) == ["commit waits", "commit goes on"]
    assert (logs[0]["ms"], logs[0]["why"]) == (COMMIT_MS + 50, "its own disk")


def test_a_process_that_was_not_run_tells_so() -> None:
    """It is no fault of the protocol that a process stood still."""
    with capture_logs() as logs:
        Stalls().look(core(0, ""), boot_ns() - 2 * PAUSED_MS * MS)
    assert told(logs) == ["this process was not run"]
    assert logs[0]["ms"] >= 2 * PAUSED_MS


def test_a_write_that_takes_long_is_told_of(monkeypatch: Any) -> None:
    """With what was written."""
    clock = iter([0, 2 * DISK_MS * MS, 0, 1])
    monkeypatch.setattr("vcap_es.adapters.stalls.boot_ns", lambda: next(clock))
    with capture_logs() as logs:
        with timed("log", events=3):
            pass
        with timed("log", events=3):
            pass
    assert told(logs) == ["slow disk"]
    assert (logs[0]["what"], logs[0]["events"]) == ("log", 3)
