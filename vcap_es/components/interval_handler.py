"""The interval handler: opens, changes, ends and closes the intervals of every meta.

A hundred thousand caps may have the same midnight. What is due is therefore done in chunks, and
between two chunks everybody else is served.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from vcap_es.components.decisions.interval import due, next_due
from vcap_es.events.facts import Fact
from vcap_es.projections.states.data_centre import DataCentre

CHUNK = 200
"""Metas looked at in one step."""


class IntervalHandler:
    """Keeps for each meta the instant at which something is due, and does it then."""

    def __init__(self, state: DataCentre, record: Callable[[Fact], None], now: int) -> None:
        self._state = state
        self._record = record
        self._due: dict[str, int] = dict.fromkeys(state.metas, now)
        self._heap = [(now, cap) for cap in state.metas]
        heapify(self._heap)

    def look_at(self, cap: str, now: int) -> None:
        """Something about `cap` has changed: record at once what follows for its intervals."""
        meta = self._state.metas[cap]
        while facts := due(meta, now):
            for fact in facts:
                self._record(fact)
        self._schedule(cap, next_due(meta, now))

    def look_later(self, cap: str, now: int) -> None:
        """Something about `cap` may have become due: look at it in the next chunk."""
        self._schedule(cap, now)

    def step(self, now: int) -> None:
        """Do up to one chunk of what is due at `now`."""
        for _ in range(CHUNK):
            if not self._heap or self._heap[0][0] > now:
                return
            instant, cap = heappop(self._heap)
            if self._due.get(cap) == instant:
                del self._due[cap]
                self.look_at(cap, now)

    @property
    def next_due(self) -> int | None:
        """The instant of the next thing to do, in microseconds UTC."""
        return self._heap[0][0] if self._heap else None

    def _schedule(self, cap: str, instant: int | None) -> None:
        if instant is None:
            self._due.pop(cap, None)
        elif self._due.get(cap) != instant:
            self._due[cap] = instant
            heappush(self._heap, (instant, cap))
