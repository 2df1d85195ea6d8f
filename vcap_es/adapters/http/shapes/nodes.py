"""Nodes, and who of them leads, as the control plane answers them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from vcap_es.adapters.http.shapes.scalars import Instant, Name
from vcap_es.components.messages.server import NodeAddress
from vcap_es.events.facts.node import Role as NodeRole


class Leader(Struct, frozen=True, kw_only=True):
    """The master that leads, and where it is reached."""

    name: str
    address: str


class ForcedPromotion(Struct, frozen=True, kw_only=True):
    """Operators let the node `leader` lead, which may have lacked what was acknowledged.

    The nodes `isr` had everything; up to `committed` something was known to be acknowledged.
    """

    leader: str
    approved_by: list[str]
    isr: list[str]
    committed: int


class Primacy(Struct, frozen=True, kw_only=True):
    """What a master knows of who leads.

    `active`: a majority of the voters follows, so that what it does is acknowledged. `isr` are the
    nodes that have everything which was; `voters` decide together who leads, and `witnesses` are
    the linked servers that may vote. `position` is the last event on its disk, `committed` the
    last that every node of `isr` has, and `lag` counts the committed events that it lacks.
    `masters` are the addresses of all masters. `approved_by` are the operators who want it to lead
    at the price of what it lacks. The rest counts what happened since the cluster was founded.
    `cluster` is null where this master waits to be admitted to one.
    """

    cluster: str | None
    node: str
    name: str
    dc: str
    slot: int
    role: str
    active: bool
    suspicion: str | None
    epoch: int
    version: int
    leader: Leader | None
    isr: list[str]
    voters: list[str]
    witnesses: list[str]
    position: int
    committed: int
    lag: int
    masters: list[str]
    approved_by: list[str]
    spawned: int
    switchovers: int
    divergences: int
    forced: list[ForcedPromotion]


class Switchover(Struct, frozen=True, kw_only=True):
    """Another master leads now."""

    leader: Leader


class PromotionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`accept_loss`: what was acknowledged and is not in this master's copy will be gone.

    `gone` are voters that never come back, by their ids or the beginnings of them, as `m0` or
    `w-s1`: nobody waits for their votes. None of them may ever be started again.
    """

    accept_loss: bool
    gone: Annotated[list[Name], Meta(max_length=5)] = []


class Promotion(Struct, frozen=True, kw_only=True):
    """Who has approved it, of the `needed` operators; with all of them it is under way."""

    node: str
    approved_by: list[str]
    needed: int
    under_way: bool


class Master(Struct, frozen=True, kw_only=True):
    """The master that answers."""

    name: str
    role: str
    dc: str
    epoch: int


class MasterNodeSummary(Struct, frozen=True, kw_only=True):
    """A master: `in_sync` where it has everything that was acknowledged.

    `position` and `lag` are null where the master that answers cannot know them.
    """

    node: str
    name: str
    slot: int
    role: str
    address: str
    connected: bool
    in_sync: bool
    position: int | None
    lag: int | None


class ConnectedServer(Struct, frozen=True, kw_only=True):
    """A volumecap server that is connected to this master."""

    name: str
    incarnation: str
    address: str
    connected_at: Instant


class KnownNode(Struct, frozen=True, kw_only=True):
    """A node of this data centre, as it told in its start number `stamp` where it is reached.

    `presence` is `connected`, `away`, or `lost` after a while; null where the node that answers
    cannot know. A server has it from the master that leads.
    """

    node: str
    name: str
    role: NodeRole
    address: str
    stamp: int
    presence: Literal["connected", "away", "lost"] | None


class Witness(Struct, frozen=True, kw_only=True):
    """A server that may vote on who leads; `votes` where it does now."""

    node: str
    connected: bool
    votes: bool


class Nodes(Struct, frozen=True, kw_only=True):
    """Who runs in this data centre, as far as the master that answers knows."""

    master: Master
    masters: list[MasterNodeSummary]
    servers: list[ConnectedServer]
    nodes: list[KnownNode]
    witnesses: list[Witness]


def known_node(told: NodeAddress) -> KnownNode:
    """A node as it is shown."""
    return KnownNode(
        node=told.node,
        name=told.name,
        role=told.role,
        address=told.address,
        stamp=told.stamp,
        presence=told.presence or None,
    )
