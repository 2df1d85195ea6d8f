"""Virtual time: what happens next, in one order that a seed decides."""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from zlib import crc32

from vcap_es.sim.environment.violations import Violation

STREAMS = ("net", "disk", "times", "workload", "cores", "edits", "secrets")


class Streams:
    """Independent randomness by purpose, so that taking away from one does not shift the others."""

    def __init__(self, seed: int) -> None:
        self.net, self.disk, self.times, self.workload, self.cores, self.edits, self.secrets = (
            Random(f"{seed}/{name}") for name in STREAMS
        )


class Scheduler:
    """A heap of calls by virtual time. Calls of the same time happen in the order of asking.

    What is run is taken to have no end after `events_max` events. `trace` is a number that two
    runs share only if the same things happened at the same times.
    """

    def __init__(self) -> None:
        self.events_max = 1 << 62
        self.now_ns = 0
        self.events = 0
        self.trace = 0
        self._order = count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call something in `delay_ns` nanoseconds."""
        heapq.heappush(self._heap, (self.now_ns + delay_ns, next(self._order), call))

    def step(self, until_ns: int) -> bool:
        """Let the next thing happen, if it is due by `until_ns`; else let time pass until then."""
        if not self._heap or self._heap[0][0] > until_ns:
            self.now_ns = max(self.now_ns, until_ns)
            return False
        at_ns, _, call = heapq.heappop(self._heap)
        self.now_ns = max(self.now_ns, at_ns)
        self.events += 1
        if self.events > self.events_max:
            raise Violation("C8", f"{self.events_max} events, and no end")
        call()
        return True

    def note(self, data: bytes) -> None:
        """Let what happens now be part of the trace."""
        # A tuple of integers has the same hash in every process, unlike text and bytes.
        self.trace = hash((self.trace, self.now_ns, crc32(data)))
