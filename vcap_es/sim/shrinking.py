"""Shrinking a life that fails: fewer mishaps, then a shorter time, as long as it still fails.

The mishaps are taken away, not the seed's other draws: each purpose has its own randomness.
"""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.profiles import PROFILES, mishaps, options
from vcap_es.sim.runs import live_once

TRIES_MAX = 300


class Case(Struct, frozen=True, kw_only=True):
    """A life with chosen mishaps, and the check that it failed when it was kept.

    `shows` is the planted bug that fails it, where it was kept for that.
    """

    profile: str
    seed: int
    check: str
    mishaps: list[Mishap]
    safety_ms: int
    shows: str = ""

    def live(self, say: Callable[[str], None] | None = None) -> str:
        """Live it: the check that fails now, "" where all is well."""
        return live_once(
            self.profile, self.seed, planned=self.mishaps, safety_ms=self.safety_ms, say=say
        ).check


def shrink(profile: str, seed: int, check: str) -> Case:
    """The smallest life found that fails the same check."""
    planned = mishaps(PROFILES[profile], seed)
    safety_ms = options(PROFILES[profile], seed).safety_ms
    case = Case(profile=profile, seed=seed, check=check, mishaps=planned, safety_ms=safety_ms)
    tries = Tries(case)
    kept = _fewest(planned, lambda some: tries.fails(some, safety_ms))
    for shorter_ms in (safety_ms // 8, safety_ms // 4, safety_ms // 2, safety_ms * 3 // 4):
        fitting = [each for each in kept if each.at_ms < shorter_ms]
        if len(fitting) == len(kept) and tries.fails(kept, shorter_ms):
            safety_ms = shorter_ms
            break
    return Case(profile=profile, seed=seed, check=check, mishaps=kept, safety_ms=safety_ms)


class Tries:
    """Lives to find out whether they still fail, up to so many."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._left = TRIES_MAX

    def fails(self, planned: list[Mishap], safety_ms: int) -> bool:
        """Whether a life with these mishaps fails the same check."""
        if self._left == 0:
            return False
        self._left -= 1
        case = self._case
        outcome = live_once(case.profile, case.seed, planned=planned, safety_ms=safety_ms)
        return outcome.check == case.check


def _fewest(planned: list[Mishap], fails: Callable[[list[Mishap]], bool]) -> list[Mishap]:
    """Delta debugging (Zeller and Hildebrandt, 2002): take away ever smaller parts."""
    kept, parts = planned, 2
    while kept:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept, parts = without, max(2, parts - 1)
                break
        else:
            if size == 1:
                return kept
            parts = min(len(kept), 2 * parts)
    return kept
