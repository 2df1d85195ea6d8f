"""A node as a child process, which may end and be started again."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

AGAIN_SECONDS = (0.5, 30.0)
"""A child that ended is started again after the first; each time the pause is doubled, up to the
second. One that has lived for so long begins with the first again."""


class Child:
    """A node's process, and where it tells what it does."""

    def __init__(self, who: str, command: list[str], log: Path) -> None:
        """Start `command` in a session of its own, so that a Ctrl-C reaches only us."""
        self.who, self._command, self._log = who, command, log
        self._pause_s = AGAIN_SECONDS[0]
        self._due_s: float | None = None
        self.is_told = False
        self.start()

    def start(self) -> None:
        """Let it run, for the first time or again."""
        self._due_s, self.is_told = None, False
        with self._log.open("ab") as log:
            self._begin = log.tell()
            self.process = subprocess.Popen(self._command, stderr=log, start_new_session=True)  # noqa: S603  # our own interpreter and our own words
        self._started_s = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether it does not run."""
        return self.process.poll() is not None

    def obituary(self) -> str:
        """Who has ended, how, and the last line that it told."""
        told = self._log.read_bytes()[self._begin :].decode(errors="replace").strip()
        words = told.rpartition("\n")[2].removeprefix("vcap: ") or "it told nothing"
        code = self.process.returncode
        return f"{self.who} ended with exit code {code} (see {self._log}): {words}"

    def start_later(self) -> float:
        """Let it run again after a pause; gives that, in seconds."""
        now_s = time.monotonic()
        if now_s - self._started_s > AGAIN_SECONDS[1]:
            self._pause_s = AGAIN_SECONDS[0]
        pause_s = self._pause_s
        self._due_s, self._pause_s = now_s + pause_s, min(2 * pause_s, AGAIN_SECONDS[1])
        return pause_s

    @property
    def waits(self) -> bool:
        """Whether it is to be started again, and its pause is not over."""
        return self._due_s is not None and time.monotonic() < self._due_s

    @property
    def is_due(self) -> bool:
        """Whether it is to be started now."""
        return self._due_s is not None and time.monotonic() >= self._due_s


def end_all(processes: Iterable["subprocess.Popen[bytes]"], stop_s: float) -> None:
    """Ask processes to end, and end those that have not after `stop_s` seconds each."""
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
