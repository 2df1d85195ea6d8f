"""Stamps that never run backwards, and are never behind what other data centres have told.

A hybrid logical clock (Kulkarni and others, 2014): the wall clock where it is ahead, else the
largest stamp that was seen. An event that was caused by another one, wherever that was recorded,
has no smaller stamp. Ties are broken by data centre and position.
"""

AHEAD_US = 5_000_000
"""A clock that is further ahead than this is wrong, and is not followed."""


def departure(utc: int, now: int) -> int:
    """How far the clock of another node at `utc` is ahead of ours at `now`, in microseconds.

    0 where it does not tell, or where that is no more than clocks may differ.
    """
    return utc - now if utc and abs(utc - now) > AHEAD_US else 0


class HybridClock:
    """The stamps of one master's epoch."""

    def __init__(self, last: int) -> None:
        """Begin with the largest stamp on the log, in microseconds UTC."""
        self.stamp = last
        self.ahead: dict[str, int] = {}
        """Data centres whose clock is too far ahead, and by how much, in microseconds."""

    def tick(self, now: int) -> int:
        """The stamp of what is recorded at `now`."""
        self.stamp = max(self.stamp, now)
        return self.stamp

    def hear(self, centre: str, stamp: int, now: int) -> None:
        """Another data centre has come to `stamp`."""
        if stamp > now + AHEAD_US:
            self.ahead[centre] = stamp - now
            return
        self.ahead.pop(centre, None)
        self.stamp = max(self.stamp, stamp)
