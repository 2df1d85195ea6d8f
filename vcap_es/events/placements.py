"""Which data centres have a share of a cap's intervals, and how large. Pure."""

from collections.abc import Mapping
from hashlib import blake2b


def shares_of(placement: str, cap: str, home: str, centres: Mapping[str, int]) -> dict[str, int]:
    """The weights by which an interval of `cap` is split over data centres.

    `centres` are those that take part, with the weights of a `weighted` placement. `spread k`
    chooses k by rendezvous hashing (Thaler and Ravishankar, 1998), so one that comes or goes
    moves no other.
    """
    if placement == "even":
        return dict.fromkeys(centres, 1)
    if placement == "weighted":
        weights = {name: weight for name, weight in centres.items() if weight}
        return weights or {home: 1}
    if placement.startswith("spread "):
        count = int(placement.partition(" ")[2])
        chosen = sorted(centres, key=lambda name: _rank(cap, name), reverse=True)[:count]
        return dict.fromkeys(chosen, 1)
    return {home: 1}


def _rank(cap: str, centre: str) -> bytes:
    return blake2b(f"{cap}\0{centre}".encode(), digest_size=8).digest()
