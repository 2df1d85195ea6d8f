"""The server's side of the slice protocol, rule by rule, against a master made by hand."""

from vcap_es.components.messages.client import (
    Cancel,
    Consume,
    ConsumeAll,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import Consumed, Held, Refused
from vcap_es.components.messages.server import (
    Verdict,
)
from vcap_es.components.volumecap_server.slices.journal import Journal, Kept
from vcap_es.components.volumecap_server.slices.outputs import Abandon, Reply, ServerOutput, Write
from vcap_es.events.units import MS
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.scenarios.lone_server import LoneServer


def nothing_is_spent_above_the_fsynced_ceiling() -> None:
    """Units that came are spent when the record that covers them is fsynced, and not before."""
    lone = LoneServer()
    token = lone.consume(3)
    lone.grant(5)
    assert token not in lone.replies
    lone.sync()
    assert isinstance(lone.replies[token], Consumed)


def a_recall_is_answered_after_the_fsync_with_its_return() -> None:
    """Neither the return nor the answer is told before they are fsynced."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    lone.grant(5, recall=((1, 1), 4))
    assert lone.answered != (1, 1)
    assert lone.reports[-1].returned == 0
    lone.sync()
    assert lone.answered == (1, 1)
    assert lone.reports[-1].returned == 4


def a_return_that_waits_for_another_record_is_not_answered_by_that_one() -> None:
    """The answer belongs to the record that contains the return, not to one before it."""
    lone = LoneServer()
    lone.grant(5)
    assert lone.tickets == [1]
    lone.grant(5, recall=((1, 1), 4))
    lone.core.written(lone.tickets.pop(0), lone.now_ns)
    lone.flush()
    assert lone.answered != (1, 1)
    assert lone.tickets == [2]
    lone.sync()
    assert lone.answered == (1, 1)


def a_recall_that_is_met_already_is_not_spoken_of_before_the_fsync() -> None:
    """A need and its recalls do not go to and fro as fast as the link can while a disk is slow."""
    # Given a server that waits for more than it has, and is returning what was asked of it
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    lone.consume(20)
    lone.grant(5, recall=((1, 1), 4))
    told = len(lone.reports)
    # When the allocator asks for the same again and again, and the disk has not synced
    for number in range(2, 10):
        lone.grant(5, recall=((1, number), 4))
    # Then only the need is told, once, that its return has raised; the fsync answers the newest
    assert len(lone.reports) <= told + 1
    lone.sync()
    assert lone.answered == (1, 9)
    assert lone.reports[-1].returned == 4


def an_answer_waits_while_a_refund_is_being_fsynced() -> None:
    """Units that come free with the next fsync are returned before there is an answer."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    answer = lone.replies[lone.consume(5)]
    assert isinstance(answer, Consumed)
    lone.submit(Refund(id=answer.id))
    lone.grant(5, recall=((1, 1), 5))
    assert lone.answered != (1, 1)
    lone.sync()
    assert lone.answered == (1, 1)
    assert lone.reports[-1].returned == 5


def an_answer_waits_while_units_are_set_aside() -> None:
    """Units that an all-or-none consume may still let go are returned before the answer."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    items = [Consume(cap=cap, minimum=2, maximum=2) for cap in ("c", "z")]
    lone.submit(ConsumeAll(items=items))
    lone.grant(5, recall=((1, 1), 5))
    lone.sync()
    assert lone.answered != (1, 1)
    assert lone.reports[-1].returned == 3
    lone.wait(60)
    lone.sync()
    assert lone.answered == (1, 1)
    assert lone.reports[-1].returned == 5


def waiting_consumes_that_fit_keep_their_units() -> None:
    """A recall gets all but what is about to be taken, in the order of the queue."""
    lone = LoneServer()
    first, second = lone.consume(3), lone.consume(9)
    lone.grant(5, recall=((1, 1), 5))
    lone.sync()
    assert isinstance(lone.replies[first], Consumed)
    assert second not in lone.replies
    assert lone.reports[-1].returned == 2
    assert lone.answered == (1, 1)


def a_verdict_counts_what_was_returned_since() -> None:
    """Units that the server gave back after the verdict are elsewhere now, and not gone."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    lone.grant(5, recall=((1, 1), 5), verdict=Verdict(0, 0, (1, 0)))
    lone.sync()
    waiting, hopeless = lone.consume(4), lone.consume(6)
    assert waiting not in lone.replies
    assert hopeless not in lone.replies  # it stands behind the first one
    lone.grant(5, returned=5, verdict=Verdict(0, 5, (1, 0)))
    for token in (waiting, hopeless):
        answer = lone.replies[token]
        assert isinstance(answer, Refused)
        assert answer.code == "capped"


def a_verdict_of_an_older_version_is_not_held_against_a_newer_one() -> None:
    """When the pool's version has grown the verdict is void, and one of before is not taken."""
    lone = LoneServer()
    lone.grant(0, verdict=Verdict(0, 0, (1, 0)))
    lone.grant(0, version=(1, 1))
    token = lone.consume(1)
    assert token not in lone.replies
    lone.grant(0, version=(1, 0), verdict=Verdict(0, 0, (1, 0)))
    assert token not in lone.replies
    lone.grant(0, version=(1, 1), verdict=Verdict(0, 0, (1, 1)))
    assert isinstance(lone.replies[token], Refused)


def nobody_is_capped_over_units_that_may_still_come_free_here() -> None:
    """Units set aside, and those of a refund on its way to the disk, are waited for."""
    lone = LoneServer()
    lone.grant(5, verdict=Verdict(0, 0, (1, 0)))
    lone.sync()
    items = [Consume(cap=cap, minimum=2, maximum=2) for cap in ("c", "z")]
    lone.submit(ConsumeAll(items=items))
    taken = lone.replies[lone.consume(3)]
    assert isinstance(taken, Consumed)
    one = lone.consume(2)
    assert one not in lone.replies
    lone.wait(52)
    assert isinstance(lone.replies[one], Consumed)
    lone.submit(Refund(id=taken.id))
    other, more = lone.consume(3), lone.consume(4)
    assert other not in lone.replies
    lone.sync()
    assert isinstance(lone.replies[other], Consumed)
    assert isinstance(lone.replies[more], Refused)


def what_was_set_aside_is_not_spent_after_the_end() -> None:
    """An interval that ended while another cap was waited for is not spent from any more."""
    lone = LoneServer()
    lone.broadcast("d", end=NOON + 20_000)
    lone.broadcast("e")
    lone.grant(5, cap="d")
    lone.sync()
    items = [Consume(cap=cap, minimum=2, maximum=2) for cap in ("d", "e")]
    token = lone.submit(ConsumeAll(items=items))
    found = lone.core.holdings.slices[("d", 0)]
    assert found.pinned == 2
    lone.wait(30)
    lone.grant(5, cap="e")
    lone.sync()
    assert (found.pinned, found.spent(lone.cells)) == (0, 0)
    lone.wait(30)
    refused = lone.replies[token]
    assert isinstance(refused, Refused)
    assert refused.cap == "d"


def a_verdict_is_good_for_a_moment_without_contact() -> None:
    """Without contact for longer, nobody is capped: it cannot be known."""
    lone = LoneServer()
    lone.grant(0, verdict=Verdict(0, 0, (1, 0)))
    early = lone.replies[lone.consume(1)]
    assert isinstance(early, Refused)
    assert early.code == "capped"
    lone.core.disconnected()
    lone.wait(1500)
    token = lone.consume(1)
    assert token not in lone.replies
    lone.wait(60)
    late = lone.replies[token]
    assert isinstance(late, Refused)
    assert late.code == "unavailable"


def refunded_units_are_there_from_the_fsynced_record_on() -> None:
    """Before the fsync they are neither spent nor told nor returned."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    answer = lone.replies[lone.consume(5)]
    assert isinstance(answer, Consumed)
    refund = lone.submit(Refund(id=answer.id))
    token = lone.consume(1)
    assert refund not in lone.replies
    assert token not in lone.replies
    assert lone.reports[-1].refunded == 0
    lone.sync()
    assert isinstance(lone.replies[token], Consumed)
    assert lone.reports[-1].refunded == 5
    # The refund is answered when everybody who was refused has heard of it
    assert refund not in lone.replies
    lone.grant(5, spent=5, refunded=5, free=5)
    assert refund in lone.replies


def the_lower_ceiling_holds_while_a_record_is_in_flight() -> None:
    """When a return lowers the ceiling, nothing above the new one is spent meanwhile."""
    lone = LoneServer()
    lone.grant(10)
    lone.sync()
    lone.grant(10, recall=((1, 1), 8))
    assert lone.kept[-1].ceiling == 2
    one, other = lone.consume(2), lone.consume(1)
    assert isinstance(lone.replies[one], Consumed)
    assert other not in lone.replies
    assert lone.cells[0] <= 2


def a_final_report_is_told_when_nothing_can_change_any_more() -> None:
    """Not with units, an open hold, an unsynced return or an open refund window."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    held = lone.replies[lone.submit(Hold(cap="c", amount=2, lifetime_ms=3_600_000))]
    assert isinstance(held, Held)
    lone.grant(5, ended=True)

    def final() -> bool:
        lone.core.holdings.reporter.tell(lone.core.holdings.slices[("c", 0)])
        lone.flush()
        return lone.reports[-1].final

    lone.wait(61_000)
    assert not final()  # the return is not fsynced and the hold is open
    lone.sync()
    assert not final()
    lone.submit(Cancel(id=held.id))
    assert not final()  # the refund is not fsynced
    lone.core.written(lone.tickets.pop(0), lone.now_ns)
    lone.flush()
    assert not final()  # and then its return
    lone.sync()
    assert final()


def a_wish_is_told_again_until_it_is_met() -> None:
    """What was told may be lost, and nobody else would come back to it."""
    lone = LoneServer()
    lone.consume(5)
    told = len(lone.reports)
    for _ in range(3):
        lone.now_ns += 20 * MS
        lone.core.holdings.repeat(lone.now_ns)
        lone.flush()
    assert [each.need for each in lone.reports[told:]] == [5, 5, 5]
    # When it is met, it is told no more
    lone.grant(5)
    lone.sync()
    told = len(lone.reports)
    lone.core.holdings.repeat(lone.now_ns)
    lone.flush()
    assert not any(each.need for each in lone.reports[told:])


def old_news_opens_no_slice_again() -> None:
    """A late message of before the close is not taken for a grant that was never heard of."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    lone.consume(5)
    lone.grant(5, spent=5, closed=True, ended=True, number=10)
    assert ("c", 0) not in lone.core.holdings.slices
    lone.grant(5, spent=5, number=9)
    assert ("c", 0) not in lone.core.holdings.slices
    assert not [each for each in lone.outputs if isinstance(each, Abandon)]


def a_late_notice_changes_nothing() -> None:
    """Of two notices the one composed later counts, in whatever order they come."""
    lone = LoneServer()
    lone.broadcast("d", number=10)
    lone.broadcast("d", "unknown", number=9)
    token = lone.submit(Consume(cap="d", minimum=1, maximum=1))
    assert token not in lone.replies


def nothing_is_spent_from_a_journal_before_the_master_has_told_what_it_knows() -> None:
    """A journal may be an old copy: that its interval exists is not enough to spend from it."""
    kept = Kept(
        cap="c", number=0, start=0, end=0, slot=0, received=5, returned=0, ceiling=5, refunded=0
    )
    lone = LoneServer(Journal(incarnation="me", start=2, kept={("c", 0): kept}))
    token = lone.consume(3)
    assert token not in lone.replies
    lone.grant(5, spent=3)
    assert isinstance(lone.replies[token], Refused)


def a_deposed_masters_words_change_totals_only() -> None:
    """A verdict, a recall or an end of an older epoch is not taken; running totals are."""
    lone = LoneServer()
    lone.grant(5, epoch=2)
    lone.sync()
    old = Verdict(0, 0, (9, 9))
    lone.grant(7, epoch=1, version=(9, 9), ended=True, recall=((1, 1), 5), verdict=old)
    found = lone.core.holdings.slices["c", 0]
    assert (found.ended, found.recall, found.verdict) == (False, None, None)
    assert found.received == 7


def an_abandoned_server_writes_and_says_nothing_more() -> None:
    """When the master has seen more than the journal knows, everybody is refused at once."""
    lone = LoneServer()
    lone.grant(5)
    token = lone.consume(9)
    lone.grant(5, spent=3)
    assert isinstance(lone.replies[token], Refused)
    assert isinstance(lone.outputs[-1], Abandon)
    lone.consume(1)
    lone.wait(1000)
    lone.core.written(1, lone.now_ns)
    lone.flush()
    after = lone.outputs[lone.outputs.index(next(filter(_is_abandon, lone.outputs))) + 1 :]
    assert after
    assert all(isinstance(each, Reply) for each in after)


def _is_abandon(output: ServerOutput) -> bool:
    return isinstance(output, Abandon)


def a_refund_and_its_key_are_in_one_record() -> None:
    """There is no moment at which a refund is durable and its key is not."""
    lone = LoneServer()
    lone.grant(5)
    lone.sync()
    answer = lone.replies[lone.consume(5)]
    assert isinstance(answer, Consumed)
    lone.outputs.clear()
    lone.submit(Refund(id=answer.id, amount=2), Idempotency(key="k", fingerprint=b""))
    writes = [each for each in lone.outputs if isinstance(each, Write)]
    assert len(writes) == 1
    kinds = {type(entry).__name__ for entry in writes[0].entries}
    assert kinds == {"Kept", "Marked", "Keyed"}


def a_wish_repeats_until_it_is_met() -> None:
    """While a consume waits its need is told again and again, and never after."""
    lone = LoneServer()
    token = lone.consume(3)
    assert lone.reports[-1].need == 3
    lone.reports.clear()
    lone.core.holdings.repeat(lone.now_ns)
    lone.flush()
    assert lone.reports[-1].need == 3
    lone.grant(3)
    lone.sync()
    assert isinstance(lone.replies[token], Consumed)
    lone.core.holdings.repeat(lone.now_ns)
    assert not lone.core.holdings.is_hungry


def an_unknown_cap_is_asked_for_again_after_a_moment() -> None:
    """A lost word of its definition does not leave a cap unknown for ever."""
    lone = LoneServer()
    lone.broadcast("d", "unknown")
    lone.submit(Consume(cap="d", minimum=1, maximum=1))
    lone.watched.clear()
    lone.wait(1500)
    lone.submit(Consume(cap="d", minimum=1, maximum=1))
    lone.submit(Consume(cap="d", minimum=1, maximum=1))
    assert lone.watched == ["d"]
