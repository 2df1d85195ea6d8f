"""Facts of a transfer: amounts of an interval on their way from one data centre to another.

Every amount here is a running total that only its giver raises, so a repeated or late fact changes
nothing. What is sent leaves the pool when it is recorded, and is nowhere until it is received.
"""

from typing import Literal

from msgspec import Struct

from vcap_es.events.facts.bounds import Long

Mode = Literal["spread", "gather", "recall"]


class Phase(Struct, frozen=True, kw_only=True, gc=False):
    """How the data centres deal with the rest of an interval; set by its gatherer alone.

    `spread`: each has a share. `gather`: the rest is at one place, which gives by need. `recall`:
    nobody grants, all flows to the minter, until it is out of debt. The later one has the larger
    `(generation, number)`.
    """

    generation: Long
    number: Long
    mode: Mode


class SharesSet(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Each data centre is to have so many units of a new interval, if it is still `spread`."""

    cap: str
    number: Long
    shares: dict[str, Long]


class PhaseChanged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The interval is in this phase; `split` is what there was to share out when it began."""

    cap: str
    number: Long
    phase: Phase
    split: Long


class TransferSent(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The pool has now moved `moved` units in all to the data centre `to`, which `asked` for them.

    `asked` is the running total that it wished for; 0 where it had not asked.
    """

    cap: str
    number: Long
    to: str
    moved: Long
    asked: Long


class TransferReceived(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The pool has now `moved` units in all from the data centre `source`."""

    cap: str
    number: Long
    source: str
    moved: Long


class TransferRecovered(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `centre` has told how it stood with the generation of this log before.

    That had moved it `sent` units in all, as far as they came, and was to have `received` units in
    all from it. What of these this log did not know is withheld.
    """

    cap: str
    number: Long
    centre: str
    sent: Long
    received: Long


class TransferSettled(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centre `to` has `moved` of what was moved to it: nothing of that is on its way."""

    cap: str
    number: Long
    to: str
    moved: Long
