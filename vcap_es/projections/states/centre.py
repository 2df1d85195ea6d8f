"""The state of centres: the data centres that share caps, and how they do, as registers say."""

from msgspec import Struct

from vcap_es.events.facts import CentreChanged, Membership, PlacementChanged, Stamp


class Centre(Struct, frozen=True, kw_only=True, gc=False):
    """A data centre; `weight` is its part of what is placed by weights.

    `heir` decides the caps of one that is lost; "" is nobody.
    """

    membership: Membership
    weight: int
    stamp: Stamp
    heir: str = ""


class Placement(Struct, frozen=True, kw_only=True, gc=False):
    """What a placement of a name of its own comes to; None where it is retired."""

    terms: str | None
    stamp: Stamp


def evolve(centres: dict[str, Centre], fact: CentreChanged) -> None:
    """`fact` has become true; of two registers the one with the larger stamp holds."""
    known = centres.get(fact.centre)
    if known is None or fact.stamp > known.stamp:
        centres[fact.centre] = Centre(
            membership=fact.membership,
            weight=fact.weight,
            stamp=fact.stamp,
            heir=fact.heir,
        )


def evolve_placement(placements: dict[str, Placement], fact: PlacementChanged) -> None:
    """`fact` has become true; of two registers the one with the larger stamp holds."""
    known = placements.get(fact.placement)
    if known is None or fact.stamp >= known.stamp:
        placements[fact.placement] = Placement(terms=fact.terms, stamp=fact.stamp)


def registers_of(centres: dict[str, Centre]) -> list[CentreChanged]:
    """What others have to know of them."""
    return [
        CentreChanged(
            centre=name,
            membership=each.membership,
            weight=each.weight,
            stamp=each.stamp,
            heir=each.heir,
        )
        for name, each in sorted(centres.items())
    ]
