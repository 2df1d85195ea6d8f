"""The clocks that the shells read and tell the core."""

import time


def now_us() -> int:
    """The wall clock in microseconds UTC: it stamps facts."""
    return time.time_ns() // 1000


def boot_ns() -> int:
    """The boot clock in nanoseconds: it measures durations and counts a suspended machine too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
