"""After a restore: what is withheld, who of the generation before knocks, and what to do."""

from collections.abc import Iterable

from msgspec import Struct

from vcap_es.adapters.http.control_plane.changes import submit, submit_one
from vcap_es.adapters.http.control_plane.routes import ControlCall, ControlReply, Route, read_body
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.components.decisions.restore import AcceptLoss, ReadmitServer, servers_missing
from vcap_es.components.messages.server import Hello
from vcap_es.components.primary_master.approvals import OPERATORS_NEEDED, Approved
from vcap_es.errors import RequestRefused
from vcap_es.events.facts import LogRestored, WithheldReleased
from vcap_es.events.instants import format_instant
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.places import Pool


class OldServer(Struct, frozen=True, kw_only=True):
    """A server of a generation before; `was` is the cluster that it comes from."""

    name: str
    incarnation: str
    was: str


class RestoreView(Struct, frozen=True, kw_only=True):
    """How this log was last restored from a backup, and what is withheld since.

    `was` is the cluster that was backed up at `position`; at least `lacks` events were recorded
    after that, null where nobody could tell yet. `withheld` units of `intervals` intervals may have
    been served by it. `knocking` are its servers that are refused, `readmitted` those that belong
    to this one. Without a restore, `was` and the rest are null or empty. What is withheld may be
    with `servers_missing`, by incarnation, and at the data centres `centres_missing`, with why; of
    the caps `caps_untold` not all of these have told yet. There may be servers that nobody knows.
    """

    cluster: str
    was: str | None
    position: int | None
    restored_at: Instant | None
    lacks: int | None
    withholding: bool
    intervals: int
    withheld: int
    knocking: list[OldServer]
    readmitted: dict[str, str]
    servers_missing: list[str]
    centres_missing: dict[str, str]
    caps_untold: int


class ReadmissionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server is readmitted: its name, or its incarnation where two have the same name."""

    server: str


class Readmission(Struct, frozen=True, kw_only=True):
    """The server belongs to `cluster` from now on."""

    name: str
    incarnation: str
    cluster: str


class ReleaseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cap is released; null: all, and what opens later is not withheld either.

    With `if_told`, only what none of the known servers and data centres can have is released.
    """

    cap: str | None = None
    if_told: bool = False


class Release(Struct, frozen=True, kw_only=True):
    """Who accepts the loss, of the `needed` operators; with all of them it is under way.

    `withheld` units may have been served. `released` units of `intervals` intervals are available.
    """

    cap: str | None
    approved_by: list[str]
    needed: int
    under_way: bool
    withheld: int
    released: int
    intervals: int


async def show_restore(call: ControlCall) -> ControlReply:
    """How this log was restored, what is withheld, and who of the generation before knocks."""
    return ControlReply(value=await call.node.view(lambda state: _view(call.node, state)))


def _view(node: MasterNode, state: DataCentre) -> RestoreView:
    primacy = state.primacy
    restored = primacy.restored
    pools, knocking = _withheld(state), _knocking(node, state)
    return RestoreView(
        cluster=node.cluster,
        was=restored.was if restored else None,
        position=restored.position if restored else None,
        restored_at=format_instant(restored.restored_at) if restored else None,
        lacks=_lacks(restored, knocking) if restored else None,
        withholding=primacy.is_withholding,
        intervals=len(pools),
        withheld=sum(each.withheld for each in pools),
        knocking=[
            OldServer(name=each.name, incarnation=each.incarnation, was=each.cluster)
            for each in knocking
        ],
        readmitted=primacy.readmitted,
        servers_missing=servers_missing(state) if pools else [],
        centres_missing=_centres_missing(node, state) if pools else {},
        caps_untold=_caps_untold(node, state),
    )


def _centres_missing(node: MasterNode, state: DataCentre) -> dict[str, str]:
    """The data centres from which nothing is heard of what this log lacks."""
    primary = node.core.primary
    if primary is None or not state.primacy.is_withholding:
        return {}
    others = set(primary.remote.others)
    missing = [name for name in state.apart if state.takes_part(name) and name not in others]
    unheard = [name for name in others if not primary.remote.heard_at(name)]
    found = dict.fromkeys(missing, "it is not readmitted here: vcap dc readmit")
    return found | dict.fromkeys(unheard, "it is not heard: it may have to readmit this one")


