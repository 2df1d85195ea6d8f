"""The fold of a data centre: deterministic, exact after every step, and all or nothing."""

import pytest
from hypothesis import given
from msgspec import msgpack
from msgspec.structs import replace

from tests.support.lives import lives
from vcap_es.events.codec import decode
from vcap_es.events.codec import encode as encode_fact
from vcap_es.events.facts import (
    ApiKeyCreated,
    Definition,
    EpochStarted,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaDefined,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    Version,
)
from vcap_es.projections.balances import encode, interval_balance
from vcap_es.projections.states.data_centre import DataCentre, Fold


def folded(facts: list[Fact]) -> Fold:
    """The fold of the facts."""
    fold = Fold()
    for fact in facts:
        fold.evolve(fact)
    return fold


def opened(number: int = 0, total: int = 100) -> list[Fact]:
    """A cap "c" with one open interval."""
    version = Version(0, 1)
    return [
        MetaDefined(cap="c", version=version, definition=Definition(total=total)),
        IntervalOpened(
            cap="c",
            number=number,
            start=0,
            end=1,
            total=total,
            version=version,
            timezone="UTC",
            tzdata="",
        ),
    ]


def spend(incarnation: str, spent: int, refunded: int = 0, number: int = 0) -> SpendReported:
    """A report of one entry for the cap "c"."""
    entry = Spend(cap="c", number=number, spent=spent, refunded=refunded, refused=0, final=False)
    return SpendReported(incarnation=incarnation, entries=[entry])


@given(lives())
def test_the_equation_holds_after_every_fact(facts: list[Fact]) -> None:
    """After each fact, every unit of every open interval is in exactly one place."""
    fold = Fold()
    for fact in facts:
        fold.evolve(fact)
        for meta in fold.state.metas.values():
            for interval in meta.intervals:
                assert interval_balance(interval).amounts.difference == 0
                assert all(account.held >= 0 for account in interval.pool.places.values())


@given(lives(longest=30))
def test_a_prefix_folds_to_what_the_live_state_was(facts: list[Fact]) -> None:
    """The fold of any prefix equals the live state at that moment, byte for byte."""
    live = Fold()
    for count, fact in enumerate(facts, 1):
        live.evolve(fact)
        assert encode(folded(facts[:count]).state) == encode(live.state)


@given(lives())
def test_a_running_total_that_comes_again_changes_nothing(facts: list[Fact]) -> None:
    """Each movement and report is folded twice in a row, to the same state as once."""
    twice = Fold()
    for fact in facts:
        twice.evolve(fact)
        if isinstance(fact, ToppedUp | Returned | SpendReported):
            twice.evolve(fact)
    assert encode(twice.state) == encode(folded(facts).state)


@given(lives())
def test_a_fact_that_is_refused_has_changed_nothing(facts: list[Fact]) -> None:
    """A report with one entry that cannot be true is not taken in, not even in part."""
    fold = folded(facts)
    before = encode(fold.state)
    interval = fold.state.metas["campaign"].intervals[:1]
    good = [
        Spend(cap="campaign", number=i.number, spent=0, refunded=0, refused=9**9, final=False)
        for i in interval
    ]
    bad = Spend(cap="nobody's", number=0, spent=1, refunded=0, refused=0, final=False)
    with pytest.raises(AssertionError):
        fold.evolve(SpendReported(incarnation="a1", entries=[*good, bad]))
    assert encode(fold.state) == before


@pytest.mark.parametrize(
    "fact",
    [
        ToppedUp(cap="c", number=0, incarnation="s", moved=101),
        ToppedUp(cap="c", number=1, incarnation="s", moved=1),
        Returned(cap="c", number=0, incarnation="s", returned=11),
        spend("s", 11),
        spend("s", 2, refunded=3),
        IntervalClosed(cap="c", number=0, unreported=10),
        opened()[0],
        opened()[1],
        EpochStarted(epoch=0, leader="m"),
    ],
)
def test_what_cannot_be_true_is_refused_whole(fact: Fact) -> None:
    """More than there is, unknown intervals, old versions and epochs raise and change nothing."""
    # Given an interval of 100 with 10 at a server
    fold = folded([*opened(), ToppedUp(cap="c", number=0, incarnation="s", moved=10)])
    before = encode(fold.state)
    # When a fact comes that contradicts it / Then it is refused
    with pytest.raises(AssertionError):
        fold.evolve(fact)
    assert encode(fold.state) == before


def test_a_report_is_taken_in_whole_or_not_at_all() -> None:
    """Where the second entry of a report cannot be true, the first has not been folded either."""
    # Given two intervals, of which a server has 10 units of the first
    facts = [*opened(), opened(number=1)[1], ToppedUp(cap="c", number=0, incarnation="s", moved=10)]
    fold = folded(facts)
    before = encode(fold.state)
    # When it tells of a spend of both
    told = [*spend("s", 5).entries, *spend("s", 1, number=1).entries]
    with pytest.raises(AssertionError, match="more than its 0 units"):
        fold.evolve(SpendReported(incarnation="s", entries=told))
    # Then nothing has changed
    assert encode(fold.state) == before


def test_nothing_is_granted_and_no_total_changes_after_the_end() -> None:
    """An ended interval gives nothing to anybody."""
    fold = folded([*opened(), IntervalEnded(cap="c", number=0)])
    with pytest.raises(AssertionError):
        fold.evolve(ToppedUp(cap="c", number=0, incarnation="s", moved=1))


def test_a_closed_interval_leaves_the_state_and_its_number_is_never_used_again() -> None:
    """Closed books are not kept in the live state; the number stays taken."""
    fold = folded([*opened(number=3), IntervalEnded(cap="c", number=3)])
    fold.evolve(IntervalClosed(cap="c", number=3, unreported=0))
    assert fold.state.metas["c"].intervals == ()
    with pytest.raises(AssertionError):
        fold.evolve(opened(number=3)[1])


def test_equal_values_are_one_object() -> None:
    """A hundred thousand caps with one definition and one midnight keep one of each."""

    def check(fold: Fold) -> None:
        first, second = fold.state.metas["c"], fold.state.metas["d"]
        assert first.definition is second.definition
        assert first.version is second.version
        assert first.intervals[0].end is second.intervals[0].end is second.opened_until
        names = [each.intervals[0].pool.places for each in (first, second)]
        assert next(iter(names[0])) is next(iter(names[1]))

    # Given two caps that were defined, opened and topped up alike, from bytes of their own
    facts = [*opened(), ToppedUp(cap="c", number=0, incarnation="server", moved=1)]
    alike = [replace(fact, cap="d") for fact in facts]
    fold = folded([decode(encode_fact(fact)) for fact in (*facts, *alike)])
    # Then what is equal is one object, also after the state went through bytes
    check(fold)
    check(Fold(msgpack.decode(msgpack.encode(fold.state), type=DataCentre)))


def test_a_key_that_is_revoked_opens_nothing() -> None:
    """The keys of the state are those in force."""
    key = ApiKeyCreated(key="k", digest=bytes(32), role="admin", scopes=[], expires_at=None)
    fold = folded([key])
    assert fold.state.access.keys == {"k": key}
