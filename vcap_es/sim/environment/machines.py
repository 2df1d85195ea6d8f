"""A machine: its clocks, and how well it does."""

from collections.abc import Callable

BOOTED_NS = 10**12
DRIFT_US = 5_000_000
"""A wall clock that departs further than this from the steady one is not followed."""


class Machine:
    """A host with a boot clock of its own rate, and a wall clock that may be set.

    `slowness` multiplies what its disk and its messages take. `true_ns` and `true_us` tell the
    time that no host knows: nanoseconds of the simulation, and microseconds UTC.
    """

    def __init__(self, name: str, true_ns: Callable[[], int], true_us: Callable[[], int]) -> None:
        self.name = name
        self.is_up = True
        self.slowness = 1
        self.rate_permille = 1000
        self.wall_ahead_us = 0
        self._true_ns, self._true_us = true_ns, true_us
        self._booted_ns = true_ns()

    def boot(self) -> None:
        """The machine comes up again: its boot clock begins anew."""
        self.is_up = True
        self._booted_ns = self._true_ns()

    @property
    def boot_ns(self) -> int:
        """The boot clock."""
        up_ns = self._true_ns() - self._booted_ns
        rate = self.rate_permille
        return BOOTED_NS + (up_ns if rate == 1000 else up_ns * rate // 1000)

    def wait_ns(self, until_ns: int) -> int:
        """How long it truly takes until the boot clock shows `until_ns`; at least 1."""
        return max(1, (until_ns - self.boot_ns) * 1000 // self.rate_permille + 1)

    def utc(self, begun_ahead_us: int) -> int:
        """Microseconds UTC for a process that began when the wall clock was so far ahead.

        Like the shell of a master, it follows a clock that is slewed, not one that jumped.
        """
        ahead = self.wall_ahead_us
        is_sound = abs(ahead - begun_ahead_us) <= DRIFT_US
        return self._true_us() + (ahead if is_sound else begun_ahead_us)
