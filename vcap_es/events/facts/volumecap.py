"""Facts of a volumecap: the slice of an interval that one volumecap server holds.

Every amount here is a running total of the server incarnation in the interval: it only grows, and
a repeated or late fact therefore changes nothing.
"""

from msgspec import Struct

from vcap_es.events.facts.bounds import Long


class ToppedUp(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The pool has now moved `moved` units in all to this incarnation."""

    cap: str
    number: Long
    incarnation: str
    moved: Long


class TopupRecovered(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This incarnation was moved `moved` units in all, says itself: the log had lost that.

    Only a forced promotion loses acknowledged events. What it lost may leave the pool in debt.
    """

    cap: str
    number: Long
    incarnation: str
    moved: Long


class HoldingRecovered(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This incarnation was readmitted after a restore: how it stood when it first told of itself.

    What it was moved and has returned until then is between it and the generation before.
    """

    cap: str
    number: Long
    incarnation: str
    moved: Long
    returned: Long
    spent: Long
    refunded: Long


class Returned(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """This incarnation has now returned `returned` units in all to the pool."""

    cap: str
    number: Long
    incarnation: str
    returned: Long


class Spend(Struct, frozen=True, kw_only=True, gc=False):
    """What one incarnation has spent of one interval so far.

    `refused` counts the units that were asked for and refused; no balance depends on it. `final`
    says that the books of this incarnation are closed: nothing held, nothing open.
    """

    cap: str
    number: Long
    spent: Long
    refunded: Long
    refused: Long
    final: bool


class SpendReported(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """One server told what it has spent, of many intervals at once."""

    incarnation: str
    entries: list[Spend]
