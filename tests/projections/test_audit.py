"""The independent audit: silent over every true history, and right about every false one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from tests.support.lives import lives, recorded
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    ClusterCreated,
    ConfigDecided,
    Definition,
    EpochStarted,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    IntervalTotalChanged,
    MetaChanged,
    MetaDefined,
    MetaRetired,
    PromotionForced,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
    Version,
)
from vcap_es.projections.amounts import Amounts
from vcap_es.projections.audit import FINDINGS_MAX, Audit, Finding
from vcap_es.projections.balances import amounts_of, balance_of
from vcap_es.projections.history import fold_until

V1 = Version(0, 1)


def opened(number: int, start: int = 0, end: int = 10, total: int = 100) -> IntervalOpened:
    """An interval of the cap "c"."""
    return IntervalOpened(
        cap="c",
        number=number,
        start=start,
        end=end,
        total=total,
        version=V1,
        timezone="UTC",
        tzdata="",
    )


def told(spent: int, refunded: int = 0, refused: int = 0, *, final: bool = False) -> SpendReported:
    """A report of the server "s" about interval 0 of the cap "c"."""
    entry = Spend(cap="c", number=0, spent=spent, refunded=refunded, refused=refused, final=final)
    return SpendReported(incarnation="s", entries=[entry])


def moved(amount: int, number: int = 0) -> ToppedUp:
    """A topup of the server "s"."""
    return ToppedUp(cap="c", number=number, incarnation="s", moved=amount)


def back(amount: int) -> Returned:
    """A return of the server "s"."""
    return Returned(cap="c", number=0, incarnation="s", returned=amount)


DEFINED = MetaDefined(cap="c", version=V1, definition=Definition(total=100))
CREATED = ClusterCreated(cluster="c1" * 16, dc="north", master="m0-a")


def epoch(number: int) -> EpochStarted:
    """The start of an epoch."""
    return EpochStarted(epoch=number, leader="m")


def decided(number: int, version: int) -> ConfigDecided:
    """A configuration of that stamp."""
    return ConfigDecided(epoch=number, version=version, isr=["m0-a"], voters=["m0-a"])


LIFE: list[Fact] = [
    epoch(1),
    DEFINED,
    opened(0),
    moved(40),
    told(30, 4, 7),
    back(5),
    IntervalEnded(cap="c", number=0),
    told(39, 4, 9, final=True),
    IntervalClosed(cap="c", number=0, unreported=0),
]


def findings(facts: Sequence[Fact]) -> list[Finding]:
    """What the audit finds in the facts."""
    return audited(recorded(facts))


def audited(events: Sequence[Recorded]) -> list[Finding]:
    """What the audit finds in the events."""
    audit = Audit()
    for event in events:
        audit.feed(event)
    return audit.findings


@given(lives())
def test_a_true_history_gives_no_finding(facts: list[Fact]) -> None:
    """Nothing is found in a valid life, and the recomputed amounts are those that are shown."""
    audit = Audit()
    for event in recorded(facts):
        audit.feed(event)
    history = fold_until(recorded(facts))
    audit.compare(amounts_of(balance_of(meta) for meta in history.state.metas.values()))
    assert audit.findings == []
    shown = [history.balance(cap) for cap in history.state.metas]
    closed = [i.amounts for cap in shown if cap for i in cap.intervals if i.closed]
    assert audit.totals().closed == sum(closed, Amounts())
    assert audit.totals().sum.difference == 0


def test_the_sum_counts_closed_intervals_too() -> None:
    """Closed books leave the intervals and stay in the sum."""
    audit = Audit()
    for event in recorded([*LIFE, opened(1, 10, 20, total=50)]):
        audit.feed(event)
    totals = audit.totals()
    assert totals.intervals == {("c", 1): Amounts(total=50, available=50)}
    assert totals.closed == Amounts(total=100, spent=35, expired=65)
    assert totals.sum == Amounts(total=150, available=50, spent=35, expired=65)


def recovered(amount: int) -> TopupRecovered:
    """A topup of the server "s" that the log had lost."""
    return TopupRecovered(cap="c", number=0, incarnation="s", moved=amount)


FORCED = PromotionForced(leader="m1-b", approved_by=["a", "b"], isr=["m0-a"], committed=90)


def test_what_a_forced_promotion_lost_may_be_recovered() -> None:
    """Within the total that is no finding, also after the end, when it counted as expired."""
    assert findings([*LIFE[:3], FORCED, recovered(40), told(30)]) == []
    assert findings([*LIFE[:7], FORCED, recovered(60), told(39, 4, 7)]) == []


FALSE: list[tuple[str, list[Fact]]] = [
    ("version", [*LIFE, MetaChanged(cap="c", version=V1, definition=Definition(total=5))]),
    ("version", [*LIFE, DEFINED]),
    ("unknown", [LIFE[0], opened(0)]),
    ("order", [*LIFE[:3], recovered(40)]),
    ("overdrawn", [*LIFE[:4], FORCED, recovered(101)]),
    ("unknown", [*LIFE, moved(1, number=7)]),
    ("one mint", [*LIFE[:4], opened(0, 10, 20)]),
    ("numbers grow", [*LIFE, opened(0, 10, 20)]),
    ("periods", [*LIFE, opened(1, 9, 20)]),
    ("periods", [*LIFE, opened(1, 20, 20)]),
    (
        "after the end",
        [*LIFE, MetaRetired(cap="c", version=Version(0, 2), ended_before=1), opened(1, 10, 20)],
    ),
    ("after the end", [*LIFE[:7], moved(41)]),
    ("after the end", [*LIFE[:7], LIFE[6]]),
    ("after the end", [*LIFE[:7], IntervalTotalChanged(cap="c", number=0, total=1, version=V1)]),
    ("after the end", [*LIFE[:4], IntervalClosed(cap="c", number=0, unreported=40)]),
    ("totals shrink", [*LIFE[:4], moved(39)]),
    ("totals shrink", [*LIFE[:6], back(4)]),
    ("totals shrink", [*LIFE[:5], told(29, 4, 7)]),
    ("totals shrink", [*LIFE[:5], told(30, 3, 7)]),
    ("totals shrink", [*LIFE[:5], told(30, 4, 6)]),
    ("overdrawn", [*LIFE[:3], moved(101)]),
    (
        "overdrawn",
        [*LIFE[:4], IntervalTotalChanged(cap="c", number=0, total=30, version=V1), moved(41)],
    ),
    ("overspent", [*LIFE[:4], told(41)]),
    ("overspent", [*LIFE[:4], told(1, 2)]),
    ("overspent", [*LIFE[:4], back(41)]),
    ("final", [*LIFE[:7], told(39, 4, 9, final=True), told(39, 5, 9, final=True)]),
    ("final", [*LIFE[:7], told(38, 4, 9, final=True), back(6)]),
    ("closed is final", [*LIFE, back(6)]),
    ("closed is final", [*LIFE, told(39, 5, 9)]),
    ("closed is final", [*LIFE, LIFE[-1]]),
    ("equation", [*LIFE[:-1], IntervalClosed(cap="c", number=0, unreported=1)]),
    ("equation", [*LIFE[:7], IntervalClosed(cap="c", number=0, unreported=0)]),
    ("order", [*LIFE, epoch(0)]),
    ("order", [*LIFE, epoch(1)]),
    ("order", [*LIFE, CREATED]),
    ("order", [*LIFE, decided(1, 2), decided(1, 2)]),
    ("order", [*LIFE, decided(1, 2), decided(1, 1)]),
    ("order", [*LIFE, epoch(4), decided(4, 1), decided(3, 9)]),
]


def test_the_history_that_is_falsified_below_is_true() -> None:
    """The life that the false ones are made from gives no finding."""
    assert findings(LIFE) == []


@pytest.mark.parametrize(("rule", "facts"), FALSE)
def test_a_false_history_breaks_its_rule_at_its_event(rule: str, facts: list[Fact]) -> None:
    """Each kind of false fact is found at its position, under its rule."""
    found = findings(facts)
    assert (len(facts), rule) in [(each.position, each.rule) for each in found]
    assert all(each.position == len(facts) for each in found)


def test_a_dropped_or_doubled_amount_is_found() -> None:
    """A topup that is taken out of the history leaves spends that nobody can have made."""
    without = [fact for fact in LIFE if not isinstance(fact, ToppedUp)]
    assert "overspent" in {each.rule for each in findings(without)}


@pytest.mark.parametrize(
    "change",
    [
        lambda event: replace(event, position=3),
        lambda event: replace(event, recorded_at=event.recorded_at - 10**9),
        lambda event: replace(event, epoch=0),
    ],
)
def test_positions_stamps_and_epochs_never_run_backwards(change: Callable[[Any], Any]) -> None:
    """An event that stands where it cannot have been recorded is found."""
    audit = Audit()
    events = recorded(LIFE)
    for event in [*events[:5], change(events[5])]:
        audit.feed(event)
    assert [finding.rule for finding in audit.findings] == ["order"]


def test_the_primacy_of_a_cluster_that_lives_on_is_in_order() -> None:
    """The founding, the start of each epoch and rising configurations give no finding."""
    facts: list[Fact] = [CREATED, epoch(2), decided(2, 1), decided(2, 2), epoch(5), decided(5, 1)]
    events = recorded(facts)
    # A founding is written by the master that starts the first epoch, in that epoch.
    assert audited([replace(events[0], epoch=2), *events[1:]]) == []


@pytest.mark.parametrize(
    ("number", "detail"),
    [(2, "epoch 3 begins with MetaDefined"), (1, "epoch 1 starts in an event of epoch 3")],
)
def test_an_epoch_begins_with_its_start(number: int, detail: str) -> None:
    """An event of an epoch that has not started is found once; so is a start of another epoch."""
    events = recorded(LIFE)
    raised = [replace(event, epoch=3) for event in events[number - 1 :]]
    found = audited([*events[: number - 1], *raised])
    assert [(each.position, each.rule) for each in found] == [(number, "order")]
    assert detail in found[0].detail


def test_a_founding_starts_no_epoch() -> None:
    """After it, too, an epoch begins with its start."""
    events = [replace(event, epoch=2) for event in recorded([CREATED, DEFINED])]
    assert [(each.position, each.rule) for each in audited(events)] == [(2, "order")]


def test_balances_that_differ_are_found() -> None:
    """A unit too many in what is shown, an interval too many and one too few are each found."""
    facts = [*LIFE[:6], opened(1, 10, 20)]
    history = fold_until(recorded(facts))
    shown = history.balance("c")
    assert shown is not None
    first, second = shown.intervals
    for intervals in (
        [replace(first, spent=first.spent + 1), second],
        [first],
        [first, second, replace(second, number=2)],
    ):
        audit = Audit()
        for event in recorded(facts):
            audit.feed(event)
        audit.compare(amounts_of([replace(shown, intervals=intervals)]))
        assert [finding.rule for finding in audit.findings] == ["balances"]


def test_findings_are_bounded_and_all_counted() -> None:
    """A log that is wrong everywhere fills no memory, and still tells how wrong it is."""
    audit = Audit()
    for event in recorded([moved(1)] * (FINDINGS_MAX + 5)):
        audit.feed(event)
    assert len(audit.findings) == FINDINGS_MAX
    assert audit.count == FINDINGS_MAX + 5
