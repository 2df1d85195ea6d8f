"""What the control plane takes and answers: the shapes of its JSON.

Amounts are JSON integers. Instants are RFC 3339 in UTC, except inside a fact, which is shown as it
was recorded: there they are microseconds UTC.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from vcap_es.adapters.http.shapes.scalars import (
    Bound,
    CentreName,
    Instant,
    Label,
    Name,
    Units,
    shown_fields,
)
from vcap_es.components.decisions.interval import next_begin
from vcap_es.components.messages.server import Unheard
from vcap_es.events.definitions import MAX_LABELS, describe
from vcap_es.events.facts import Definition
from vcap_es.events.facts.meta import IntervalKind, Mode, Pacing
from vcap_es.events.instants import format_instant
from vcap_es.events.placements import PLACEMENT
from vcap_es.projections.balances import (
    CentreBalance,
    IntervalBalance,
    ServerBalance,
    interval_balance,
)
from vcap_es.projections.states.meta import Meta as MetaState

State = Literal["active", "paused", "retired"]


class Terms(Struct, frozen=True, kw_only=True):
    """The definition of a cap: `total` units in each interval, between `start` and `end`."""

    total: Units
    interval: IntervalKind = "day"
    timezone: str = "UTC"
    start: Bound | UnsetType | None = UNSET
    end: Bound | UnsetType | None = UNSET
    initial_total: Units | UnsetType | None = UNSET
    group: Name | UnsetType | None = UNSET
    labels: Annotated[dict[Name, Label], Meta(max_length=MAX_LABELS)] | UnsetType = UNSET
    mode: Mode = "hard"
    pacing: Pacing = "asap"
    placement: Annotated[
        str,
        Meta(
            pattern=PLACEMENT,
            description="Which data centres have a share: the home alone, all alike, all or some "
            "by their weights, or so many of all; or what a name stands for.",
        ),
    ] = "local"


class IntervalSummary(Struct, frozen=True, kw_only=True):
    """Where the units of an interval are.

    total + received - sent = available + withheld + held + spent + expired + unreported, exactly.
    `total` is what was minted here, `received` and `sent` what came from other data centres and
    went there. What is `withheld` counts as spent since the log was restored.
    `available` below 0 is a debt that a lowered total left; `over` is that debt. `spent` is net of
    refunds. `minter` is the data centre that opened it; `phase` says how they deal with the rest,
    "" where it is for one alone.
    """

    number: int
    start: Instant
    end: Instant
    total: int
    received: int
    sent: int
    available: int
    withheld: int
    held: int
    spent: int
    refunded: int
    expired: int
    unreported: int
    refused: int
    over: int
    ended: bool
    closed: bool
    minter: str
    phase: str


class IntervalBooks(IntervalSummary, frozen=True, kw_only=True):
    """Where the units of an interval are, down to each server and each other data centre."""

    servers: list[ServerBalance]
    centres: list[CentreBalance]


class UnheardServer(Struct, frozen=True, kw_only=True):
    """Who may serve by an older definition until `until`, and surely not after it.

    That is a server of the data centre `centre`, or where `server` is empty that whole one: it has
    not said that its servers have heard.
    """

    server: str
    name: str
    until: str
    centre: str


class Cap(Struct, frozen=True, kw_only=True):
    """A cap: its definition in force, and the interval that is open now.

    `home` is the data centre that decides it. Where it does not serve now, `begins` is when it
    does next, null where that is not known. Who changes a cap hears of the servers and data centres
    that were not reached; it holds everywhere else.
    """

    id: str
    home: str
    state: State
    version: str
    definition: Terms
    current: IntervalSummary | None
    begins: str | None = None
    unheard: list[UnheardServer] = []


class HomeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data centre that shall decide a cap."""

    home: CentreName


class Caps(Struct, frozen=True, kw_only=True):
    """A page of caps, in no order; `next` is the cursor of the next page, null at the end."""

    caps: list[Cap]
    next: str | None


class Template(Struct, frozen=True, kw_only=True):
    """The definition that a cap whose id matches gets on its first use, at the data centre `home`.

    The home of a template is the home of the caps that it defines. `reaches` says which caps have
    this definition from it; those that are there already are changed one by one.
    """

    match: str
    definition: Terms
    home: str
    reaches: Literal["caps first used from now on"] = "caps first used from now on"


class Templates(Struct, frozen=True, kw_only=True):
    """A page of templates, sorted by what they match."""

    templates: list[Template]
    next: str | None


class Balances(Struct, frozen=True, kw_only=True):
    """A cap with its intervals that were not closed after the event at `position`."""

    id: str
    state: State
    version: str
    definition: Terms
    position: int | None
    intervals: list[IntervalBooks]


class Intervals(Struct, frozen=True, kw_only=True):
    """A page of all intervals that a cap ever had, by their number."""

    id: str
    intervals: list[IntervalBooks]
    next: str | None


class Holder(Struct, frozen=True, kw_only=True):
    """What one server incarnation has of one interval; `name` where it is connected now."""

    number: int
    incarnation: str
    name: str | None
    connected: bool
    moved: int
    returned: int
    spent: int
    refunded: int
    refused: int
    held: int
    final: bool


class Holders(Struct, frozen=True, kw_only=True):
    """Who has what of the intervals of a cap that are not closed, the most held first."""

    id: str
    holders: list[Holder]


# ---- from what is kept to what is shown


def state_of(meta: MetaState) -> State:
    """Whether a cap serves."""
    return "retired" if meta.retired else "paused" if meta.paused else "active"


def terms_of(definition: Definition) -> Terms:
    """A definition as it is shown."""
    shown = describe("", definition)
    del shown["id"]
    return msgspec.convert(shown, Terms)


def cap_of(meta: MetaState, now: int, dc: str) -> Cap:
    """A cap as the data centre `dc` has it at the instant `now`, in microseconds UTC."""
    current, begins = meta.at(now), next_begin(meta, now)
    return Cap(
        id=meta.cap,
        home=meta.home or dc,
        state=state_of(meta),
        version=str(meta.version),
        definition=terms_of(meta.definition),
        current=None if current is None else _summary(interval_balance(current)),
        begins=format_instant(begins) if begins else None,
    )


def unheard_server(told: Unheard) -> UnheardServer:
    """A server that was not reached as it is shown."""
    return UnheardServer(
        server=told.server,
        name=told.name,
        until=format_instant(told.until),
        centre=told.centre,
    )


def _summary(balance: IntervalBalance) -> IntervalSummary:
    return IntervalSummary(**shown_fields(balance, IntervalSummary))


def books_of(balance: IntervalBalance) -> IntervalBooks:
    """The balance of an interval as it is shown."""
    return IntervalBooks(**shown_fields(balance, IntervalBooks))


def balances_of(meta: MetaState, position: int | None = None) -> Balances:
    """Where the units of a cap are, after the event at `position`; None: now."""
    return Balances(
        id=meta.cap,
        state=state_of(meta),
        version=str(meta.version),
        definition=terms_of(meta.definition),
        position=position,
        intervals=[books_of(interval_balance(each)) for each in meta.intervals],
    )
