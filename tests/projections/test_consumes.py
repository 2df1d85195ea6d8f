"""What became of a consume: what covers it, what told of it, and what is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.projections.test_balances import OPENED
from tests.support.lives import CAPS, NOON, SECOND, SERVERS, lives, recorded
from vcap_es.events.consume_ids import ConsumeId
from vcap_es.events.facts import Fact, IntervalClosed, IntervalEnded, Returned, ToppedUp
from vcap_es.projections.consumes import Cover, explain_consume
from vcap_es.projections.history import fold_until

MORE: list[Fact] = [*OPENED, ToppedUp(cap="c", number=0, incarnation="s", moved=60)]


def cover(
    start: int, end: int, position: int, reported_in: int | None, *, refunded: bool = False
) -> Cover:
    """Units from the event at `position`."""
    return Cover(
        start=start,
        end=end,
        what="refunded" if refunded else "topup",
        position=position,
        at=NOON + position * SECOND,
        reported_in=reported_in,
    )


def test_a_reported_consume_is_covered_by_topup_and_report() -> None:
    """Units 10 to 12 came from the topup at 3 and were told of at 4."""
    found = explain_consume(recorded(MORE), "s.0.c.10-12")
    assert found.status == "reported"
    assert found.covers == [cover(10, 12, 3, 4)]
    assert found.refunded == 4
    assert found.sentences == [
        "2 units of c, interval 0: units 10 to 12 of what server s spent there in all.",
        "Units 10 to 12 came from the topup at position 3 (2026-01-01T12:00:03Z);"
        " first reported at position 4.",
        "4 units were refunded by that server in this interval; which consumes they belong to is"
        " known to that server alone.",
        "The interval is open.",
    ]


def test_the_server_of_a_consume_is_called_by_its_name_too() -> None:
    """Where the name of its incarnation is known, the first sentence says it."""
    found = explain_consume(recorded(MORE), "s.0.c.10-12", {"s": "s1"})
    assert found.sentences[0].endswith("of what server s1 (s) spent there in all.")


def test_a_consume_that_is_not_told_of_yet_says_so() -> None:
    """Units behind what was reported are what the server has for them, as far as is known."""
    found = explain_consume(recorded(MORE), "s.0.c.28-41")
    assert found.status == "partly reported"
    # 40 came at 3; 30 are spent, 4 came back, and of those 14 the last 5 were returned.
    assert found.covers == [cover(28, 30, 3, 4), cover(30, 39, 3, None), cover(39, 41, 6, None)]
    assert "Not reported yet: so far the server has told of 30 units." in found.sentences
    assert explain_consume(recorded(MORE), "s.0.c.30-31").status == "not reported yet"


def test_a_consume_of_a_server_that_never_told_is_unreported_at_the_close() -> None:
    """After the close what was held counts as spent, and that is final."""
    facts = [
        *MORE,
        IntervalEnded(cap="c", number=0),
        IntervalClosed(cap="c", number=0, unreported=29),
    ]
    found = explain_consume(recorded(facts), "s.0.c.30-33")
    assert found.status == "unreported"
    assert (found.ended_at, found.closed_at) == (NOON + 7 * SECOND, NOON + 8 * SECOND)
    assert found.sentences[-1] == "The interval closed at 2026-01-01T12:00:08Z: this is final."
    assert any("among its 29 unreported units" in each for each in found.sentences)


@pytest.mark.parametrize("text", ["s.0.c.59-60", "s.1.c.1-2", "x.0.c.1-2", "s.0.d.1-2"])
def test_a_consume_that_the_log_cannot_account_for_is_unknown(text: str) -> None:
    """More than was given, no such interval, server or cap: nothing is made up."""
    found = explain_consume(recorded(MORE), text)
    assert found.status == "unknown"
    assert any("the id" in each for each in found.sentences)


def test_refunded_units_are_spent_again_under_their_refund() -> None:
    """Units that a refund made free carry the position of the report that told of it."""
    # Given all that is held returned but the 4 refunded units and one more
    facts = [*MORE[:4], Returned(cap="c", number=0, incarnation="s", returned=9)]
    # Then the next units are the last of the topup's, first in, first out
    assert explain_consume(recorded(facts), "s.0.c.30-35").covers == [cover(30, 35, 3, None)]
    # And without the return, the refunded ones come after those of the topup
    covers = explain_consume(recorded(MORE[:4]), "s.0.c.39-42").covers
    assert covers == [cover(39, 40, 3, None), cover(40, 42, 4, None, refunded=True)]


@given(lives(), st.sampled_from(CAPS), st.sampled_from(SERVERS))
def test_the_covers_of_all_that_was_spent_are_whole(
    facts: list[Fact], cap: str, server: str
) -> None:
    """Over all that a server spent, the covers join without gap or overlap."""
    history = fold_until(recorded(facts), cap=cap)
    for interval in history.intervals(cap):
        account = interval.pool.peek(server)
        if not account.spent:
            continue
        wanted = ConsumeId(server, interval.number, cap, 0, account.spent)
        found = explain_consume(recorded(facts), wanted)
        assert found.status == "reported"
        assert found.refunded == account.refunded
        ends = [0, *(each.end for each in found.covers)]
        assert [each.start for each in found.covers] == ends[:-1]
        assert ends[-1] == account.spent
        by_topup = sum(e.end - e.start for e in found.covers if e.what == "topup")
        assert by_topup <= account.out
        for each in found.covers:
            assert each.reported_in is not None
            assert each.position <= each.reported_in
