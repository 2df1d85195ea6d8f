"""Facts of nodes: where each is reached."""

from typing import Literal

from msgspec import Struct

from vcap_es.events.facts.bounds import Long

Role = Literal["master", "server"]


class NodeAddressChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """`node` told that it is reached at `address`, for the first time or anew.

    `stamp` counts the node's starts: of two addresses, that with the larger stamp holds.
    """

    node: str
    name: str
    role: Role
    address: str
    stamp: Long
