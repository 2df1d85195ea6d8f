"""Live balances: the equation down to each server, and canonical bytes."""

import pytest
from hypothesis import given

from tests.support.lives import lives
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
    MetaDefined,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    Version,
)
from vcap_es.projections.amounts import Amounts
from vcap_es.projections.balances import (
    IntervalBalance,
    ServerBalance,
    amounts_of,
    balance_of,
    encode,
    interval_balance,
)
from vcap_es.projections.states.data_centre import DataCentre, Fold

FIRST = Version(0, 1)
OPENED: list[Fact] = [
    MetaDefined(cap="c", version=FIRST, definition=Definition(total=100)),
    IntervalOpened(
        cap="c", number=0, start=0, end=1, total=100, version=FIRST, timezone="UTC", tzdata=""
    ),
    ToppedUp(cap="c", number=0, incarnation="s", moved=40),
    SpendReported(
        incarnation="s",
        entries=[Spend(cap="c", number=0, spent=30, refunded=4, refused=7, final=False)],
    ),
    Returned(cap="c", number=0, incarnation="s", returned=5),
]


def state_of(facts: list[Fact]) -> DataCentre:
    """The state that the facts give."""
    fold = Fold()
    for fact in facts:
        fold.evolve(fact)
    return fold.state


def test_every_term_is_where_it_belongs() -> None:
    """A topup, a spend, a refund, a return and a refusal each show in their own column."""
    (balance,) = balance_of(state_of(OPENED).metas["c"]).intervals
    server = ServerBalance(
        incarnation="s",
        moved=40,
        returned=5,
        spent=26,
        refunded=4,
        refused=7,
        held=9,
        unreported=0,
        final=False,
    )
    assert balance == IntervalBalance(
        number=0,
        start=0,
        end=1,
        total=100,
        received=0,
        sent=0,
        available=65,
        withheld=0,
        held=9,
        spent=26,
        refunded=4,
        expired=0,
        unreported=0,
        refused=7,
        over=0,
        ended=False,
        closed=False,
        minter="",
        phase="",
        servers=[server],
        centres=[],
    )


def test_a_lowered_total_shows_as_over() -> None:
    """Below what has left, `available` is negative and `over` says by how much."""
    lowered = IntervalTotalChanged(cap="c", number=0, total=20, version=FIRST)
    (balance,) = balance_of(state_of([*OPENED, lowered]).metas["c"]).intervals
    assert (balance.total, balance.available, balance.over) == (20, -15, 15)


def test_what_is_held_at_the_close_is_unreported() -> None:
    """A closed interval holds nothing: what a server never told of is unreported, by server."""
    # Given an interval that ended with 9 units at a server
    fold = Fold(state_of([*OPENED, IntervalEnded(cap="c", number=0)]))
    interval = fold.state.metas["c"].intervals[0]
    # When it closes
    fold.evolve(IntervalClosed(cap="c", number=0, unreported=9))
    # Then the live balance has it no more, and what is kept of it says where all 100 are
    assert balance_of(fold.state.metas["c"]).intervals == []
    (balance,) = balance_of(fold.state.metas["c"], [interval]).intervals
    assert balance.amounts == Amounts(total=100, spent=26, expired=65, unreported=9)
    assert [(each.held, each.unreported) for each in balance.servers] == [(0, 9)]


@given(lives())
def test_the_sum_of_servers_is_the_interval_and_the_sum_of_intervals_the_whole(
    facts: list[Fact],
) -> None:
    """The terms add up at every level, and the equation holds for each server as well."""
    balances = [balance_of(meta) for meta in state_of(facts).metas.values()]
    assert sum(amounts_of(balances).values(), Amounts()).difference == 0
    for interval in (interval for cap in balances for interval in cap.intervals):
        assert interval.amounts.difference == 0
        assert interval.over == max(0, -interval.available)
        for server in interval.servers:
            parts = server.returned + server.spent + server.held + server.unreported
            assert server.moved == parts


@given(lives())
def test_equal_states_have_equal_bytes_whatever_the_order_of_their_keys(facts: list[Fact]) -> None:
    """A state whose dictionaries were filled in another order encodes to the same bytes."""
    state, other = state_of(facts), state_of(facts)
    other.metas = dict(reversed(other.metas.items()))
    other.templates = dict(reversed(other.templates.items()))
    other.access.keys = dict(reversed(other.access.keys.items()))
    for meta in other.metas.values():
        for interval in meta.intervals:
            if interval.pool.accounts:
                interval.pool.accounts = dict(reversed(interval.pool.accounts.items()))
    assert encode(other) == encode(state)


def test_unequal_states_have_unequal_bytes() -> None:
    """A single unit, a single flag and a single refusal show in the bytes."""
    state = state_of(OPENED)
    before = encode(state)
    for change in ("spent", "refused", "back"):
        account = state.metas["c"].intervals[0].pool.account("s")
        setattr(account, change, getattr(account, change) + 1)
        assert encode(state) != before
        setattr(account, change, getattr(account, change) - 1)
    state.metas["c"].paused = True
    assert encode(state) != before


def test_a_pool_that_lost_a_unit_is_not_shown() -> None:
    """A state in which the equation does not hold raises instead of showing a wrong sum."""
    state = state_of(OPENED)
    interval = state.metas["c"].intervals[0]
    interval.pool.available -= 1
    with pytest.raises(AssertionError, match="the equation does not hold"):
        interval_balance(interval)
