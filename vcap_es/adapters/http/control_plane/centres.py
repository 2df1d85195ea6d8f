"""The data centres: which take part, how they are reached, and who serves a cap."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from vcap_es.adapters.http.control_plane.changes import submit, submit_one
from vcap_es.adapters.http.control_plane.routes import (
    POSITION,
    ControlCall,
    ControlReply,
    Route,
    read_body,
)
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.components.decisions.centre import AddCentre, LoseCentre, RemoveCentre
from vcap_es.components.decisions.restore import ReadmitCentre
from vcap_es.components.primary_master.approvals import OPERATORS_NEEDED, Approved
from vcap_es.errors import LogError, RequestRefused
from vcap_es.events.facts import Membership
from vcap_es.events.instants import format_instant
from vcap_es.events.placements import WEIGHT_MAX, check_centre, shares_of
from vcap_es.projections.states.data_centre import DataCentre

HEARD_SECONDS = 5.0
"""How long `dc add` waits, in seconds, until the added data centre has answered; then it says so.
"""


class CentreView(Struct, frozen=True, kw_only=True):
    """A data centre: whether it takes part, and its part of what is placed by weights.

    `caps` that are not retired are decided there, as far as is known here. Units `in_transit` were
    sent there from here, and may be on their way. `heard_at` is null where nothing was heard in
    this epoch. `trouble` says why it cannot be reached, null where it can. `heir` decides the caps
    of one that is lost. `cluster` names its log, null until it is heard; it has no part before.
    """

    name: str
    here: bool
    cluster: str | None
    membership: Membership
    weight: int
    caps: int
    in_transit: int
    heard_at: Instant | None
    trouble: str | None
    heir: str | None


class PostView(Struct, frozen=True, kw_only=True):
    """What became of messages to and from other data centres, since this master started.

    Those that were `lost` or `dropped` are told again. `parked` counts the letters that could not
    be opened, by the reason; the broker keeps them. `troubles` are connections that do not work.
    """

    sent: int
    confirmed: int
    lost: int
    dropped: int
    waiting: int
    received: int
    parked: dict[str, int]
    troubles: dict[str, str]


class Centres(Struct, frozen=True, kw_only=True):
    """The data centres that this one knows of, by name; none where it is alone.

    `twins` are caps that are decided here, or learned, of whose name the data centre named has
    another cap: each serves its own total. Retire one of the two. `namesakes` are data centres that
    have another log than the one known by their name, and are not listened to; with what to do.
    `doubts` are caps and registers of which others told what cannot be, and why.
    """

    here: str
    centres: list[CentreView]
    post: PostView | None
    twins: dict[str, str]
    namesakes: dict[str, str]
    doubts: dict[str, str]


class CentreRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of what is placed by weights the data centre gets; 1 where nothing is said."""

    weight: Annotated[int, Meta(ge=0, le=WEIGHT_MAX)] | UnsetType = UNSET


class LossRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which data centre decides the caps of the lost one from now on; nobody if nothing is said."""

    heir: str | UnsetType = UNSET


class Loss(Struct, frozen=True, kw_only=True):
    """Who says that the data centre is lost, of the `needed` operators; with all of them it is."""

    centre: str
    approved_by: list[str]
    needed: int
    done: bool


class Part(Struct, frozen=True, kw_only=True):
    """A data centre's part of each interval of a cap."""

    name: str
    weight: int


class Resolution(Struct, frozen=True, kw_only=True):
    """Who serves a cap: its `home` decides it, and each of `centres` has a share of what is new.

    `terms` are what the placement stands for, where that is a name. Every data centre that takes
    part may have more by asking, unless they are local.
    `servers` are the addresses of the volumecap servers of this one.
    """

    id: str
    home: str
    placement: str
    terms: str
    centres: list[Part]
    servers: list[str]


async def list_centres(call: ControlCall) -> ControlReply:
    """The data centres that take part, how they are reached, and what is on its way to them."""
    node = call.node
    return ControlReply(value=await node.view(lambda state: _centres(node, state)))


