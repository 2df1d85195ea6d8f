"""The interval handler: opens, changes, ends and closes the intervals of every meta.

A hundred thousand caps may have the same midnight. What is due is therefore done in chunks, and
between two chunks everybody else is served.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from vcap_es.components.decisions.interval import AHEAD, due, next_due
from vcap_es.errors import InvalidDefinition, InvalidInput
from vcap_es.events.facts import Fact
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta

CHUNK = 200
"""Metas looked at in one step."""

TROUBLED_US = 60_000_000
"""How long a cap waits whose calendar cannot be computed, before it is tried again."""


class IntervalHandler:
    """Keeps for each meta the instant at which something is due, and does it then.

    `troubled` are the caps whose periods cannot be computed (a zone that new time zone data has not
    any more), and why: they stand still, and nobody else does.

    `on_demand`, time alone opens nothing but the first interval of a meta: `open` does.
    """

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        now: int,
        *,
        on_demand: bool = False,
    ) -> None:
        self._state = state
        self._record = record
        self._on_demand = on_demand
        self._due: dict[str, int] = dict.fromkeys(state.metas, now)
        self._heap = [(now, cap) for cap in state.metas]
        self._soon: dict[str, None] = {}
        self.troubled: dict[str, str] = {}
        heapify(self._heap)

    def look_at(self, cap: str, now: int) -> None:
        """Something about `cap` has changed: record at once what follows for its intervals."""
        try:
            self._schedule(cap, self._look(cap, now))
            self.troubled.pop(cap, None)
        except (InvalidDefinition, InvalidInput) as trouble:
            self.troubled[cap] = str(trouble)
            self._schedule(cap, now + TROUBLED_US)

    def open(self, cap: str, now: int) -> None:
        """Somebody asks for `cap`: let the interval that `now` lies in be open, if there is one."""
        meta = self._state.metas[cap]
        for fact in due(meta, now, ahead=0):
            self._record(fact)
        self.look_at(cap, now)

    def _look(self, cap: str, now: int) -> int | None:
        meta = self._state.metas[cap]
        primacy = self._state.primacy
        restored = primacy.restored if primacy.is_withholding else None
        restored_at = restored.restored_at if restored is not None else None
        if self._state.is_unconfirmed(meta):
            restored_at = now  # somebody else may have been told to open it
        lost = [name for name, each in self._state.centres.items() if each.membership == "lost"]
        while facts := due(meta, now, self._ahead(meta), restored_at, lost):
            for fact in facts:
                self._record(fact)
        return next_due(meta, now, self._ahead(meta))

    def _ahead(self, meta: Meta) -> int | None:
        if not self._on_demand:
            return AHEAD
        return None if meta.next_number else 0

    def look_later(self, cap: str) -> None:
        """Something about `cap` may have become due: look at it in the next chunk."""
        self._soon[cap] = None

    def step(self, now: int) -> None:
        """Do up to one chunk of what is due at `now`."""
        for _ in range(CHUNK):
            cap = self._next(now)
            if cap is None:
                return
            self.look_at(cap, now)

    def _next(self, now: int) -> str | None:
        """A cap to look at now. Entries of the heap that are not due any more are passed over."""
        while self._heap and self._heap[0][0] <= now:
            instant, cap = heappop(self._heap)
            if self._due.get(cap) == instant:
                del self._due[cap]
                self._soon.pop(cap, None)
                return cap
        return self._soon.popitem()[0] if self._soon else None

    def next_due(self, now: int) -> int | None:
        """The instant of the next thing to do, in microseconds UTC; `now` if it waits already."""
        if self._soon:
            return now
        return self._heap[0][0] if self._heap else None

    def _schedule(self, cap: str, instant: int | None) -> None:
        if instant is None:
            self._due.pop(cap, None)
        elif self._due.get(cap) != instant:
            self._due[cap] = instant
            heappush(self._heap, (instant, cap))
