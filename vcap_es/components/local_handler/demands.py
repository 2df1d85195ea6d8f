"""What servers want of an interval's pool, and what other data centres have left of it."""

from msgspec import Struct

from vcap_es.components.messages.server import MessageNumber


class Left(Struct, frozen=True, gc=False):
    """Units that may be in other data centres; more cannot be moved here if it `is_counted_out`."""

    units: int = 0
    is_counted_out: bool = False


class ServerDemand(Struct):
    """What an incarnation last told of itself; taken only from its newest report."""

    order: MessageNumber = (0, 0)
    connection: int = 0
    received: int = 0
    need: int = 0
    want: int = 0
    queued: int = 0
    final: bool = False


class PoolDemand(Struct, frozen=True, gc=False):
    """What the servers of a data centre want of an interval, and have not.

    `waiting` has what the first consume of each is short of, first in, first out; `short` are they
    of all waiting consumes, and `ahead` of need they would have so much more.
    """

    waiting: list[int] = []
    short: int = 0
    ahead: int = 0
