"""The gate: each planted bug is found within its budget, by a life that is sound without it."""

from collections.abc import Callable, Iterable
from time import perf_counter

from vcap_es.sim.mutations import Hunt, Mutation, hunt

FINDING_MAX = 100


def pass_gate(mutations: Iterable[Mutation], say: Callable[[str], None]) -> list[str]:
    """Hunt all these bugs, and say what found each; the names of those that came through.

    A life that fails without the bug as well has found nothing.
    """
    through: list[str] = []
    for mutation in mutations:
        began = perf_counter()
        found = hunt(mutation)
        is_found = found.seed is not None and is_sound(mutation, found.seed)
        if not is_found:
            through.append(mutation.name)
        verdict = killer(found) if is_found else f"SURVIVED {killer(found)}"
        say(f"{mutation.name:28} {perf_counter() - began:5.1f} s  {verdict}")
        say(f"{'':28} {mutation.rule}")
    return through


def killer(found: Hunt) -> str:
    """What found the bug: the life and, where it may have several seeds, the seed and more."""
    name = getattr(found.mutation.life, "__name__", "life")
    if found.seed is None:
        return f"{found.mutation.seeds} x {name}"
    if found.mutation.seeds == 1:
        return name
    return f"{name}, seed {found.seed}: {found.finding[:FINDING_MAX]}"


def is_sound(mutation: Mutation, seed: int) -> bool:
    """Whether this life ends well without the bug, as it must."""
    try:
        mutation.life(seed)
    except AssertionError:
        return False
    return True
