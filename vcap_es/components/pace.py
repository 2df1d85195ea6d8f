"""How fast units leave a pool, and how far ahead of that a wish has to be made."""

WINDOW_US = 100_000
"""A pace is taken over this at least."""

KEPT = 0.5
"""How much of what was known a new reading leaves."""

ROUND_TRIP_US = (20_000, 200_000, 2_000_000)
"""The shortest and the longest that is believed, and what is until a wish was met (between)."""

ROUND_TRIPS_AHEAD = 2


class Pace:
    """Readings of one pool: what has left it in all, and how long its wishes took."""

    def __init__(self) -> None:
        self._at = self._left = 0
        self._per_second = 0.0
        self._round_trip_us = float(ROUND_TRIP_US[1])

    def note(self, left: int, now: int) -> None:
        """By `now`, microseconds UTC, `left` units have left the pool in all."""
        if not self._at:
            self._at, self._left = now, left
        elapsed_us = now - self._at
        if elapsed_us < WINDOW_US:
            return
        reading = max(0, left - self._left) * 1_000_000 / elapsed_us
        self._per_second = KEPT * self._per_second + (1 - KEPT) * reading
        self._at, self._left = now, left

    def met(self, took_us: int) -> None:
        """A wish was met, after so long."""
        shortest, _, longest = ROUND_TRIP_US
        reading = min(max(took_us, shortest), longest)
        self._round_trip_us = KEPT * self._round_trip_us + (1 - KEPT) * reading

    @property
    def lead(self) -> int:
        """Units that leave the pool while a wish is under way, twice over."""
        return int(ROUND_TRIPS_AHEAD * self._per_second * self._round_trip_us / 1_000_000)
