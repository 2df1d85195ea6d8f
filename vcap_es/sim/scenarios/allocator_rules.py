"""The allocator of one interval, rule by rule: who is served, who waits, and who is told what."""

from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.lone_allocator import LoneAllocator


def needs_are_served_first_in_first_out_and_whole() -> None:
    """The first in the queue gets its whole need or nothing, and nobody else anything before."""
    allocator = LoneAllocator(10, "abc")
    assert allocator.report("c", need=8).moved == 8
    waiting = allocator.report("a", need=6)
    assert (waiting.moved, waiting.verdict) == (0, None)
    # Given two are available, one who comes later and needs one does not get it
    assert allocator.report("b", need=1).moved == 0
    # When the recall is answered
    recall = allocator.allocator.grant("c").recall
    assert recall is not None
    assert recall[1] == 4
    allocator.report("c", returned=4, answered=recall[0])
    # Then first the head is served whole, and then the others are
    assert allocator.allocator.grant("a").moved == 6
    assert allocator.interval.pool.available == 0
    second = allocator.allocator.grant("c").recall
    assert second is not None
    assert second[1] == 5


def a_verdict_comes_when_all_have_answered() -> None:
    """It says what rest there is, and what the server had returned when it was given."""
    allocator = LoneAllocator(10, "ab")
    allocator.report("b", need=8)
    allocator.report("a", need=5)
    recall = allocator.allocator.grant("b").recall
    assert recall is not None
    allocator.report("b", spent=8, answered=recall[0])
    grant = allocator.allocator.grant("a")
    assert grant.verdict is not None
    assert (grant.verdict.rest, grant.verdict.returned) == (2, 0)


def a_server_that_connects_with_units_is_asked_too() -> None:
    """A verdict is not given over the head of a holder that has come back meanwhile."""
    allocator = LoneAllocator(10, "abd")
    allocator.report("d", need=4)
    allocator.connected.discard("d")
    allocator.report("b", need=6)
    allocator.report("a", need=5)
    first = allocator.allocator.grant("b").recall
    assert first is not None
    # When a holder comes back while the others are being asked
    allocator.connected.add("d")
    allocator.allocator._wishes["d"].connection = 0
    allocator.report("d")
    allocator.report("b", spent=6, answered=first[0])
    # Then it is asked before there is a verdict
    assert allocator.allocator.grant("a").verdict is None
    recall = allocator.allocator.grant("d").recall
    assert recall is not None
    allocator.report("d", returned=4, answered=recall[0])
    verdict = allocator.allocator.grant("a").verdict
    assert verdict is not None
    assert verdict.rest == 4


def more_units_wake_those_who_were_told_otherwise() -> None:
    """A refund makes verdicts void, and the servers that had one are told."""
    allocator = LoneAllocator(5, "ab")
    allocator.report("b", need=5)
    allocator.report("b", spent=5)
    assert allocator.report("a", need=3).verdict is not None
    allocator.told.clear()
    allocator.report("b", refunded=4)
    assert allocator.told == ["a"]
    grant = allocator.allocator.grant("a")
    assert grant.verdict is None
    assert grant.version == (3, 1)


def a_wish_ahead_of_need_counts_from_what_was_received() -> None:
    """However often it is repeated, it moves only a part of what there is, once."""
    allocator = LoneAllocator(100, "ab")
    allocator.report("a")
    allocator.report("b")
    first = allocator.report("a", received=0, want=90).moved
    assert 0 < first < 90
    for _ in range(5):
        assert allocator.report("a", received=0, want=90).moved == first
    assert allocator.report("a", want=90).moved > first


def an_older_report_changes_no_wish() -> None:
    """Needs are taken from the newest report only; totals from any."""
    allocator = LoneAllocator(10, "ab")
    allocator.report("a", order=9)
    assert allocator.report("a", need=4, order=5).moved == 0
    assert allocator.report("a", need=4, order=10).moved == 4


def the_head_is_given_up_after_a_while() -> None:
    """When a holder does not answer, the head leaves without a verdict and others are served."""
    allocator = LoneAllocator(10, "abc")
    allocator.report("c", need=8)
    allocator.report("a", need=5)
    allocator.report("b", need=1)
    # When the need of the head changes, its time does not begin anew
    allocator.report("a", need=6, now=NOON + 1_500_000)
    assert allocator.allocator.grant("b").moved == 0
    allocator.allocator.serve(NOON + 2_100_000)
    assert allocator.allocator.grant("a").verdict is None
    assert allocator.allocator.grant("b").moved == 1


def one_who_is_gone_does_not_hold_up_the_others() -> None:
    """A head that is not connected any more leaves the queue; so does a holder that is asked."""
    allocator = LoneAllocator(10, "abc")
    allocator.report("c", need=8)
    allocator.report("a", need=5)
    allocator.report("b", need=2)
    allocator.connected.discard("c")
    allocator.allocator.serve(NOON)
    verdict = allocator.allocator.grant("a").verdict
    assert verdict is not None
    assert verdict.rest == 2
    assert allocator.allocator.grant("b").moved == 2


def a_final_that_has_not_seen_all_is_none() -> None:
    """The last word of a server counts only when it has seen all that was moved to it."""
    allocator = LoneAllocator(10, "a")
    allocator.report("a", need=5)
    allocator.interval.pool.ended = True
    allocator.report("a", received=0, final=True)
    assert not allocator.interval.pool.peek("a").final
    allocator.report("a", spent=5, final=True)
    assert allocator.interval.pool.peek("a").final


def after_the_end_nothing_is_granted() -> None:
    """Needs that come or wait after the end are not served."""
    allocator = LoneAllocator(10, "a")
    allocator.interval.pool.ended = True
    assert allocator.report("a", need=3, want=9).moved == 0
    assert not allocator.allocator.busy


def who_was_given_what_the_log_has_lost_is_asked_too() -> None:
    """No verdict is given over units that a server tells of while the others are asked."""
    # Given a log that has lost a topup of two units, and a need that only all idle units meet
    allocator = LoneAllocator(10, "abd")
    allocator.is_forced = True
    allocator.report("d", need=8)
    assert allocator.report("a", need=5).moved == 0
    first = allocator.allocator.grant("d").recall
    assert first is not None
    # When who was given the two tells of them, and then the other one gives back what it was asked
    allocator.report("b", received=2)
    allocator.report("d", spent=5, returned=first[1], answered=first[0])
    # Then the two are asked for, and the need is met
    assert allocator.allocator.grant("a").verdict is None
    second = allocator.allocator.grant("b").recall
    assert second is not None
    allocator.report("b", returned=second[1], answered=second[0])
    assert allocator.allocator.grant("a").moved == 5