def _centres(node: MasterNode, state: DataCentre) -> Centres:
    homes = Counter(meta.home or node.dc for meta in state.metas.values() if not meta.retired)
    remote = node.core.primary.remote if node.core.primary is not None else None
    transit = Counter(remote.in_transit() if remote is not None else {})
    return Centres(
        here=node.dc,
        centres=[
            CentreView(
                name=name,
                here=name == node.dc,
                cluster=_cluster(node, state, name),
                membership=each.membership,
                weight=each.weight,
                caps=homes[name],
                in_transit=transit[name],
                heard_at=_heard_at(node, name),
                trouble=_trouble(node, state, name),
                heir=each.heir or None,
            )
            for name, each in sorted(state.centres.items())
        ],
        post=_post(node),
        twins=remote.twins() if remote is not None else {},
        namesakes=remote.namesakes() if remote is not None else {},
        doubts=remote.doubts() if remote is not None else {},
    )


def _cluster(node: MasterNode, state: DataCentre, centre: str) -> str | None:
    return state.primacy.cluster if centre == node.dc else state.clusters.get(centre)


def _heard_at(node: MasterNode, centre: str) -> str | None:
    primary = node.core.primary
    heard_at = primary.remote.heard_at(centre) if primary is not None else 0
    return format_instant(heard_at) if heard_at else None


def _trouble(node: MasterNode, state: DataCentre, centre: str) -> str | None:
    if centre == node.dc:
        return None
    if node.post is None or centre not in node.post.peers:
        return f"no way leads there: write [remote.centres.{centre}] into the settings"
    remote = node.core.primary.remote if node.core.primary is not None else None
    if centre in state.apart and centre not in state.clusters:
        return f"not readmitted since the restore of this log: vcap dc readmit {centre}"
    if remote is not None and centre in remote.knocking():
        cluster = remote.knocking()[centre].cluster
        return f"it was restored from a backup, as {cluster}: vcap dc readmit {centre}"
    if trouble := node.post.trouble_to(centre):
        return trouble
    if centre not in state.clusters:
        return "it was never heard, and has no part until it is"
    if centre in state.disputed:
        return "others know it by another log: declare it lost"
    primary = node.core.primary
    if primary is not None and centre in primary.clock.ahead:
        return "its clock is too far ahead: until that is set right, it can add nobody"
    return None


def _post(node: MasterNode) -> PostView | None:
    post = node.post
    if post is None:
        return None
    return PostView(
        sent=post.sent.messages,
        confirmed=post.sent.confirmed,
        lost=post.sent.lost,
        dropped=post.sent.dropped,
        waiting=post.waiting,
        received=post.received.messages,
        parked=dict(post.received.parked),
        troubles=post.troubles,
    )


async def add_centre(call: ControlCall) -> ControlReply:
    """Let a data centre take part: it learns of every cap, and has shares from the next interval.

    The masters of both need each other in their settings, with a secret that only the two have. The
    answer waits up to five seconds until the data centre is heard; `cluster` is null if it is not.
    """
    centre, weight = call.path["centre"], read_body(call, CentreRequest).weight
    command = AddCentre(centre=centre, weight=1 if weight is UNSET else weight)
    done = await submit(call, command)
    with suppress(TimeoutError, LogError):  # it is added, whatever becomes of this master now
        async with asyncio.timeout(HEARD_SECONDS):
            await _heard_of(call.node, centre)
    return await _shown(call, done.position)


async def _heard_of(node: MasterNode, centre: str) -> None:
    """Wait until it is known which log a data centre writes; not where no way leads there."""
    while node.post is not None and centre in node.post.peers:
        position = node.durable
        if await node.view(lambda state: centre in state.clusters):
            return
        await node.committed_beyond(position)


async def remove_centre(call: ControlCall) -> ControlReply:
    """Let a data centre drain: it grants nothing more, and is out when nothing is left there."""
    done = await submit(call, RemoveCentre(centre=call.path["centre"]))
    return await _shown(call, done.position)


