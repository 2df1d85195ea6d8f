"""The units of time: instants are in microseconds, the clocks of machines in nanoseconds."""

MS = 1_000_000
"""Nanoseconds in a millisecond."""

SECOND_US = 1_000_000
"""Microseconds in a second."""
