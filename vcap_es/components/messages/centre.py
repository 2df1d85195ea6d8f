"""The typed messages between the primary masters of different data centres.

They may be lost, repeated, late and out of order: every amount is a running total merged by
maximum, and of everything else the newest counts. Each carries the version of the cap's
definition that its sender has, so that whoever is behind learns of it.
"""

from typing import Literal

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import CapCommand
from vcap_es.components.messages.server import MessageNumber, Unheard
from vcap_es.events.facts import (
    CentreChanged,
    Fact,
    HomeMoved,
    MetaLearned,
    Phase,
    PlacementChanged,
    TemplateLearned,
    Version,
)
from vcap_es.events.facts.bounds import Balance, Total

Reception = Literal["heard", "met", "namesake", "nobody"]
"""What became of messages: two only met, or one is a namesake, or nobody can hear now."""


class Sender(Struct, frozen=True, gc=False):
    """Who says something: a data centre, the `cluster` of its log, and that of whom it speaks `to`.

    `to` is "" where it does not know whom it speaks to.
    """

    centre: str
    cluster: str
    to: str


class IntervalStatus(Struct, frozen=True, array_like=True, gc=False):
    """An interval as the sender has it.

    `start` and `end` are instants in microseconds UTC; who hears of it first needs them. `minter`
    opened it. `available` units are in the sender's pool, `held` at its servers. `bounded` is the
    version of the bounds, null for those that it was opened with: of two the newer ones hold.
    `cuts` has, for each data centre that was restored, what it was sent and what came from it until
    the sender readmitted it.
    """

    cap: str
    version: Version
    number: Total
    start: Total
    end: Total
    minter: str
    phase: Phase | None
    available: Balance
    held: Total
    bounded: Version | None = None
    cuts: dict[str, tuple[Total, Total]] = {}


class Movement(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """In all, `moved` units of this interval were moved from me to you.

    It is for that `generation` of your log: one that was restored takes nothing in that was meant
    for an earlier one.
    """

    about: IntervalStatus
    moved: Total
    generation: Total = 0


class Receipt(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """In all, `moved` units of this interval have come from you to me."""

    about: IntervalStatus
    moved: Total


class Wish(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """I have seen what you moved to me, and want that running total to be `target`.

    Less than `atom` more helps nobody here; `ahead` more would be used soon, where nobody waits for
    it. Of two wishes the one with the larger `order` counts; an `atom` of 0 withdraws the earlier
    ones.
    """

    about: IntervalStatus
    order: MessageNumber
    target: Total
    atom: Total
    ahead: Total = 0


class WishRefusal(Struct, frozen=True, kw_only=True, tag="Reply", gc=False):
    """To the wish of that `order` you had `gave` units more, and `left` may be here still."""

    about: IntervalStatus
    order: MessageNumber
    gave: Total
    left: Total


class Status(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """How these intervals stand with me."""

    intervals: list[IntervalStatus]


class Books(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The interval is over here, and none of my servers will tell anything more.

    `sent` and `received` are running totals by data centre.
    """

    about: IntervalStatus
    sent: dict[str, Total]
    received: dict[str, Total]


class BooksClosed(Struct, frozen=True, kw_only=True, tag="Closed", gc=False):
    """All data centres have told their books of the interval, and they agree."""

    about: IntervalStatus


class Register(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The newest definition of a cap that I know, and its intervals that are open here.

    `moved` is how I gave it to its home, if I did.
    """

    meta: MetaLearned
    intervals: list[IntervalStatus]
    moved: HomeMoved | None = None


class Inquiry(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """You know a newer definition of this cap: tell me.

    If there is none, define it by your template, but not after `until`, in microseconds UTC.
    """

    cap: str
    until: Total = 0


class Versions(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """I know these caps by these homes and versions: ask for what you do not know.

    None of my servers serves a cap of `served` by an older version than that.
    """

    versions: list[tuple[str, str, Version]]
    served: list[tuple[str, Version]] = []


class Members(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The data centres as I know them; of two registers the one with the larger stamp holds.

    `clusters` has which logs the others write, `before` what the own one was until it was restored.
    """

    registers: list[CentreChanged]
    clusters: dict[str, str]
    before: list[str] = []


class Recollect(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """My log was restored: tell me all that you know of these caps."""

    caps: list[str]


class Recollection(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """All that I know of this cap; no `register` where I do not know it.

    `moved` has of each interval what I sent to you in all, and what came from you. The data centres
    `centres` take part. I was restored last at `restored_at`, in microseconds UTC, 0 for never:
    what I knew of periods before that I may not know.
    """

    cap: str
    register: Register | None
    moved: dict[int, tuple[Total, Total]]
    centres: list[str]
    restored_at: Total


Setting = TemplateLearned | PlacementChanged


class SharedSettings(Struct, frozen=True, kw_only=True, tag="Settings", gc=False):
    """These settings are known here; all of them have this `digest`, if it is given.

    Who has another one tells what it knows.
    """

    digest: bytes = b""
    registers: list[Setting] = []


class Clock(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """My stamps have come so far, in microseconds UTC: what you record from now on came later.

    The newest of my events has the stamp `recorded`, not counting those that only pass stamps.
    """

    stamp: Total
    recorded: Total


class CommandRequest(Struct, frozen=True, kw_only=True, tag="Ask", gc=False):
    """An operator of mine wants this of a cap that you decide; `actor` may do so.

    Nobody waits for it after `until`, microseconds UTC: then do not do it.
    """

    number: Total
    command: CapCommand
    actor: str
    correlation: str
    until: Total


class CommandAnswer(Struct, frozen=True, kw_only=True, tag="Answered", gc=False):
    """What you asked as `number` was decided: `facts` up to `position` of my log, or `denied`.

    Who is `unheard` may serve by the definition before: servers, and whole data centres.
    """

    number: Total
    facts: list[Fact] = []
    position: Total = 0
    unheard: list[Unheard] = []
    denied: Denied | None = None


OfAnInterval = Movement | Receipt | Wish | WishRefusal | Books | BooksClosed
OfDefinitions = Register | Inquiry | Versions | Recollect | Recollection
AmongRemotes = OfAnInterval | OfDefinitions | Status | Members | SharedSettings
BetweenCentres = AmongRemotes | Clock | CommandRequest | CommandAnswer
