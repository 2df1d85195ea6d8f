"""Who leads, who follows and who votes; and what operators can do about it."""

from collections.abc import Iterator

from vcap_es.adapters.http.control_plane.routes import ControlCall, ControlReply, Route, read_body
from vcap_es.adapters.http.problems import not_primary
from vcap_es.adapters.http.shapes.nodes import (
    ConnectedServer,
    ForcedPromotion,
    Leader,
    Master,
    MasterNodeSummary,
    Nodes,
    Primacy,
    Promotion,
    PromotionRequest,
    Switchover,
    Witness,
    known_node,
)
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.primacy import is_witness
from vcap_es.components.master.outputs import Elsewhere
from vcap_es.components.primary_master.approvals import OPERATORS_NEEDED
from vcap_es.errors import RequestRefused
from vcap_es.events.instants import format_instant


async def show_primacy(call: ControlCall) -> ControlReply:
    """What the master that answers knows of who leads, who is in sync and who votes."""
    node = call.node
    view, told = node.primacy(), node.state.primacy
    leader = Leader(name=view.leader_name, address=view.leader_address)
    answer = Primacy(
        cluster=view.cluster or None,
        node=view.node,
        name=view.name,
        dc=node.dc,
        slot=view.slot,
        role=node.role,
        active=view.is_active,
        suspicion=view.suspicion or None,
        epoch=view.epoch,
        version=view.version,
        leader=leader if view.leader_name else None,
        isr=view.isr,
        voters=view.voters,
        witnesses=view.witnesses,
        position=view.position,
        committed=view.committed,
        lag=view.lag,
        masters=addresses(node),
        approved_by=list(node.core.promotion),
        spawned=told.spawned,
        switchovers=told.switchovers,
        divergences=told.divergences,
        forced=[
            ForcedPromotion(
                leader=each.leader,
                approved_by=each.approved_by,
                isr=each.isr,
                committed=each.committed,
            )
            for each in told.forced
        ],
    )
    return ControlReply(value=answer)


async def switch_over(call: ControlCall) -> ControlReply:
    """Hand over to the other master, which has to be in sync; answered when that one leads."""
    outcome = await call.node.switch_over(actor=call.client.key)
    if isinstance(outcome, Denied):
        raise RequestRefused(outcome.code, outcome.detail)
    if isinstance(outcome, Elsewhere):
        raise not_primary(outcome.leader, outcome.address)
    leader = Leader(name=outcome.leader, address=outcome.address)
    return ControlReply(value=Switchover(leader=leader))


async def force_promotion(call: ControlCall) -> ControlReply:
    """Let the master that answers lead, though it may lack what was acknowledged.

    The last resort, where those that have everything are gone for good. It needs two operators:
    the first approval changes nothing and holds for ten minutes, the second by another key, with
    the same voters `gone`, carries it out.
    """
    asked = read_body(call, PromotionRequest)
    if not asked.accept_loss:
        detail = "accept_loss must be true: what this master's copy lacks will be gone"
        raise RequestRefused("invalid", detail)
    outcome = await call.node.approve_promotion(operator=call.client.key, gone=asked.gone)
    if isinstance(outcome, Denied):
        raise RequestRefused(outcome.code, outcome.detail)
    answer = Promotion(
        node=call.node.primacy().node,
        approved_by=outcome.approved_by,
        needed=OPERATORS_NEEDED,
        under_way=outcome.is_under_way,
    )
    return ControlReply(value=answer, status=202)


def addresses(node: MasterNode) -> list[str]:
    """Where the masters are reached, the leader first."""
    core = node.core
    linked = [core.leader, core.greeting(), *core.masters.values()]
    known = [each for each in node.state.nodes.values() if each.role == "master"]
    found = [each.address for each in [*linked, *reversed(known)] if each is not None]
    return list(dict.fromkeys(filter(None, found)))


# ---- nodes


async def list_nodes(call: ControlCall) -> ControlReply:
    """The masters, the servers of the one that answers, who votes, and where all nodes are."""
    node = call.node
    servers = [
        ConnectedServer(
            name=each.name,
            incarnation=each.incarnation,
            address=each.address,
            connected_at=format_instant(each.connected_at),
        )
        for each in sorted(node.servers.values(), key=lambda each: (each.name, each.incarnation))
    ]
    answer = Nodes(
        master=Master(name=node.name, role=node.role, dc=node.dc, epoch=node.primacy().epoch),
        masters=sorted(_masters(node), key=lambda each: each.slot),
        servers=servers,
        nodes=[known_node(each) for each in node.nodes()],
        witnesses=_witnesses(node),
    )
    return ControlReply(value=answer)


def _masters(node: MasterNode) -> Iterator[MasterNodeSummary]:
    view, core = node.primacy(), node.core
    yield MasterNodeSummary(
        node=view.node,
        name=view.name,
        slot=view.slot,
        role=node.role,
        address=core.identity.address,
        connected=True,
        in_sync=view.node in view.isr,
        position=view.position,
        lag=view.lag,
    )
    followers = core.leadership.followers.known if core.leadership is not None else {}
    for each in core.masters.values():
        follower = followers.get(each.node)
        is_leader = core.leader is not None and core.leader.node == each.node
        yield MasterNodeSummary(
            node=each.node,
            name=each.name,
            slot=each.slot,
            role="primary" if is_leader else "secondary",
            address=each.address,
            connected=is_leader if follower is None else follower.is_linked,
            in_sync=each.node in view.isr,
            position=None if follower is None else follower.match,
            lag=None if follower is None else max(0, view.committed - follower.match),
        )


def _witnesses(node: MasterNode) -> list[Witness]:
    view = node.primacy()
    known = dict.fromkeys([*filter(is_witness, view.voters), *view.witnesses])
    return [
        Witness(node=each, connected=each in view.witnesses, votes=each in view.voters)
        for each in known
    ]


# ---- the table

PRIMACY = (
    Route("GET", "/v1/nodes", "read", list_nodes, "List the nodes", answer=Nodes, anywhere=True),
    Route(
        "GET",
        "/v1/primacy",
        "read",
        show_primacy,
        "Show who leads",
        answer=Primacy,
        anywhere=True,
    ),
    Route(
        "POST",
        "/v1/primacy/switchovers",
        "operate",
        switch_over,
        "Let the other master lead",
        answer=Switchover,
        needs_all=True,
    ),
    Route(
        "POST",
        "/v1/primacy/promotions",
        "operate",
        force_promotion,
        "Force this master to lead",
        body=PromotionRequest,
        answer=Promotion,
        statuses=(202,),
        needs_all=True,
        anywhere=True,
    ),
)
