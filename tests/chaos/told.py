"""What clients were told. Nothing of it may ever turn out untrue."""

import time
from collections import Counter, defaultdict
from itertools import pairwise
from typing import NamedTuple

KINDS = ("write", "topup")
"""What a master acknowledges: an operator's change, and a slice for a server."""


class Trouble(NamedTuple):
    """A client of a server whose slice sufficed was not served, at this second of the clock."""

    at: float
    server: int
    what: str


class Gap(NamedTuple):
    """So many seconds without an acknowledgement, `since` one at this second of the clock."""

    seconds: float
    since: float


class Told:
    """The acknowledgements of one deployment; instants are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.acks: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.values: dict[str, list[int]] = defaultdict(list)
        """The values that were acknowledged of each writer's cap, in order."""
        self.topped: list[str] = []
        """The caps of which a unit was consumed that only a master can have given."""
        self.consumed: Counter[str] = Counter()
        """Units by cap: told to be consumed and not to be refunded."""
        self.unknown: Counter[str] = Counter()
        """Units by cap of which nobody heard whether they were consumed."""
        self.answers: Counter[int] = Counter()
        self.steady = 0
        self.troubles: list[Trouble] = []

    def wrote(self, cap: str, value: int) -> None:
        """An operator's change was acknowledged."""
        self.values[cap].append(value)
        self.acks["write"].append(time.monotonic())

    def topped_up(self, cap: str) -> None:
        """A consume was answered yes that needed a topup of its own."""
        self.topped.append(cap)
        self.consumed[cap] += 1
        self.acks["topup"].append(time.monotonic())

    def is_acknowledging(self, since: float) -> bool:
        """Whether there was an acknowledgement of each kind since then."""
        return all(acks and acks[-1] > since for acks in self.acks.values())

    def gap(self, kind: str, since: float, until: float) -> "Gap":
        """The longest time between two acknowledgements, of which some lay in that span."""
        acks = self.acks[kind]
        gaps = [Gap(b - a, a) for a, b in pairwise(acks) if b > since and a < until]
        return max(gaps, default=Gap(0.0, since))
