"""Live balances for people: where the amounts of each cap are, down to each server.

The equation holds in every value given here, exactly:

    total + received - sent = available + withheld + held + spent + expired + unreported

`total` is what was minted here, `received` and `sent` what came from other data centres and went
there. `available` is signed: below 0 the interval is "over by n", a debt that returns pay. `spent`
is net of refunds. When an interval closes, whatever is held becomes unreported. What is `withheld`
since the log was restored counts as spent for good, unless it is released or told of.
"""

from collections.abc import Iterable

from msgspec import Struct, json

from vcap_es.events.facts import Definition, Version
from vcap_es.projections.amounts import Amounts
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval, Sharing
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.places import Account, Pool


class ServerBalance(Struct, frozen=True, kw_only=True, gc=False):
    """What one server incarnation was given of an interval, and what became of it, in units.

    moved = returned + spent + held + unreported. `spent` is net of the units `refunded`; `refused`
    counts units that were asked for there and refused. `final` says its books are closed.
    """

    incarnation: str
    moved: int
    returned: int
    spent: int
    refunded: int
    refused: int
    held: int
    unreported: int
    final: bool


class CentreBalance(Struct, frozen=True, kw_only=True, gc=False):
    """What came from another data centre and went there; `in_transit` may be on its way."""

    name: str
    received: int
    sent: int
    in_transit: int


class IntervalBalance(Struct, frozen=True, kw_only=True, gc=False):
    """Where the `total` units of the period `[start, end)` are; instants in microseconds UTC.

    `over` is the debt that a lowered total left, else 0. `servers` are sorted by incarnation,
    `centres` by name. `phase` is "" where the interval is for this data centre alone.
    """

    number: int
    start: int
    end: int
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
    servers: list[ServerBalance]
    centres: list[CentreBalance]

    @property
    def amounts(self) -> Amounts:
        """The terms of the equation alone."""
        return Amounts(
            total=self.total,
            received=self.received,
            sent=self.sent,
            available=self.available,
            withheld=self.withheld,
            held=self.held,
            spent=self.spent,
            expired=self.expired,
            unreported=self.unreported,
        )


class CapBalance(Struct, frozen=True, kw_only=True, gc=False):
    """A cap's definition in force and the balance of each of its intervals, oldest first."""

    cap: str
    version: Version
    definition: Definition
    paused: bool
    retired: bool
    intervals: list[IntervalBalance]


def balance_of(meta: Meta, closed: Iterable[Interval] = ()) -> CapBalance:
    """The balance of a cap: of the intervals that are not closed, and of those given besides."""
    return CapBalance(
        cap=meta.cap,
        version=meta.version,
        definition=meta.definition,
        paused=meta.paused,
        retired=meta.retired,
        intervals=[interval_balance(each) for each in (*closed, *meta.intervals)],
    )


def interval_balance(interval: Interval) -> IntervalBalance:
    """The balance of one interval. Asserts the equation, for it and for each server."""
    pool = interval.pool
    servers = [_server_balance(pool, *each) for each in sorted(pool.places.items())]
    sharing = interval.sharing or Sharing()
    balance = IntervalBalance(
        number=interval.number,
        start=interval.start,
        end=interval.end,
        total=pool.minted,
        received=sum(pool.received.values()),
        sent=sum(each.moved for each in pool.sent.values()),
        available=pool.available,
        withheld=pool.withheld,
        held=sum(each.held for each in servers),
        spent=sum(each.spent for each in servers),
        refunded=sum(each.refunded for each in servers),
        expired=pool.expired,
        unreported=pool.unreported,
        refused=sum(each.refused for each in servers),
        over=max(0, -pool.available),
        ended=pool.ended,
        closed=pool.closed,
        minter=sharing.minter,
        phase="" if interval.sharing is None else _mode(sharing),
        servers=servers,
        centres=_centre_balances(pool),
    )
    assert balance.amounts.difference == 0, f"the equation does not hold: {balance}"
    assert balance.unreported == sum(each.unreported for each in servers), f"{balance}"
    return balance


def _server_balance(pool: Pool, incarnation: str, account: Account) -> ServerBalance:
    held = account.held
    return ServerBalance(
        incarnation=incarnation,
        moved=account.out,
        returned=account.back,
        spent=account.spent - account.refunded,
        refunded=account.refunded,
        refused=account.refused,
        held=0 if pool.closed else held,
        unreported=held if pool.closed else 0,
        final=account.final,
    )


def _mode(sharing: Sharing) -> str:
    """Before the first change of phase, everybody has a share."""
    return "spread" if sharing.phase is None else sharing.phase.mode


def _centre_balances(pool: Pool) -> list[CentreBalance]:
    return [
        CentreBalance(
            name=name,
            received=pool.received.get(name, 0),
            sent=pool.sent_to(name),
            in_transit=pool.sent_to(name) - (pool.sent[name].settled if name in pool.sent else 0),
        )
        for name in sorted({*pool.sent, *pool.received})
    ]


def amounts_of(balances: Iterable[CapBalance]) -> dict[tuple[str, int], Amounts]:
    """The terms of the equation of every interval shown, by cap and number."""
    return {(cap.cap, each.number): each.amounts for cap in balances for each in cap.intervals}


def encode(state: DataCentre) -> bytes:
    """The whole state in canonical bytes: equal states give equal bytes, unequal ones never.

    Lines of JSON with sorted names, the caps one a line in the order of their ids, so that `diff`
    shows people where a rebuild went another way.
    """
    heading = {
        "epoch": state.epoch,
        "leader": state.leader,
        "templates": state.templates,
        "template_stamps": state.template_stamps,
        "centres": state.centres,
        "placements": state.placements,
        "keys": state.access.keys,
    }
    lines = [heading, *(state.metas[cap] for cap in sorted(state.metas))]
    return b"".join(json.encode(line, order="sorted") + b"\n" for line in lines)
