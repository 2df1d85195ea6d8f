"""Why units are where they are: every unit, and the events that put it there."""

from typing import Any

import pytest
from hypothesis import given

from tests.projections.test_balances import OPENED
from tests.projections.test_history import ENDED
from tests.support.lives import NOON, SECOND, lives, recorded
from vcap_es.errors import InvalidInput
from vcap_es.events.facts import Fact, IntervalOpened, IntervalTotalChanged, MetaDefined, Version
from vcap_es.projections.explanations import POSITIONS_MAX, explain
from vcap_es.projections.history import fold_until
from vcap_es.projections.wording import render

V1 = Version(0, 1)
TODAY: list[Fact] = [
    OPENED[0],
    IntervalOpened(
        cap="c",
        number=0,
        start=NOON,
        end=NOON + 3600 * SECOND,
        total=100,
        version=V1,
        timezone="UTC",
        tzdata="",
    ),
    *ENDED[2:],
]


@given(lives())
def test_every_unit_is_explained_once(facts: list[Fact]) -> None:
    """The reasons of an interval sum to its total, and agree with its balance server by server."""
    history = fold_until(recorded(facts))
    for cap in history.state.metas:
        balance = history.balance(cap)
        assert balance is not None
        for interval in balance.intervals:
            total, *reasons = explain(recorded(facts), cap, number=interval.number)
            assert total.amount == interval.total == sum(reason.amount for reason in reasons)
            by_place = {(reason.place, reason.server): reason.amount for reason in reasons}
            assert by_place.get(("available", None), 0) == interval.available
            assert by_place.get(("expired", None), 0) == interval.expired
            for server in interval.servers:
                for place in ("held", "spent", "unreported"):
                    told = by_place.get((place, server.incarnation), 0)
                    assert told == getattr(server, place)


def test_the_events_of_a_reason_speak_of_the_cap() -> None:
    """A reason names the positions that moved its units, and no other."""
    reasons = {reason.place: reason for reason in explain(recorded(TODAY), "c", number=0)}
    assert reasons["minted"].positions == [2]
    assert reasons["spent"].positions == [4]
    assert reasons["expired"].positions == [6]
    assert reasons["unreported"].positions == [7]
    assert reasons["unreported"].server == "s"


def test_an_explanation_is_as_of_a_time() -> None:
    """At an earlier instant or position the units are where they were then."""
    for explained in (
        explain(recorded(TODAY), "c", at=NOON + 3 * SECOND),
        explain(recorded(TODAY), "c", position=3),
    ):
        assert [(reason.place, reason.amount) for reason in explained] == [
            ("minted", 100),
            ("available", 60),
            ("held", 40),
        ]


def test_a_debt_is_explained() -> None:
    """Below 0 the pool is over, and the reason says so."""
    lowered = IntervalTotalChanged(cap="c", number=0, total=20, version=V1)
    reasons = explain(recorded([*TODAY[:5], lowered]), "c", number=0)
    assert reasons[1].amount == -15
    assert reasons[1].text == (
        "over by 15: the total was lowered below what had left the pool"
        " (opened at 2; topup at 3; return at 5; total changed at 6)"
    )


def test_an_explanation_reads_as_sentences() -> None:
    """Each reason is a sentence that names its events."""
    assert [reason.text for reason in explain(recorded(TODAY), "c", number=0)] == [
        "interval 0, from 2026-01-01T12:00:00Z to 2026-01-01T13:00:00Z, has 100 units in all"
        " (opened at 2)",
        "65 units expired: not taken by the end, or come back after it (ended at 6)",
        "26 units spent at s, net of refunds (spent at 4; refunded at 4)",
        "9 units unreported: s had not told by the close, so they count as spent (closed at 7)",
    ]
    assert render(explain(recorded(TODAY), "c", number=0)).startswith("place")


def test_a_server_is_called_by_its_name_too() -> None:
    """Where the name of an incarnation is known, the texts say it; who it is stays the same."""
    named = explain(recorded(TODAY), "c", number=0, names={"s": "s1", "other": "s2"})
    assert [reason.text for reason in named[2:]] == [
        "26 units spent at s1 (s), net of refunds (spent at 4; refunded at 4)",
        "9 units unreported: s1 (s) had not told by the close, so they count as spent"
        " (closed at 7)",
    ]
    assert [reason.server for reason in named] == [None, None, "s", "s"]


@pytest.mark.parametrize(
    "asked", [{"number": 1}, {"at": NOON - 1}, {"at": NOON + 3600 * SECOND}, {"position": 1}]
)
def test_an_interval_that_is_not_there_is_not_explained(asked: dict[str, Any]) -> None:
    """A wrong number, a time outside of every period, a position before the opening."""
    with pytest.raises(InvalidInput):
        explain(recorded(TODAY), "c", **asked)


def test_an_unknown_cap_is_not_explained() -> None:
    """Nothing is made up for a cap that was never defined."""
    with pytest.raises(InvalidInput, match="nobody"):
        explain(recorded(TODAY), "nobody's")


def test_the_positions_of_a_reason_are_bounded() -> None:
    """A busy interval names its newest events, and counts them all."""
    changes: list[Fact] = [
        IntervalTotalChanged(cap="c", number=0, total=100 + i, version=V1)
        for i in range(POSITIONS_MAX)
    ]
    total, _ = explain(recorded([*TODAY[:2], *changes]), "c", number=0)
    assert isinstance(TODAY[0], MetaDefined)
    assert total.events == POSITIONS_MAX + 1
    assert total.positions == list(range(3, 3 + POSITIONS_MAX))
