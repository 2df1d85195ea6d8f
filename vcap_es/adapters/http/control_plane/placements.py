"""Placements with names of their own: many caps are placed anew by one change."""

from typing import Annotated

from msgspec import Meta, Struct

from vcap_es.adapters.http.control_plane.changes import submit
from vcap_es.adapters.http.control_plane.routes import (
    POSITION,
    ControlCall,
    ControlReply,
    Route,
    read_body,
)
from vcap_es.components.decisions.placement import RetirePlacement, SetPlacement
from vcap_es.errors import RequestRefused
from vcap_es.events.placements import TERMS, check_terms
from vcap_es.projections.states.centre import Placement
from vcap_es.projections.states.data_centre import DataCentre


class PlacementView(Struct, frozen=True, kw_only=True):
    """What the name stands for. `version` is the count of its changes, `origin` made the last."""

    name: str
    terms: str
    version: int
    origin: str


class Placements(Struct, frozen=True, kw_only=True):
    """All placements with names of their own, by name."""

    placements: list[PlacementView]


class PlacementRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which data centres have a share of intervals that are opened from now on."""

    terms: Annotated[
        str,
        Meta(
            pattern=f"^({TERMS})$",
            description="local, even, weighted, weighted dc1=3 dc2=1, or spread 2.",
        ),
    ]


def _view(name: str, found: Placement) -> PlacementView:
    version, origin = found.stamp.count, found.stamp.origin
    return PlacementView(name=name, terms=found.terms or "", version=version, origin=origin)


def _known(state: DataCentre, name: str) -> PlacementView | None:
    found = state.placements.get(name)
    return _view(name, found) if found is not None and found.terms is not None else None


async def list_placements(call: ControlCall) -> ControlReply:
    """The placements that operators have given a name."""

    def read(state: DataCentre) -> Placements:
        found = (_known(state, name) for name in sorted(state.placements))
        return Placements(placements=[each for each in found if each is not None])

    return ControlReply(value=await call.node.view(read))


async def show_placement(call: ControlCall) -> ControlReply:
    """What the name stands for."""
    name = call.path["placement"]
    found = await call.node.view(lambda state: _known(state, name))
    if found is None:
        raise RequestRefused("unknown_placement", f"no placement {name}: define it first")
    return ControlReply(value=found)


async def set_placement(call: ControlCall) -> ControlReply:
    """Let the name stand for these terms at all data centres; 201 where it stood for nothing."""
    name, terms = call.path["placement"], check_terms(read_body(call, PlacementRequest).terms)
    is_new = _known(call.node.state, name) is None
    done = await submit(call, SetPlacement(placement=name, terms=terms))
    value = await call.node.view(lambda state: _known(state, name))
    headers = {POSITION: str(done.position)}
    return ControlReply(value=value, status=201 if is_new else 200, headers=headers)


async def retire_placement(call: ControlCall) -> ControlReply:
    """Let the name stand for nothing; refused while a cap has it."""
    done = await submit(call, RetirePlacement(placement=call.path["placement"]))
    return ControlReply(status=204, headers={POSITION: str(done.position)})


# ---- the table

_PLACEMENT = "/v1/placements/{placement}"

PLACEMENTS = (
    Route("GET", "/v1/placements", "read", list_placements, "List placements", answer=Placements),
    Route("GET", _PLACEMENT, "read", show_placement, "Show a placement", answer=PlacementView),
    Route(
        "PUT",
        _PLACEMENT,
        "administer",
        set_placement,
        "Define or change a placement",
        body=PlacementRequest,
        example={"terms": "weighted dc1=3 dc2=1"},
        answer=PlacementView,
        statuses=(200, 201),
    ),
    Route(
        "DELETE",
        _PLACEMENT,
        "administer",
        retire_placement,
        "Retire a placement",
        statuses=(204,),
    ),
)
