"""Statements and balances as they were: exact sums of the events that led there."""

from hypothesis import given
from hypothesis import strategies as st

from tests.projections.test_balances import OPENED
from tests.support.lives import CAPS, NOON, SECOND, lives, recorded
from vcap_es.events.facts import (
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalTotalChanged,
    Returned,
    TopupRecovered,
    Version,
)
from vcap_es.projections.balances import balance_of, encode
from vcap_es.projections.history import History, fold_until
from vcap_es.projections.statement import StatementEntry, statement
from vcap_es.projections.states.data_centre import Fold

ENDED: list[Fact] = [
    *OPENED,
    IntervalEnded(cap="c", number=0),
    IntervalClosed(cap="c", number=0, unreported=9),
]


def place(lines: list[StatementEntry], name: str) -> int:
    """The balance of a place by double entry: what came in less what went out."""
    came = sum(line.amount for line in lines if line.target == name)
    return came - sum(line.amount for line in lines if line.source == name)


@given(lives())
def test_the_lines_of_an_interval_sum_to_its_balance(facts: list[Fact]) -> None:
    """For every cap and interval, closed ones too, each place is the sum of its lines."""
    history = fold_until(recorded(facts))
    for cap in history.state.metas:
        lines = statement(recorded(facts), cap)
        balance = history.balance(cap)
        assert balance is not None
        for interval in balance.intervals:
            own = [line for line in lines if line.number == interval.number]
            assert -place(own, "minted") == interval.total
            for name in ("available", "held", "spent", "expired", "unreported"):
                assert place(own, name) == getattr(interval, name)
                assert getattr(own[-1], name) == getattr(interval, name)
            for server in interval.servers:
                at_server = [line for line in own if line.server == server.incarnation]
                assert place(at_server, "held") == server.held
                assert place(at_server, "spent") == server.spent
            assert statement(recorded(facts), cap, interval.number) == own


@given(lives(longest=40))
def test_every_event_of_a_cap_has_a_line(facts: list[Fact]) -> None:
    """A statement leaves out no event that speaks of the cap, and has no other."""
    for cap in CAPS:
        kept = [event for event in recorded(facts) if _speaks_of(event.fact, cap)]
        shown = list(dict.fromkeys(line.position for line in statement(recorded(facts), cap)))
        assert shown == [event.position for event in kept]


def _speaks_of(fact: Fact, cap: str) -> bool:
    entries = getattr(fact, "entries", [fact])
    return any(getattr(entry, "cap", None) == cap for entry in entries)


@given(lives(), st.data())
def test_the_past_is_what_the_live_state_was(facts: list[Fact], data: st.DataObject) -> None:
    """Folding until a position or its instant gives the state that was live then."""
    count = data.draw(st.integers(0, len(facts)))
    live = Fold()
    for fact in facts[:count]:
        live.evolve(fact)
    by_position = fold_until(recorded(facts), position=count)
    by_instant = fold_until(recorded(facts), at=NOON + count * SECOND)
    assert encode(by_position.state) == encode(by_instant.state) == encode(live.state)


@given(lives())
def test_the_history_of_one_cap_is_its_part_of_the_whole(facts: list[Fact]) -> None:
    """A cap folds alone to what it is among all others, though reports tell of several at once."""
    whole = fold_until(recorded(facts))
    for cap, meta in whole.state.metas.items():
        alone = fold_until(recorded(facts), cap=cap)
        assert list(alone.state.metas) == [cap]
        assert alone.balance(cap) == whole.balance(cap)
        assert balance_of(alone.state.metas[cap]) == balance_of(meta)


def test_a_closed_interval_is_kept_with_its_final_books() -> None:
    """The live state drops a closed interval; the history keeps where its units went."""
    history = fold_until(recorded(ENDED))
    assert history.state.metas["c"].intervals == ()
    balance = history.balance("c")
    assert balance is not None
    (interval,) = balance.intervals
    assert (interval.closed, interval.spent, interval.expired, interval.unreported) == (
        True,
        26,
        65,
        9,
    )


def test_an_unknown_cap_has_no_balance() -> None:
    """Nothing is made up for a cap that was never defined."""
    assert History().balance("nobody's") is None
    assert statement(recorded(ENDED), "nobody's") == []


def test_a_statement_reads_like_a_bank_statement() -> None:
    """Each line says what happened, how much, at which server, and the balance after it."""
    lines = statement(recorded(ENDED), "c")
    told = [(line.what, line.server, line.amount, line.available, line.held) for line in lines]
    assert told == [
        ("defined", None, 0, None, None),
        ("opened", None, 100, 100, 0),
        ("topup", "s", 40, 60, 40),
        ("spent", "s", 30, 60, 14),
        ("refunded", "s", 4, 60, 14),
        ("refused", "s", 7, 60, 14),
        ("return", "s", 5, 65, 9),
        ("ended", None, 65, 0, 9),
        ("closed", "s", 9, 0, 0),
    ]
    assert lines[0].detail == "100 a day, UTC"


def test_a_late_return_pays_the_debt_and_the_rest_expires_in_a_line_of_its_own() -> None:
    """After the end, 9 that come back to a pool that is over by 5 pay 5 and expire 4."""
    # Given an interval that ended over by 5, with 9 held
    lowered = IntervalTotalChanged(cap="c", number=0, total=30, version=Version(0, 1))
    facts: list[Fact] = [*OPENED, lowered, IntervalEnded(cap="c", number=0)]
    # When all of it comes back
    facts.append(Returned(cap="c", number=0, incarnation="s", returned=14))
    # Then the debt is paid first
    *_, returned, expired = statement(recorded(facts), "c")
    assert (returned.what, returned.amount, returned.available) == ("return", 9, 0)
    assert (expired.what, expired.amount, expired.expired) == ("expired", 4, 4)


def test_a_recovered_topup_was_taken_for_expired_and_beyond_that_is_a_debt() -> None:
    """Of an interval that ended with 65 left, 70 had gone to a server: 5 are owed."""
    # Given a log that has lost a topup, and has ended the interval
    facts: list[Fact] = [*OPENED, IntervalEnded(cap="c", number=0)]
    # When the server tells of 70 more than the 40 that are known
    facts.append(TopupRecovered(cap="c", number=0, incarnation="s", moved=110))
    # Then nothing has expired, and the pool is over by 5
    *_, owed, found = statement(recorded(facts), "c")
    assert (owed.what, owed.amount, owed.available) == ("topup recovered", 5, -5)
    assert (found.what, found.amount, found.expired) == ("topup recovered", 65, 0)
