"""Facts of primacy: who is the primary master, and at which epoch."""

from msgspec import Struct


class EpochStarted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`leader` writes this log from here on; earlier epochs write no more."""

    epoch: int
    leader: str
