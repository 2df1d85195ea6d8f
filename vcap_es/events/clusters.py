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


def difference(theirs: str, own: str) -> str:
    """In which way another cluster is not this one, as a sentence goes on after "it is of"."""
    if founding_of(theirs) != founding_of(own):
        return f"cluster {theirs}, and this is {own}: another cluster, founded by itself"
    then, now = generation_of(theirs), generation_of(own)
    if then == now:
        return f"cluster {theirs}, and this is {own}: another restoring of the same backup"
    which = "an older" if then < now else "a newer"
    return (
        f"cluster {theirs}, and this is {own}: {which} generation, from before or after a restore"
    )
