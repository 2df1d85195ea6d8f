"""Mishaps: what goes wrong in a life, when, to whom, and for how long.

They are drawn before the life begins, so a life that fails is lived again without some of them, to
find those that matter.
"""

from random import Random

from msgspec import Struct

DAY_US = 86_400_000_000


class Mishap(Struct, frozen=True, array_like=True):
    """`kind` happens to `who` at `at_ms` after the beginning, and is over `lasts_ms` later.

    `amid` is a crash while a ballot is being written, `behind` one when it is, with `amount` of the
    disk as well. `force` lets operators promote `who`, and `other` loses its disk. `other` is the
    second of two; for a log that loses its tail "heard" means what witnesses have heard of, not
    only what they keep. `amount` is milliseconds of delay for a clog, microseconds for a wall
    clock, events for a tail.
    """

    at_ms: int
    kind: str
    who: str
    other: str = ""
    lasts_ms: int = 0
    amount: int = 0

    def __str__(self) -> str:
        """In a few words."""
        other = f"|{self.other}" if self.other else ""
        lasts = f" for {self.lasts_ms / 1000:g}s" if self.lasts_ms else ""
        return f"{self.kind} {self.who}{other} @{self.at_ms / 1000:g}{lasts}"


WEIGHTS = {
    "crash": 20,
    "power": 6,
    "amid": 4,
    "behind": 2,
    "pause": 8,
    "slow": 4,
    "part": 10,
    "cut": 12,
    "isolate": 8,
    "clog": 5,
    "reset": 6,
    "fsync": 3,
    "full": 3,
    "tail": 2,
    "wipe": 3,
    "wall": 2,
    "switch": 6,
    "stop": 3,
}
"""How often each kind is drawn; a profile may have its own."""

ON_MASTERS = {"fsync", "full", "hang", "tail", "wall", "switch"}
ON_PAIRS = {"part", "cut", "clog", "reset"}


def draw(
    random: Random,
    weights: dict[str, int],
    names: list[str],
    *,
    count: int,
    until_ms: int,
    lasts_ms: tuple[int, ...],
) -> list[Mishap]:
    """So many mishaps at random times; `names` are the masters and then the servers.

    Each lasts up to one of `lasts_ms`.
    """
    kinds, chances = list(weights), list(weights.values())
    drawn = [
        _mishap(random, kind, names, random.randint(0, until_ms), random.choice(lasts_ms))
        for kind in random.choices(kinds, chances, k=count)
    ]
    return sorted(drawn, key=lambda each: each.at_ms)


def _mishap(random: Random, kind: str, names: list[str], at_ms: int, lasts_ms: int) -> Mishap:
    masters = [each for each in names if each.startswith("m")]
    # Masters are where it matters.
    who = random.choice(masters if kind in ON_MASTERS or random.random() < 0.6 else names)
    if kind in ON_PAIRS:
        other = random.choice([each for each in names if each != who])
        if other not in masters and who not in masters:
            other = random.choice(masters)
    else:
        other = ""
    amount = 0
    if kind == "clog":
        amount = random.choice((5, 50, 300, 1500))
    elif kind == "wall":
        amount = random.choice((DAY_US, -DAY_US, 2_000_000, -2_000_000))
    elif kind == "tail":
        amount = random.randint(1, 30)
    return Mishap(at_ms, kind, who, other, random.randint(1, lasts_ms), amount)
