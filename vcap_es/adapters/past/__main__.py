"""The process that reads a log for the node beside it: `python -m vcap_es.adapters.past LOG`.

It hears questions on its standard input and answers on its standard output, and ends when the
first of them ends. It is as nice as can be, and the first to go where memory is short: nothing of
what it has is lost with it.
"""

import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path

import structlog

from vcap_es import telemetry
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.index import Index, discard, index_path
from vcap_es.adapters.past.indexing import Indexing
from vcap_es.adapters.past.messages import Alive, Frames, FromReader, framed
from vcap_es.adapters.past.readings import Readings
from vcap_es.clock import boot_ns
from vcap_es.events.logs.sqlite_pages import SqlitePages

ALIVE_NS = 1_000_000_000
"""Nanoseconds between two signs of life; new events are looked for as often."""

INDEX_AGAIN_NS = 60_000_000_000
"""Nanoseconds after a failure of the index until it is made anew."""

STEPS_BETWEEN = 8
"""While answers are under way, one step in this many goes into the index."""

NICENESS = 19
"""The most there is: of a CPU that serving wants as well, it gets a hundredth."""

READ_BYTES = 64 * 1024

log = structlog.get_logger()


class ReadingProcess:
    """Answers and indexing in turns, until nobody asks any more."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._pages = SqlitePages(log, boot_ns)
        self._archive = Archive(self._pages, self._index())
        self._indexing = Indexing(self._archive)
        self._readings = Readings(self._archive, self._send, time.process_time_ns)
        self._alive_at = self._failed_at = 0
        self._is_failure_told = False

    def run(self) -> None:
        """Serve until standard input ends."""
        frames, steps, is_busy = Frames(), 0, True
        while True:
            wait_s = 0.0 if is_busy else ALIVE_NS / 1e9
            ready, _, _ = select.select([sys.stdin], [], [], wait_s)
            if ready:
                data = os.read(sys.stdin.fileno(), READ_BYTES)
                if not data:
                    return
                for message in frames.feed(data):
                    self._readings.hear(message)
            steps += 1
            is_busy = steps % STEPS_BETWEEN > 0 and self._readings.step()
            is_busy = is_busy or self._indexing.step(self._readings.until) or self._readings.step()
            self._look_around()

    def _look_around(self) -> None:
        now = boot_ns()
        if now - self._alive_at < ALIVE_NS:
            return
        self._alive_at = now
        self._readings.until = max(self._readings.until, self._pages.committed())
        self._send(Alive(self._archive.index.scanned, self._readings.until))
        failure = self._archive.index.failure
        if failure and not self._is_failure_told:
            log.warning("the index of the log is not used", reason=failure)
        self._is_failure_told = bool(failure)
        if not failure:
            self._failed_at = now
        elif now - self._failed_at > INDEX_AGAIN_NS:
            self._archive.index.close()
            discard(index_path(self._log))
            self._archive.index = self._index()
            self._indexing = Indexing(self._archive)

    def _index(self) -> Index:
        return Index(index_path(self._log), self._pages.link_at, writes=True)

    def _send(self, message: FromReader) -> None:
        data = memoryview(framed(message))
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def main() -> None:
    """Be nice, and serve."""
    telemetry.configure("info", component="past")
    os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with suppress(BrokenPipeError, KeyboardInterrupt):
        ReadingProcess(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
