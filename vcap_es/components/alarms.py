"""Alarms: what is to be done at an instant of the boot clock, unless it is called off."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

Ring = Callable[[int], None]

CALLED_OFF_MIN = 1000
"""Below so many, alarms that were called off are left for their instant to sweep away."""


class Alarm:
    """One thing to do; `ring` is None when it is done or called off."""

    __slots__ = ("ring",)

    def __init__(self, ring: Ring) -> None:
        self.ring: Ring | None = ring


class Alarms:
    """All alarms of one server. Those called off take no more room than those that are on."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Alarm]] = []
        self._count = 0
        self._called_off = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, at_ns: int, ring: Ring) -> Alarm:
        """Call `ring` with the time when the boot clock reaches `at_ns`."""
        alarm = Alarm(ring)
        self._count += 1
        heappush(self._heap, (at_ns, self._count, alarm))
        return alarm

    def call_off(self, alarm: Alarm) -> None:
        """Let the alarm not ring, if it has not rung."""
        if alarm.ring is None:
            return
        alarm.ring = None
        self._called_off += 1
        if self._called_off > max(CALLED_OFF_MIN, len(self._heap) // 2):
            self._heap = [each for each in self._heap if each[2].ring is not None]
            heapify(self._heap)
            self._called_off = 0

    def ring(self, now_ns: int) -> None:
        """Ring all that are due."""
        while self._heap and self._heap[0][0] <= now_ns:
            alarm = heappop(self._heap)[2]
            ring, alarm.ring = alarm.ring, None
            if ring is None:
                self._called_off -= 1
            else:
                ring(now_ns)

    @property
    def next_ns(self) -> int | None:
        """When the next one rings."""
        while self._heap and self._heap[0][2].ring is None:
            heappop(self._heap)
            self._called_off -= 1
        return self._heap[0][0] if self._heap else None
