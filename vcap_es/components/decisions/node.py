"""What follows from a node's telling where it is reached."""

from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.facts.node import Role
from vcap_es.projections.states.data_centre import DataCentre


def seen(
    state: DataCentre, *, node: str, name: str, role: Role, address: str, stamp: int
) -> NodeAddressChanged | None:
    """The fact that follows; None where it is known already, or a later start told otherwise."""
    known = state.nodes.get(node)
    if known is not None:
        is_same = (known.name, known.role, known.address) == (name, role, address)
        if is_same or stamp < known.stamp:
            return None
    return NodeAddressChanged(node=node, name=name, role=role, address=address, stamp=stamp)
