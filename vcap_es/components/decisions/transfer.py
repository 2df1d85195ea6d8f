"""How much of an interval a data centre gives to another one, and in which phase. Pure."""

from vcap_es.events.facts import Mode, Phase
from vcap_es.projections.states.interval import Interval

WHOLE_PARTS = 16
"""Below so small a part of the total, the rest is better at one place."""


def mode_of(interval: Interval) -> Mode:
    """The phase of an interval; before its first change everybody has a share."""
    phase = phase_of(interval)
    return "spread" if phase is None else phase.mode


def phase_of(interval: Interval) -> Phase | None:
    """The newest phase that is known here."""
    return None if interval.sharing is None else interval.sharing.phase


def stamp(phase: Phase | None) -> tuple[int, int]:
    """Of two phases, the later one has the larger stamp."""
    return (0, 0) if phase is None else (phase.generation, phase.number)


def spare(available: int, waiting: int, mode: Mode, *, is_gatherer: bool) -> int:
    """What a pool may give to another data centre; `waiting` units are wanted by its own servers.

    Who shares gives half of what it does not need itself. When the rest is gathered, its gatherer
    gives everything by need; nobody else has any.
    """
    if mode == "recall":
        return 0
    if is_gatherer:
        return max(0, available - (waiting if mode == "spread" else 0))
    return max(0, available - waiting) // 2 if mode == "spread" else 0


def gift(target: int, moved: int, atom: int, spare_units: int) -> int:
    """The units given to who wishes for `target` in all and has been moved `moved`.

    None where they are fewer than the smallest consume that waits there: they would help nobody.
    """
    missing = max(0, target - moved)
    given = min(missing, spare_units)
    return given if given >= min(max(atom, 1), missing) else 0


def threshold(total: int, centres: int) -> int:
    """With no more than this left in all pools together, the rest is gathered."""
    return max(total // WHOLE_PARTS, 2 * centres)
