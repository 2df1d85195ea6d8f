"""What the control plane takes and answers: the shapes of its JSON.

Amounts are JSON integers. Instants are RFC 3339 in UTC, except inside a fact, which is shown as it
was recorded: there they are microseconds UTC.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from vcap_es.adapters.http.bodies import CAP_ID
from vcap_es.components.decisions.access import SCOPES_MAX
from vcap_es.components.decisions.interval import next_begin
from vcap_es.components.messages import Unheard, Whereabouts
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.definitions import MAX_LABEL_LENGTH, MAX_LABELS, describe
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import ApiKeyCreated, Definition, Fact
from vcap_es.events.facts.access import Role
from vcap_es.events.facts.meta import IntervalKind, Mode, Pacing
from vcap_es.events.facts.node import Role as NodeRole
from vcap_es.events.instants import format_instant
from vcap_es.events.placements import CENTRE, PLACEMENT
from vcap_es.projections.balances import (
    CentreBalance,
    IntervalBalance,
    ServerBalance,
    interval_balance,
)
from vcap_es.projections.consumes import ConsumeExplanation
from vcap_es.projections.explanations import Reason
from vcap_es.projections.history import Line, Place, What
from vcap_es.projections.states.meta import Meta as MetaState

State = Literal["active", "paused", "retired"]
CentreName = Annotated[str, Meta(pattern=f"^{CENTRE}$")]
Name = Annotated[str, Meta(pattern=f"^{CAP_ID}$")]
Units = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Bound = Annotated[
    str,
    Meta(
        description="An RFC 3339 instant, or a date: its first instant in the cap's zone.",
        examples=["2013-01-01", "2013-01-01T00:00:00Z"],
    ),
]
Label = Annotated[str, Meta(max_length=MAX_LABEL_LENGTH)]
KeyId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
ScopeText = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9._:*-]{1,128}|group:[A-Za-z0-9._:-]{1,128})$",
        description="A pattern of cap ids with * for any characters, or group: and a group.",
    ),
]


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


class StatementLine(Struct, frozen=True, kw_only=True):
    """One movement, and the balance of its interval after it."""

    position: int
    at: Instant
    actor: str
    what: What
    number: int | None
    server: str | None
    amount: int
    source: Place | None
    target: Place | None
    detail: str
    available: int | None
    withheld: int | None
    held: int | None
    spent: int | None
    expired: int | None
    unreported: int | None


class AccountStatement(Struct, frozen=True, kw_only=True):
    """Every movement of a cap, oldest first; streamed."""

    id: str
    lines: list[StatementLine]


class Why(Struct, frozen=True, kw_only=True):
    """`amount` units are at `place`, put there by the events at `positions` (the newest ones)."""

    place: Place
    server: str | None
    amount: int
    text: str
    events: int
    positions: list[int]


class Explanation(Struct, frozen=True, kw_only=True):
    """Where every unit went, or what became of one consume, in words; with the reasons as data."""

    id: str
    text: str
    reasons: list[Why]
    status: str | None = None


class Event(Struct, frozen=True, kw_only=True):
    """An event of the log. `event_id` and `link` are hexadecimal, `kind` names the fact."""

    position: int
    epoch: int
    event_id: str
    recorded_at: Instant
    dc: str
    actor: str
    correlation: str
    kind: str
    fact: Fact
    link: str


class Events(Struct, frozen=True, kw_only=True):
    """A page of the log, which ends at `head`; go on after `next` where it is not null."""

    events: list[Event]
    head: int
    next: int | None


class Problematic(Struct, frozen=True, kw_only=True):
    """An event that is not as it must be."""

    position: int
    rule: str
    detail: str


class Verification(Struct, frozen=True, kw_only=True):
    """Whether the log up to `position` is what was written, and its books are right."""

    sound: bool
    position: int
    link: str
    findings: list[Problematic]


class Key(Struct, frozen=True, kw_only=True):
    """An API key in force; its secret is not known."""

    id: str
    role: Role
    scopes: list[str]
    expires_at: Instant | None


class Keys(Struct, frozen=True, kw_only=True):
    """A page of the API keys in force, sorted by their id."""

    keys: list[Key]
    next: str | None


class KeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key to be made. Without `id` it gets one, without `expires_at` it stays in force."""

    role: Role
    scopes: Annotated[list[ScopeText], Meta(min_length=1, max_length=SCOPES_MAX)]
    id: KeyId | UnsetType = UNSET
    expires_at: Instant | None = None


class MadeKey(Key, frozen=True, kw_only=True):
    """A key that was just made; `secret` is its whole text, told this once."""

    secret: str


class Leader(Struct, frozen=True, kw_only=True):
    """The master that leads, and where it is reached."""

    name: str
    address: str


class ForcedPromotion(Struct, frozen=True, kw_only=True):
    """Operators let the node `leader` lead, which may have lacked what was acknowledged.

    The nodes `isr` had everything; up to `committed` something was known to be acknowledged.
    """

    leader: str
    approved_by: list[str]
    isr: list[str]
    committed: int


