"""Which data centres have a share of a cap's intervals, and how large. Pure.

A placement is `local`: its home alone; `even`: all, alike; `weighted`: all, by the weights that
the data centres have; `weighted dc1=3 dc2=1`: these, by these; or `spread 2`: two of all, alike.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b

from vcap_es.errors import InvalidInput
from vcap_es.shown import shown

CENTRES_MAX = 32
WEIGHT_MAX = 999_999
CENTRE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
"""The name of a data centre: it is a word of topics, and of queue names."""

PLACEMENT = (
    rf"^(local|even|weighted( {CENTRE}=[0-9]{{1,6}}){{0,{CENTRES_MAX}}}|spread [1-9][0-9]?)$"
)
_PLACEMENT = re.compile(PLACEMENT, re.ASCII)


def check_centre(value: object) -> str:
    """`value` itself, if it can be the name of a data centre; raises InvalidInput if not."""
    if isinstance(value, str) and re.fullmatch(CENTRE, value):
        return value
    raise InvalidInput(f"{shown(value)} is not 1 to 32 letters, digits or _ - of ASCII")


def check_placement(value: object) -> str:
    """`value` itself, if it is a placement; raises InvalidInput if not."""
    if not isinstance(value, str) or not _PLACEMENT.fullmatch(value):
        raise InvalidInput(
            f"{shown(value)} is no placement: write local, even, weighted, "
            "weighted dc1=3 dc2=1, or spread 2"
        )
    if value.startswith("weighted ") and len(weights_in(value)) < value.count("="):
        raise InvalidInput(f"{shown(value)} names a data centre twice")
    return value


def weights_in(placement: str) -> dict[str, int]:
    """The weights that a `weighted` placement spells out; none where it names no data centre."""
    pairs = (word.partition("=") for word in placement.split()[1:])
    return {name: int(weight) for name, _, weight in pairs}


def shares_of(placement: str, cap: str, home: str, centres: Mapping[str, int]) -> dict[str, int]:
    """The weights by which an interval of `cap` is split over data centres.

    `centres` are those that take part, with the weights that they have. `spread k` chooses k by
    rendezvous hashing (Thaler and Ravishankar, 1998), so one that comes or goes moves no other.
    Where nobody that takes part has a weight, the home has it all.
    """
    if placement == "even":
        return dict.fromkeys(centres, 1)
    if placement.startswith("weighted"):
        wanted = weights_in(placement) or centres
        weights = {name: weight for name, weight in wanted.items() if weight and name in centres}
        return weights or {home: 1}
    if placement.startswith("spread "):
        count = int(placement.partition(" ")[2])
        chosen = sorted(centres, key=lambda name: _rank(cap, name), reverse=True)[:count]
        return dict.fromkeys(chosen, 1)
    return {home: 1}


def _rank(cap: str, centre: str) -> bytes:
    return blake2b(f"{cap}\0{centre}".encode(), digest_size=8).digest()
