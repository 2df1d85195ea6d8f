"""What follows from a command about a placement that has a name of its own."""

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.events.facts import Fact, PlacementChanged, Stamp
from vcap_es.projections.states.centre import Placement
from vcap_es.projections.states.data_centre import DataCentre

PLACEMENTS_MAX = 1_000
NO_PLACEMENT = Placement(terms=None, stamp=Stamp())


class SetPlacement(Struct, frozen=True, kw_only=True, gc=False):
    """Let the name `placement` stand for `terms` from the next intervals on."""

    placement: str
    terms: str


class RetirePlacement(Struct, frozen=True, kw_only=True, gc=False):
    """Let the name stand for nothing any more."""

    placement: str


PlacementCommand = SetPlacement | RetirePlacement


def decide(state: DataCentre, dc: str, command: PlacementCommand) -> list[Fact] | Denied:
    """The facts that follow at the data centre `dc`; none where it is so already."""
    known = state.placements.get(command.placement, NO_PLACEMENT)
    if isinstance(command, SetPlacement):
        if command.placement not in state.placements and len(state.placements) >= PLACEMENTS_MAX:
            detail = f"{PLACEMENTS_MAX} placements are the most: change one of those that are there"
            return Denied(code="too_many_placements", detail=detail)
        return _changed(command.placement, known, command.terms, dc)
    if known.terms is None:
        return unknown(command.placement)
    caps = (meta.definition for meta in state.metas.values() if not meta.retired)
    used = sum(each.placement == command.placement for each in (*caps, *state.templates.values()))
    if used:
        detail = f"{used} caps or templates have the placement {command.placement}: change them"
        return Denied(code="placement_in_use", detail=detail)
    return _changed(command.placement, known, None, dc)


def unknown(placement: str) -> Denied:
    """There is no such placement."""
    detail = f"no placement {placement!r}: write local, even, weighted or spread 2, or define it"
    return Denied(code="unknown_placement", detail=detail)


def _changed(placement: str, known: Placement, terms: str | None, dc: str) -> list[Fact]:
    if terms == known.terms:
        return []
    stamp = Stamp(known.stamp.count + 1, dc)
    return [PlacementChanged(placement=placement, terms=terms, stamp=stamp)]
