"""What follows from a node's telling where it is reached."""

from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.facts.node import Role
from vcap_es.projections.states.data_centre import DataCentre


def seen(
    state: DataCentre, *, node: str, name: str, role: Role, address: str, stamp: int
) -> NodeAddressChanged | None:
    """The fact that follows; None where it is known already, or a later start has told.

    A later start is recorded though it tells the same: what is still to come of an earlier one
    must not win over it.
    """
    known = state.nodes.get(node)
    if known is not None:
        told, before = (name, role, address), (known.name, known.role, known.address)
        if stamp < known.stamp or (stamp == known.stamp and told == before):
            return None
    return NodeAddressChanged(node=node, name=name, role=role, address=address, stamp=stamp)
