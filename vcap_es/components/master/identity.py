"""Who a master is, and the moment at which it is told something."""

from typing import NamedTuple

from msgspec import Struct


class Moment(NamedTuple):
    """Now: the boot clock in nanoseconds, which measures, and microseconds UTC, which stamp."""

    boot_ns: int
    utc: int


class Identity(Struct, frozen=True, kw_only=True, gc=False):
    """Who a master is: its slot, its name, and where others reach it."""

    dc: str
    slot: int
    name: str
    address: str
    host: str = ""
    spawns: bool = False
