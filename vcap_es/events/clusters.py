"""What a cluster is called: a name made when it is founded, and a new one each time it is restored.

Whoever speaks to a node names its cluster first, and is refused by one of another. A log that was
restored from a backup begins a new generation: it lacks what the one before recorded later, so the
nodes of that one are not its own, though the founding was the same.

A name is the founding (32 hexadecimal digits), and from the first restoring on the generation and
eight digits of its own, as in `9f…c1+2.0b6e11aa`. Two restorings of one backup differ by those.
"""

from typing import Annotated

from msgspec import Meta

ClusterName = Annotated[
    str, Meta(pattern=r"^([0-9A-Za-z-]{1,64}(\+[1-9]\d{0,8}\.[0-9a-f]{8})?)?\Z")
]
"""The name of a cluster as peers may send it; "" where a node belongs to none yet."""

RESTORED_BYTES = 4
"""Random bytes that tell two restorings of one backup apart."""


def generation_of(cluster: str) -> int:
    """How often the log of `cluster` was restored from a backup; 0 for one that never was."""
    _, plus, rest = cluster.partition("+")
    return int(rest.partition(".")[0]) if plus else 0


def founding_of(cluster: str) -> str:
    """The part of the name that all generations share."""
    return cluster.partition("+")[0]


def restored(cluster: str, random: bytes) -> str:
    """The name of the next generation of `cluster`, made with `RESTORED_BYTES` random bytes."""
    return f"{founding_of(cluster)}+{generation_of(cluster) + 1}.{random.hex()}"


def is_of(log: str, cluster: str) -> bool:
    """Whether a log that calls itself `log` may be a copy of `cluster`, in whole or the first part.

    A copy that has not come to the restoring yet still has the name of an earlier generation.
    """
    is_earlier = generation_of(log) < generation_of(cluster)
    return log == cluster or (founding_of(log) == founding_of(cluster) and is_earlier)


def is_restored_from(later: str, cluster: str) -> bool:
    """Whether a log that calls itself `later` may be of a later generation of `cluster`."""
    is_later = generation_of(later) > generation_of(cluster)
    return founding_of(later) == founding_of(cluster) and is_later


def obstacle(own: str, theirs: str) -> str:
    """Why a node of `own` does not speak with one of `theirs`, "" where it may.

    A node that names no cluster yet may speak with those of any.
    """
    return difference(own, theirs) if own and theirs and own != theirs else ""


def difference(one: str, other: str) -> str:
    """Why nodes of these two clusters do not speak with each other; true for both of them."""
    names = f"{_short(one)} and {_short(other)}"
    if founding_of(one) != founding_of(other):
        return f"we are of two clusters, {names}: each was founded by itself"
    if generation_of(one) != generation_of(other):
        return f"we are of two generations, {names}: one was restored from a backup"
    return f"we are of two clusters, {names}: both were restored from one backup"


def _short(cluster: str) -> str:
    """As much of a name as tells it from others, so that the reason for closing a line holds it."""
    founding, plus, rest = cluster.partition("+")
    return f"{founding[:8]}{plus}{rest}"
