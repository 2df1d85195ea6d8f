"""Where the nodes of a data centre are, as a master knows: told to all servers, and to people."""

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest

from vcap_es.components.local_handler.liveness import Sighting
from vcap_es.components.messages.server import NodeAddress, Presence
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.node import NodeSeen

MASTERS_TOLD_MAX = 16
"""A master whose store was lost is another node ever after: only the last ones are told of."""

ABSENT_TOLD_MAX = 256
"""Servers that went and are still listed, at most: those seen last."""


def masters_of(state: DataCentre) -> list[NodeAddress]:
    """The masters that told where they are, who told last first."""
    told = reversed([each for each in state.nodes.items() if each[1].role == "master"])
    found = [_told(node, seen, "") for node, seen in told if seen.address]
    return found[:MASTERS_TOLD_MAX]


def servers_of(
    state: DataCentre, sightings: Mapping[str, Sighting], is_connected: Callable[[str], bool]
) -> list[NodeAddress]:
    """The servers that are connected, and those that went last, as the leading master sees them."""
    here: list[Sighting] = []
    absent: list[Sighting] = []
    for sighting in sightings.values():
        (here if is_connected(sighting.incarnation) else absent).append(sighting)
    last = nlargest(ABSENT_TOLD_MAX, absent, key=lambda each: each.seen_at)
    return [_seen(state, each, "connected") for each in here] + [
        _seen(state, each, "away" if each.lost_at is None else "lost") for each in last
    ]


def servers_told(state: DataCentre) -> list[NodeAddress]:
    """The servers that told where they are, who told last first: all that a follower knows."""
    told = reversed([each for each in state.nodes.items() if each[1].role == "server"])
    return [_told(node, seen, "") for node, seen in told][:ABSENT_TOLD_MAX]


def sorted_by_name(nodes: Iterable[NodeAddress]) -> list[NodeAddress]:
    """As people look for them: masters first, then by name."""
    return sorted(nodes, key=lambda each: (each.role, each.name, each.node))


def _seen(state: DataCentre, sighting: Sighting, presence: Presence) -> NodeAddress:
    """A server; of what it told, the log has that of its latest start."""
    seen = state.nodes.get(sighting.incarnation)
    if seen is not None:
        return _told(sighting.incarnation, seen, presence)
    return NodeAddress(sighting.incarnation, sighting.name, "server", sighting.address, 0, presence)


def _told(node: str, seen: NodeSeen, presence: Presence) -> NodeAddress:
    return NodeAddress(node, seen.name, seen.role, seen.address, seen.stamp, presence)
