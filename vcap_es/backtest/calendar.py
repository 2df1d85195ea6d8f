"""The calendar of a backtest: every period between two instants, with traffic or without.

Intervals are opened only where the trace has traffic; a report lists the empty ones as well. Caps
of one calendar share their periods, each computed and written once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from vcap_es.events.facts import Definition
from vcap_es.events.instants import format_instant
from vcap_es.events.periods import Window, first_window, next_window


class TrafficPeriod(NamedTuple):
    """`[start, end)` in microseconds UTC, and both as people write them."""

    start: int
    end: int
    begins: str
    ends: str


class Calendar:
    """The periods of definitions, up to the one in which the instant `until` lies."""

    def __init__(self, until: int) -> None:
        self._until = until
        self._known: dict[tuple[object, ...], list[TrafficPeriod]] = {}

    def periods(self, definition: Definition, since: int) -> list[TrafficPeriod]:
        """Those of `definition` from the instant `since` on, oldest first."""
        key = (definition.interval, definition.timezone, definition.start, definition.end, since)
        if key not in self._known:
            self._known[key] = list(self._periods(definition, since))
        return self._known[key]

    def _periods(self, definition: Definition, since: int) -> Iterator[TrafficPeriod]:
        window: Window | None = first_window(definition, since)
        begins_at, begins = -1, ""
        while window is not None and window.start <= self._until:
            if window.start != begins_at:
                begins = format_instant(window.start)
            ends = format_instant(window.end)
            yield TrafficPeriod(window.start, window.end, begins, ends)
            begins_at, begins = window.end, ends
            window = next_window(definition, window.end)
