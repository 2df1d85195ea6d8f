"""What is true after a log was restored from a backup."""

import pytest
from msgspec.structs import replace

from tests.projections.states.test_data_centre import folded, opened, spend
from vcap_es.events.facts import (
    AmountWithheld,
    CentreChanged,
    CentreIdentified,
    CentreReadmitted,
    ClusterCreated,
    Definition,
    Fact,
    HoldingRecovered,
    IntervalEnded,
    IntervalTotalChanged,
    LogRestored,
    MetaDefined,
    NodeAddressChanged,
    Returned,
    ServerReadmitted,
    Stamp,
    ToppedUp,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    Version,
    WithheldReleased,
)
from vcap_es.projections.states.data_centre import NUMBERS_PER_GENERATION, DataCentre, Fold
from vcap_es.projections.states.places import Pool

FOUNDED = ClusterCreated(cluster="c1", dc="a", master="m0-a")
RESTORED = LogRestored(cluster="c1+1.00000000", was="c1", master="m0-b", position=9, restored_at=0)


def restored(*after: Fact, total: int = 100, moved: int = 30) -> Pool:
    """The pool of a restored interval, of which so much had been moved to "s"."""
    facts = [FOUNDED, *opened(total=total)]
    facts.append(ToppedUp(cap="c", number=0, incarnation="s", moved=moved))
    facts += [RESTORED, AmountWithheld(cap="c", number=0, amount=total - moved), *after]
    return folded(facts).state.metas["c"].intervals[0].pool


def recovered(moved: int, returned: int, spent: int = 0) -> HoldingRecovered:
    """How "s" stood with the generation before."""
    return HoldingRecovered(
        cap="c",
        number=0,
        incarnation="s",
        moved=moved,
        returned=returned,
        spent=spent,
        refunded=0,
    )


def changed(total: int) -> IntervalTotalChanged:
    """Another total of the interval."""
    return IntervalTotalChanged(cap="c", number=0, total=total, version=Version(0, 2))


@pytest.mark.parametrize(
    ("after", "available", "withheld"),
    [
        ((), 0, 70),
        # What comes back to this generation can be granted.
        ((spend("s", 10), Returned(cap="c", number=0, incarnation="s", returned=20)), 20, 70),
        # What the one before had granted more is not elsewhere; what it got back may be anywhere.
        ((recovered(80, 0),), 0, 20),
        ((recovered(80, 25),), 0, 45),
        # It may have granted of a total that is not known here: that is a debt.
        ((recovered(130, 0),), -30, 0),
        ((recovered(130, 40),), 0, 10),
        # It may have been told of the same total.
        ((changed(150),), 0, 120),
        ((changed(20),), -10, 0),
        ((changed(0), changed(100)), 0, 70),
        # Nobody has what expired.
        ((IntervalEnded(cap="c", number=0),), 0, 70),
        ((IntervalEnded(cap="c", number=0), recovered(80, 25)), 0, 45),
        (
            (
                WithheldReleased(cap="c", number=0, amount=70, approved_by=["ada", "bob"]),
                changed(110),
            ),
            80,
            0,
        ),
        (
            (
                WithheldReleased(cap="c", number=0, amount=70, approved_by=["ada", "bob"]),
                recovered(80, 25),
            ),
            20,
            25,
        ),
    ],
)
def test_where_the_units_are(after: tuple[Fact, ...], available: int, withheld: int) -> None:
    """What may be granted never rises by what the generation before may have granted."""
    pool = restored(*after)
    assert (pool.available, pool.withheld) == (available, withheld)
    spent = sum(each.spent - each.refunded for each in pool.places.values())
    assert pool.minted == available + withheld + pool.held + spent + pool.expired


def test_a_debt_stays_a_debt() -> None:
    """A total that was lowered below what had left is owed by the restored log as well."""
    facts = [FOUNDED, *opened(), ToppedUp(cap="c", number=0, incarnation="s", moved=80)]
    facts += [changed(50), RESTORED, AmountWithheld(cap="c", number=0, amount=-30)]
    pool = folded(facts).state.metas["c"].intervals[0].pool
    assert (pool.available, pool.withheld) == (-30, 0)


def met() -> DataCentre:
    """Two data centres that share caps, and a node, when the log of one is restored."""
    return folded(
        [
            FOUNDED,
            CentreChanged(centre="a", membership="in", weight=1, stamp=Stamp(1, "a")),
            CentreChanged(centre="b", membership="in", weight=1, stamp=Stamp(1, "a")),
            CentreIdentified(centre="b", cluster="b's"),
            NodeAddressChanged(
                node="m0-a", name="m0", role="master", address="http://h:1", stamp=1
            ),
            *opened(),
            RESTORED,
            AmountWithheld(cap="c", number=0, amount=100),
        ]
    ).state