async def lose_centre(call: ControlCall) -> ControlReply:
    """Say that a data centre is gone for good. It needs two operators, and is never taken back.

    What it had of open intervals counts as spent. It is not listened to any more, so it must be
    stopped if it was the home of any cap: it would go on minting. Its `heir` opens the intervals
    of those caps from the second next one on; said later, from then on.
    """
    centre, heir = call.path["centre"], read_body(call, LossRequest).heir
    command = LoseCentre(centre=centre, heir="" if heir is UNSET else check_centre(heir))
    done = await submit_one(call, command)
    approved = done.approved_by if isinstance(done, Approved) else []
    answer = Loss(
        centre=centre,
        approved_by=approved,
        needed=OPERATORS_NEEDED,
        done=not isinstance(done, Approved),
    )
    return ControlReply(value=answer, status=202 if isinstance(done, Approved) else 200)


async def readmit_centre(call: ControlCall) -> ControlReply:
    """Let a data centre take part again after a restore, of its log or of the one here.

    Both sides have to say so. From then on they tell each other what was sent and received before,
    and what the restored log lacks of that is withheld there. It must have been heard here within
    the last minute. It cannot be taken back: nothing of its generation before is listened to.
    """
    node, centre = call.node, call.path["centre"]
    primary = node.core.primary
    knock = primary.remote.knocking().get(centre) if primary is not None else None
    if knock is None:
        known = await node.view(lambda state: state.clusters.get(centre))
        if known is None:
            detail = f"{centre} was not heard here lately: start it, with the settings of both"
            raise RequestRefused("unknown_centre", f"{detail}, and ask again")
        cluster = was = known
    elif knock.trouble:
        raise RequestRefused("other_cluster", f"{centre} is not let in: {knock.trouble}")
    else:
        cluster, was = knock.cluster, knock.was
    done = await submit(call, ReadmitCentre(centre=centre, cluster=cluster, was=was))
    return await _shown(call, done.position)


async def _shown(call: ControlCall, position: int) -> ControlReply:
    node, name = call.node, call.path["centre"]
    found = await node.view(lambda state: _centres(node, state))
    (centre,) = [each for each in found.centres if each.name == name]
    return ControlReply(value=centre, headers={POSITION: str(position)})


async def resolve_cap(call: ControlCall) -> ControlReply:
    """Who serves a cap: its home, the data centres that have a share, and the servers here."""
    node, cap = call.node, call.path["cap"]
    found = await node.view(lambda state: _resolved(node, state, cap))
    if found is None:
        raise RequestRefused("unknown_cap", f"no cap {cap}: define it first")
    return ControlReply(value=found)


def _resolved(node: MasterNode, state: DataCentre, cap: str) -> Resolution | None:
    meta = state.metas.get(cap)
    if meta is None:
        return None
    home, placement = meta.home or node.dc, meta.definition.placement
    terms = state.terms_of(placement)
    shares = shares_of(terms, cap, home, state.weights(node.dc) or {node.dc: 1})
    return Resolution(
        id=cap,
        home=home,
        placement=placement,
        terms=terms,
        centres=[Part(name=name, weight=weight) for name, weight in sorted(shares.items())],
        servers=sorted(each.address for each in node.servers.values()),
    )


# ---- the table

_CENTRE = "/v1/centres/{centre}"

CENTRES = (
    Route("GET", "/v1/centres", "read", list_centres, "List data centres", answer=Centres),
    Route(
        "PUT",
        _CENTRE,
        "administer",
        add_centre,
        "Add a data centre",
        body=CentreRequest,
        answer=CentreView,
    ),
    Route(
        "DELETE", _CENTRE, "administer", remove_centre, "Remove a data centre", answer=CentreView
    ),
    Route(
        "POST",
        f"{_CENTRE}/loss",
        "administer",
        lose_centre,
        "Declare a data centre lost",
        body=LossRequest,
        answer=Loss,
        statuses=(200, 202),
    ),
    Route(
        "POST",
        f"{_CENTRE}/readmission",
        "administer",
        readmit_centre,
        "Readmit a data centre after a restore",
        answer=CentreView,
    ),
    Route(
        "GET", "/v1/resolve/{cap}", "read", resolve_cap, "Tell who serves a cap", answer=Resolution
    ),
)
