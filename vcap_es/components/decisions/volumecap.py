"""How much of a pool is granted: arithmetic of slices, in integers."""

from vcap_es.projections.states.interval import Interval

SLICES_PER_SERVER = 2


def share(available: int, active: int) -> int:
    """What one of `active` servers may get ahead of need: it shrinks with what is left."""
    return max(0, available) // (SLICES_PER_SERVER * max(1, active))


def free(interval: Interval, now: int) -> int:
    """What an evenly paced interval may grant at `now`: what is released and has not left yet."""
    pool = interval.pool
    left = pool.minted - pool.available
    return min(pool.available, released(interval, now) - left)


def released(interval: Interval, now: int) -> int:
    """The units that even pacing has released by `now`; all of them at the end."""
    elapsed = min(max(0, now - interval.start), interval.end - interval.start)
    return interval.pool.minted * elapsed // (interval.end - interval.start)


def released_at(interval: Interval, missing: int) -> int:
    """The first instant at which even pacing has released `missing` more than has left."""
    pool, length = interval.pool, interval.end - interval.start
    wanted = min(pool.minted, pool.minted - pool.available + missing)
    return interval.start + -(-wanted * length // max(1, pool.minted))