def _caps_untold(node: MasterNode, state: DataCentre) -> int:
    primary = node.core.primary
    if primary is None or not any(map(state.takes_part, state.apart)):
        return 0
    told = primary.remote.all_told()
    return sum(
        meta.cap not in told
        for meta in state.metas.values()
        if any(each.pool.withheld and not each.pool.ended for each in meta.intervals)
    )


def _lacks(restored: LogRestored, knocking: Iterable[Hello]) -> int | None:
    """How many events are missing, as far as was known then, or an old witness has heard since."""
    ends = [each.committed for each in knocking if each.cluster == restored.was and each.committed]
    found = [max(0, end - restored.position) for end in ends]
    return max([*found, *([] if restored.lacks is None else [restored.lacks])], default=None)


def _withheld(state: DataCentre, cap: str | None = None) -> list[Pool]:
    """The pools of what has not ended of which something is withheld."""
    found = [state.metas[cap]] if cap in state.metas else []
    metas = state.metas.values() if cap is None else found
    pools = [each.pool for meta in metas for each in meta.intervals]
    return [each for each in pools if each.withheld and not each.ended]


def _knocking(node: MasterNode, state: DataCentre) -> Iterable[Hello]:
    known = state.primacy.readmitted
    return [each for each in node.core.strangers.values() if each.incarnation not in known]


async def readmit_server(call: ControlCall) -> ControlReply:
    """Let a server of the generation before belong to this one, with all that it holds.

    What it was given and has returned until now is between it and the generation before; what it
    returns from now on comes to this one. It must have knocked here since this master started.
    """
    wanted, node = read_body(call, ReadmissionRequest).server, call.node
    known = node.state.primacy.readmitted
    again = [(name, each) for each, name in known.items() if wanted in (name, each)]
    found = {
        each.incarnation: each
        for each in _knocking(node, node.state)
        if wanted in (each.name, each.incarnation)
    }
    if again and not found:
        name, incarnation = again[-1]
        return ControlReply(
            value=Readmission(name=name, incarnation=incarnation, cluster=node.cluster)
        )
    if len(found) != 1:
        raise RequestRefused("unknown_server", _who(wanted, found))
    (hello,) = found.values()
    await submit(
        call, ReadmitServer(incarnation=hello.incarnation, name=hello.name, was=hello.cluster)
    )
    return ControlReply(
        value=Readmission(name=hello.name, incarnation=hello.incarnation, cluster=node.cluster)
    )


def _who(wanted: str, found: dict[str, Hello]) -> str:
    if found:
        return f"{len(found)} servers are called {wanted}: name one by its incarnation, {[*found]}"
    return (
        f"no server {wanted} of a generation before has knocked here: start it, with the address of"
        " this master, and ask again"
    )


async def accept_loss(call: ControlCall) -> ControlReply:
    """Release what is withheld, though the generation before may have served it.

    It needs two operators: the first approval changes nothing and holds for ten minutes, the second
    by another key carries it out. Totals can be exceeded by as much as is released; with `if_told`,
    by what servers have that nobody knows of.
    """
    body = read_body(call, ReleaseRequest)
    cap = body.cap
    pools = await call.node.view(lambda state: [each.withheld for each in _withheld(state, cap)])
    done = await submit_one(call, AcceptLoss(cap=cap, if_told=body.if_told))
    if isinstance(done, Approved):
        approved_by, released = done.approved_by, list[WithheldReleased]()
    else:
        released = [each for each in done.facts if isinstance(each, WithheldReleased)]
        approved_by = released[0].approved_by if released else [call.client.key]
    answer = Release(
        cap=cap,
        approved_by=approved_by,
        needed=OPERATORS_NEEDED,
        under_way=not isinstance(done, Approved),
        withheld=sum(pools),
        released=sum(each.amount for each in released),
        intervals=len(released),
    )
    return ControlReply(value=answer, status=202 if isinstance(done, Approved) else 200)


RESTORE = (
    Route(
        "GET",
        "/v1/restore",
        "read",
        show_restore,
        "Show what is withheld since a restore",
        answer=RestoreView,
        needs_all=True,
    ),
    Route(
        "POST",
        "/v1/restore/servers",
        "operate",
        readmit_server,
        "Readmit a server",
        body=ReadmissionRequest,
        answer=Readmission,
        needs_all=True,
    ),
    Route(
        "POST",
        "/v1/restore/releases",
        "operate",
        accept_loss,
        "Release what is withheld",
        body=ReleaseRequest,
        answer=Release,
        statuses=(200, 202),
        needs_all=True,
    ),
)