def test_nobody_of_the_generation_before_is_known() -> None:
    """No node is dialled, and no other data centre has a part or is told anything."""
    state = met()
    assert state.nodes == {}
    assert state.weights("a") == {"a": 1}
    assert (state.apart, state.is_apart) == ({"b": "b's"}, True)


def test_who_declares_the_others_lost_is_not_apart_any_more() -> None:
    """It can share with data centres that are added later."""
    fold = folded([FOUNDED, CentreIdentified(centre="b", cluster="b's"), RESTORED])
    fold.evolve(CentreChanged(centre="b", membership="lost", weight=0, stamp=Stamp(2, "a")))
    assert not fold.state.is_apart


def test_who_is_readmitted_is_not_apart_any_more() -> None:
    """It takes part again, by the log that it has."""
    state = met()
    fold = Fold(state)
    fold.evolve(CentreReadmitted(centre="b", cluster="b's", was="b's"))
    assert state.weights("a") == {"a": 1, "b": 1}
    assert not state.is_apart
    assert state.is_unconfirmed(state.metas["c"])


def told(sent: int, received: int) -> TransferRecovered:
    """How "b" stood with the generation before: it had been sent, and had sent, so much."""
    return TransferRecovered(cap="c", number=0, centre="b", sent=sent, received=received)


SENT = TransferSent(cap="c", number=0, to="b", moved=20, asked=0)
RECEIVED = TransferReceived(cap="c", number=0, source="b", moved=10)


@pytest.mark.parametrize(
    ("after", "available", "withheld"),
    [
        # What the log knows already changes nothing.
        ((told(20, 10),), 0, 60),
        ((told(0, 0),), 0, 60),
        # What the other one has is not elsewhere; what it gave may be anywhere.
        ((told(50, 10),), 0, 30),
        ((told(20, 35),), 0, 85),
        ((told(50, 35),), 0, 55),
        ((told(50, 35), told(50, 35)), 0, 55),
        # In whatever order things are told.
        ((told(50, 10), told(20, 35)), 0, 55),
        ((told(110, 10),), -30, 0),
        ((told(110, 10), told(20, 45)), 0, 5),
        ((recovered(40, 0), told(110, 60)), 0, 10),
        # What is moved later can be granted.
        ((told(20, 35), replace(RECEIVED, moved=45)), 10, 85),
        ((replace(RECEIVED, moved=45), told(20, 35)), 35, 60),
        ((IntervalEnded(cap="c", number=0), told(50, 35)), 0, 55),
        (
            (
                WithheldReleased(cap="c", number=0, amount=60, approved_by=["ada", "bob"]),
                told(50, 35),
            ),
            30,
            25,
        ),
    ],
)
def test_what_another_data_centre_tells(
    after: tuple[Fact, ...], available: int, withheld: int
) -> None:
    """What may be granted never rises by what the generation before may have granted."""
    facts = [FOUNDED, *opened(), ToppedUp(cap="c", number=0, incarnation="s", moved=30)]
    facts += [SENT, RECEIVED, RESTORED, AmountWithheld(cap="c", number=0, amount=60), *after]
    pool = folded(facts).state.metas["c"].intervals[0].pool
    assert (pool.available, pool.withheld) == (available, withheld)
    assert pool.minted + pool.net == available + withheld + pool.held + pool.expired


def test_what_was_moved_to_a_restored_one_is_remembered() -> None:
    """Its log may lack it; what is moved later it gets as itself."""
    facts = [FOUNDED, *opened(), SENT, RECEIVED]
    facts.append(CentreReadmitted(centre="b", cluster="b's+1.00000000", was="b's"))
    facts.append(replace(SENT, moved=25))
    pool = folded(facts).state.metas["c"].intervals[0].pool
    assert pool.cuts == {"b": (20, 10)}


def test_numbers_of_intervals_are_not_given_twice() -> None:
    """Neither of a cap that is known, nor of one that is defined later."""
    fold = folded([FOUNDED, *opened(), RESTORED, AmountWithheld(cap="c", number=0, amount=100)])
    fold.evolve(MetaDefined(cap="d", version=Version(0, 1), definition=Definition(total=1)))
    numbers = {cap: meta.next_number for cap, meta in fold.state.metas.items()}
    assert numbers == {"c": NUMBERS_PER_GENERATION, "d": NUMBERS_PER_GENERATION}


def test_who_was_readmitted_is_so_until_the_next_restore() -> None:
    """A later generation has to readmit it anew."""
    fold = folded([FOUNDED, RESTORED, ServerReadmitted(incarnation="s", name="s1", was="c1")])
    assert fold.state.primacy.readmitted == {"s": "s1"}
    fold.evolve(
        LogRestored(
            cluster="c1+2.00000000", was="c1+1.00000000", master="m0-c", position=3, restored_at=0
        )
    )
    assert fold.state.primacy.readmitted == {}
    assert fold.state.primacy.before == ["c1", "c1+1.00000000"]
