"""How fast units leave a pool, and how far ahead of that a wish has to be made."""

from vcap_es.events.units import SECOND_US

WINDOW_US = 100_000
"""A pace is taken over this at least. A new reading counts as much as all that was before."""

SHORTEST_US, UNKNOWN_US, LONGEST_US = 20_000, 200_000, 2_000_000
"""The shortest and the longest round trip that is believed, and what is until a wish was met."""

ROUND_TRIPS_AHEAD = 2


class SpendRate:
    """Readings of one pool: what has left it in all, and how long its wishes took."""

    def __init__(self) -> None:
        self._at = self._left = self._per_second = 0
        self._round_trip_us = UNKNOWN_US

    def note(self, left: int, now: int) -> None:
        """By `now`, microseconds UTC, `left` units have left the pool in all."""
        if not self._at:
            self._at, self._left = now, left
        elapsed_us = now - self._at
        if elapsed_us < WINDOW_US:
            return
        reading = max(0, left - self._left) * SECOND_US // elapsed_us
        self._per_second = (self._per_second + reading) // 2
        self._at, self._left = now, left

    def met(self, took_us: int) -> None:
        """A wish was met, after so long."""
        reading = min(max(took_us, SHORTEST_US), LONGEST_US)
        self._round_trip_us = (self._round_trip_us + reading) // 2

    @property
    def lead(self) -> int:
        """Units that leave the pool while a wish is under way, twice over."""
        return ROUND_TRIPS_AHEAD * self._per_second * self._round_trip_us // SECOND_US