class Primacy(Struct, frozen=True, kw_only=True):
    """What a master knows of who leads.

    `active`: a majority of the voters follows, so that what it does is acknowledged. `isr` are the
    nodes that have everything which was; `voters` decide together who leads, and `witnesses` are
    the linked servers that may vote. `position` is the last event on its disk, `committed` the
    last that every node of `isr` has, and `lag` counts the committed events that it lacks.
    `masters` are the addresses of all masters. `approved_by` are the operators who want it to lead
    at the price of what it lacks. The rest counts what happened since the cluster was founded.
    `cluster` is null where this master waits to be admitted to one.
    """

    cluster: str | None
    node: str
    name: str
    dc: str
    slot: int
    role: str
    active: bool
    suspicion: str | None
    epoch: int
    version: int
    leader: Leader | None
    isr: list[str]
    voters: list[str]
    witnesses: list[str]
    position: int
    committed: int
    lag: int
    masters: list[str]
    approved_by: list[str]
    spawned: int
    switchovers: int
    divergences: int
    forced: list[ForcedPromotion]


class Switchover(Struct, frozen=True, kw_only=True):
    """Another master leads now."""

    leader: Leader


class PromotionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`accept_loss`: what was acknowledged and is not in this master's copy will be gone.

    `gone` are voters that never come back, by their ids or the beginnings of them, as `m0` or
    `w-s1`: nobody waits for their votes. None of them may ever be started again.
    """

    accept_loss: bool
    gone: Annotated[list[Name], Meta(max_length=5)] = []


class Promotion(Struct, frozen=True, kw_only=True):
    """Who has approved it, of the `needed` operators; with all of them it is under way."""

    node: str
    approved_by: list[str]
    needed: int
    under_way: bool


class Master(Struct, frozen=True, kw_only=True):
    """The master that answers."""

    name: str
    role: str
    dc: str
    epoch: int


class MasterNodeSummary(Struct, frozen=True, kw_only=True):
    """A master: `in_sync` where it has everything that was acknowledged.

    `position` and `lag` are null where the master that answers cannot know them.
    """

    node: str
    name: str
    slot: int
    role: str
    address: str
    connected: bool
    in_sync: bool
    position: int | None
    lag: int | None


class ConnectedServer(Struct, frozen=True, kw_only=True):
    """A volumecap server that is connected to this master."""

    name: str
    incarnation: str
    address: str
    connected_at: Instant


class KnownNode(Struct, frozen=True, kw_only=True):
    """A node of this data centre, as it told in its start number `stamp` where it is reached.

    `presence` is `connected`, `away`, or `lost` after a while; null where the node that answers
    cannot know. A server has it from the master that leads.
    """

    node: str
    name: str
    role: NodeRole
    address: str
    stamp: int
    presence: Literal["connected", "away", "lost"] | None


class Witness(Struct, frozen=True, kw_only=True):
    """A server that may vote on who leads; `votes` where it does now."""

    node: str
    connected: bool
    votes: bool


class Nodes(Struct, frozen=True, kw_only=True):
    """Who runs in this data centre, as far as the master that answers knows."""

    master: Master
    masters: list[MasterNodeSummary]
    servers: list[ConnectedServer]
    nodes: list[KnownNode]
    witnesses: list[Witness]


class Problem(Struct, frozen=True, kw_only=True):
    """Why a call was not carried out (RFC 9457); `code` is for programs, `detail` for people.

    `primary` is the address of the master that can carry it out, where that is another one.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry: bool
    primary: str | UnsetType = UNSET


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
    return IntervalSummary(**_shown(balance, IntervalSummary))


def books_of(balance: IntervalBalance) -> IntervalBooks:
    """The balance of an interval as it is shown."""
    return IntervalBooks(**_shown(balance, IntervalBooks))


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


def explanation_of(cap: str, reasons: list[Reason]) -> Explanation:
    """Where every unit went, as it is told."""
    why = [
        Why(
            place=each.place,
            server=each.server,
            amount=each.amount,
            text=each.text,
            events=each.events,
            positions=each.positions,
        )
        for each in reasons
    ]
    return Explanation(id=cap, text="\n".join(each.text for each in reasons), reasons=why)


def consume_explanation_of(cap: str, told: ConsumeExplanation) -> Explanation:
    """What became of one consume, as it is told."""
    return Explanation(id=cap, text="\n".join(told.sentences), reasons=[], status=told.status)


def line_of(line: Line) -> StatementLine:
    """A line of a statement as it is shown."""
    return StatementLine(**_shown(line, StatementLine))


def _shown(value: Struct, shape: type[Struct]) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in shape.__struct_fields__}
    instants = fields.keys() & {"start", "end", "at"}
    return {**fields, **{name: format_instant(fields[name]) for name in instants}}


def event_of(event: Recorded, fact: Fact) -> Event:
    """An event as it is shown; `fact` is the part of its fact that may be seen."""
    return Event(
        position=event.position,
        epoch=event.epoch,
        event_id=event.event_id.hex(),
        recorded_at=format_instant(event.recorded_at),
        dc=event.dc,
        actor=event.actor,
        correlation=event.correlation,
        kind=type(event.fact).__name__,
        fact=fact,
        link=event.link.hex(),
    )


def key_of(fact: ApiKeyCreated) -> Key:
    """A key as it is shown."""
    return Key(
        id=fact.key, role=fact.role, scopes=fact.scopes, expires_at=_instant(fact.expires_at)
    )


def known_node(told: Whereabouts) -> KnownNode:
    """A node as it is shown."""
    return KnownNode(
        node=told.node,
        name=told.name,
        role=told.role,
        address=told.address,
        stamp=told.stamp,
        presence=told.presence or None,
    )


def _instant(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)
