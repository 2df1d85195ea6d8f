"""The state of nodes: where each is reached, by what it told last."""

from vcap_es.events.facts import NodeAddressChanged

NODES_MAX = 10_000
"""Beyond so many, the node that spoke longest ago is forgotten first."""


def evolve(nodes: dict[str, NodeAddressChanged], fact: NodeAddressChanged) -> None:
    """`fact` has become true; of two addresses, that with the larger stamp holds."""
    known = nodes.pop(fact.node, None)
    nodes[fact.node] = known if known is not None and known.stamp > fact.stamp else fact
    if len(nodes) > NODES_MAX:
        del nodes[next(iter(nodes))]
