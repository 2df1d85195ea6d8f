"""Which data centres have a share of a cap's intervals, and how large. Pure.

A placement is `local`: its home alone; `even`: all, alike; `weighted`: all, by the weights that
the data centres have; `weighted dc1=3 dc2=1`: these, by these; or `spread 2`: two of all, alike.
Any other name is one that operators gave to one of these, and may give to another one.
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

TERMS = rf"local|even|weighted( {CENTRE}=[0-9]{{1,6}}){{0,{CENTRES_MAX}}}|spread [1-9][0-9]?"
NAME = r"(?!spread$)[a-z][a-z0-9-]{0,31}"
PLACEMENT = rf"^({TERMS}|{NAME})$"
_TERMS = re.compile(TERMS, re.ASCII)
_NAME = re.compile(NAME, re.ASCII)


def check_centre(value: object) -> str:
    """`value` itself, if it can be the name of a data centre; raises InvalidInput if not."""
    if isinstance(value, str) and re.fullmatch(CENTRE, value):
        return value
    raise InvalidInput(f"{shown(value)} is not 1 to 32 letters, digits or _ - of ASCII")


def is_named(placement: str) -> bool:
    """Whether a placement can only be a name that operators gave."""
    return _TERMS.fullmatch(placement) is None


def check_placement_name(value: object) -> str:
    """`value` itself, if it can name a placement; raises InvalidInput if not."""
    if isinstance(value, str) and _NAME.fullmatch(value) and is_named(value):
        return value
    raise InvalidInput(
        f"{shown(value)} cannot name a placement: write 1 to 32 of a-z, 0-9 and -, a letter first, "
        "other than local, even, weighted and spread"
    )


def check_placement(value: object) -> str:
    """`value` itself, if it is a placement or can name one; raises InvalidInput if not."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    return check_terms(value)


def check_terms(value: object) -> str:
    """`value` itself, if it says who has which share; raises InvalidInput if not."""
    if not isinstance(value, str) or not _TERMS.fullmatch(value):
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
    Where nobody that takes part has a weight, the home has it all; and where `placement` is a name
    that means nothing.
    """
    if placement == "even":
        return dict.fromkeys(centres, 1) or {home: 1}
    if placement.startswith("weighted"):
        wanted = weights_in(placement) or centres
        weights = {name: weight for name, weight in wanted.items() if weight and name in centres}
        return weights or {home: 1}
    if placement.startswith("spread "):
        count = int(placement.partition(" ")[2])
        chosen = sorted(centres, key=lambda name: _rank(cap, name), reverse=True)[:count]
        return dict.fromkeys(chosen, 1) or {home: 1}
    return {home: 1}


def _rank(cap: str, centre: str) -> bytes:
    return blake2b(f"{cap}\0{centre}".encode(), digest_size=8).digest()
