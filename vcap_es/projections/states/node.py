"""The state of nodes: what each is called and where it is reached, by what it told last."""

from msgspec import Struct

from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.facts.node import Role

NODES_MAX = 10_000
"""Nodes that are known, at most: beyond, the one that told its address longest ago is forgotten."""


class NodeSeen(Struct, frozen=True, kw_only=True, gc=False):
    """A node, as it told in its start number `stamp`; of two, the larger `order` told later."""

    name: str
    role: Role
    address: str
    stamp: int
    order: int


def evolve(nodes: dict[str, NodeSeen], fact: NodeAddressChanged) -> None:
    """`fact` has become true; of two addresses, that with the larger stamp holds.

    `nodes` are in the order of their `order`, and are so afterwards.
    """
    known = nodes.get(fact.node)
    if known is not None and known.stamp > fact.stamp:
        return
    order = nodes[next(reversed(nodes))].order + 1 if nodes else 1
    nodes.pop(fact.node, None)
    nodes[fact.node] = NodeSeen(
        name=fact.name, role=fact.role, address=fact.address, stamp=fact.stamp, order=order
    )
    if len(nodes) > NODES_MAX:
        del nodes[next(iter(nodes))]


def in_order(nodes: dict[str, NodeSeen]) -> dict[str, NodeSeen]:
    """The same nodes, who told longest ago first: a snapshot keeps them by their ids."""
    return dict(sorted(nodes.items(), key=lambda each: each[1].order))
