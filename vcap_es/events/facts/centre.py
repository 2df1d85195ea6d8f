"""Facts of a centre: a data centre, and what all data centres have to know alike.

Each of them is a register: of two facts about the same thing, the one with the larger stamp holds,
wherever it was decided and in whatever order the two are heard.
"""

from typing import Literal

from msgspec import Struct

from vcap_es.events.facts.bounds import Long

Membership = Literal["in", "drain", "out", "lost"]


class Stamp(Struct, frozen=True, order=True, array_like=True, gc=False):
    """Which of two values of a register is newer: the `count` of its changes, then who made it."""

    count: Long = 0
    origin: str = ""


class ClockPassed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Every later event of this log is stamped `stamp`, in microseconds UTC, or later."""

    stamp: Long


class CentreChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `centre` is in, with this weight, or drains, or is out, or lost for good.

    One that drains grants nothing and sends on what it has; one that is lost is not listened to,
    and what it had counts as spent; `heir` decides its caps from then on, "" is nobody.
    """

    centre: str
    membership: Membership
    weight: Long
    stamp: Stamp
    heir: str = ""


class CentreIdentified(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `centre` is the one whose log is of this `cluster`, now and for ever.

    Who comes by its name with another log has forgotten what it had, and is not listened to. With
    a second one, others know it by another log: nothing is shared with either.
    """

    centre: str
    cluster: str


class CentreReadmitted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """An operator lets the data centre `centre` take part again, known by its log `cluster`.

    It was known as `was`. Where the two differ, it was restored from a backup of that: nothing that
    is of its generation before counts any more. Where they are the same, this log was restored.
    """

    centre: str
    cluster: str
    was: str


class PlacementChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The placement of this name comes to `terms` from the next intervals on; None retires it."""

    placement: str
    terms: str | None
    stamp: Stamp
