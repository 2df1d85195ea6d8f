"""What follows from a command about a data centre. The same command twice gives nothing new."""

from collections.abc import Mapping

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.events.facts import CentreChanged, Fact, Membership, Stamp
from vcap_es.events.placements import CENTRES_MAX
from vcap_es.projections.states.centre import Centre
from vcap_es.projections.states.data_centre import DataCentre

NO_CENTRE = Centre(membership="out", weight=0, stamp=Stamp())


class AddCentre(Struct, frozen=True, kw_only=True, gc=False):
    """Let a data centre take part, with this weight: shares from the next interval on."""

    centre: str
    weight: int = 1


class RemoveCentre(Struct, frozen=True, kw_only=True, gc=False):
    """Let a data centre drain, and be out when nothing is left there."""

    centre: str


class LoseCentre(Struct, frozen=True, kw_only=True, gc=False):
    """A data centre is gone for good: nothing is told it, or heard of it, and nothing reclaimed.

    `heir` decides its caps from now on; "" leaves that open, and it may be said later.
    """

    centre: str
    heir: str = ""


CentreCommand = AddCentre | RemoveCentre | LoseCentre
NEEDS_TWO = (LoseCentre,)
"""What two operators must want: it cannot be taken back."""


def decide(state: DataCentre, dc: str, command: CentreCommand) -> list[Fact] | Denied:
    """The facts that follow at the data centre `dc`; none where it is so already."""
    known = state.centres.get(command.centre)
    if isinstance(command, AddCentre):
        return _added(state.centres, dc, command)
    if known is None:
        detail = f"no data centre {command.centre} takes part: add it first"
        return Denied(code="unknown_centre", detail=detail)
    if isinstance(command, LoseCentre):
        return _lost_now(state.centres, dc, command)
    if known.membership == "lost":
        return _lost(command.centre)
    if known.membership in ("drain", "out"):
        return []
    if caps := homed(state, dc, command.centre):
        detail = f"{command.centre} is the home of {caps} caps: move them to another one first"
        return Denied(code="is_home", detail=detail)
    if templates := [m for m in state.templates if template_home(state, dc, m) == command.centre]:
        detail = f"{command.centre} defines caps by {templates[0]!r}: define that at another one"
        return Denied(code="is_home", detail=detail)
    return [changed(state.centres, dc, command.centre, "drain", 0)]


def _added(centres: Mapping[str, Centre], dc: str, command: AddCentre) -> list[Fact] | Denied:
    known = centres.get(command.centre, NO_CENTRE)
    if known.membership == "lost":
        return _lost(command.centre)
    if len({*centres, dc, command.centre}) > CENTRES_MAX:
        return Denied(code="too_many_centres", detail=f"{CENTRES_MAX} data centres are the most")
    # Whoever adds the first other one takes part itself.
    added = {} if dc in centres else {dc: 1}
    if (known.membership, known.weight) != ("in", command.weight):
        added[command.centre] = command.weight
    return [changed(centres, dc, name, "in", weight) for name, weight in added.items()]


def _lost_now(centres: Mapping[str, Centre], dc: str, command: LoseCentre) -> list[Fact] | Denied:
    centre, heir, known = command.centre, command.heir, centres[command.centre]
    if centre == dc:
        detail = f"{dc} is this data centre, and it is here: say it at another one"
        return Denied(code="is_here", detail=detail)
    if known.membership == "lost" and heir in ("", known.heir):
        return []
    if heir and (heir == centre or centres.get(heir, NO_CENTRE).membership != "in"):
        detail = f"{heir} takes no part here: name a data centre that is in"
        return Denied(code="unknown_centre", detail=detail)
    last, lost = heir_of(centres, centre)
    if lost and centres.get(last, NO_CENTRE).membership == "in":
        detail = f"{last} decides the caps of {centre} already: move them from there"
        return Denied(code="has_heir", detail=detail)
    return [changed(centres, dc, centre, "lost", 0, heir)]


def _lost(centre: str) -> Denied:
    detail = f"{centre} was declared lost: start it anew under another name"
    return Denied(code="centre_lost", detail=detail)


def changed(
    centres: Mapping[str, Centre],
    dc: str,
    centre: str,
    membership: Membership,
    weight: int,
    heir: str = "",
) -> CentreChanged:
    """The next register of a data centre, as it is decided at `dc`."""
    count = centres.get(centre, NO_CENTRE).stamp.count + 1
    return CentreChanged(
        centre=centre, membership=membership, weight=weight, stamp=Stamp(count, dc), heir=heir
    )


def homed(state: DataCentre, dc: str, centre: str) -> int:
    """How many caps that are not retired a data centre decides, as far as is known at `dc`."""
    home = "" if centre == dc else centre
    return sum(meta.home == home and not meta.retired for meta in state.metas.values())


def template_home(state: DataCentre, dc: str, match: str) -> str:
    """The data centre that defines caps by a template: who has decided it, or the heir of that."""
    if state.centres.get(dc, NO_CENTRE).membership == "out":
        return dc  # it is alone
    return heir_of(state.centres, state.template_stamp(match).origin or dc)[0]


def heir_of(centres: Mapping[str, Centre], centre: str) -> tuple[str, int]:
    """Who decides what `centre` did: itself, or where it is lost its heir, or the heir of that.

    With how many were lost on the way. Who is lost without an heir decides it still: nobody does.
    """
    lost = 0
    while lost < CENTRES_MAX:
        known = centres.get(centre, NO_CENTRE)
        if known.membership != "lost" or not known.heir:
            break
        centre, lost = known.heir, lost + 1
    return centre, lost
