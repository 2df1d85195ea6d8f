"""What a leader sends its followers."""

import pytest

from vcap_es.components.consensus.replica import Replica, StoredLog
from vcap_es.components.consensus.window import ENTRIES_UNDER_WAY_MAX, WINDOW, LogWindow
from vcap_es.components.messages.master import Append, Appended, Mismatch
from vcap_es.components.primary_master.followers import Follower, Followers
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import MetaPaused, Version
from vcap_es.events.log import Head
from vcap_es.events.sealing import seal
from vcap_es.events.units import MS
from vcap_es.projections.states.data_centre import Fold

EPOCH, FOLLOWER = 4, "m1-" + "1" * 32
PATIENCE_NS = 300 * MS


def draft(number: int) -> Draft:
    """An event, one of many."""
    return Draft(
        event_id=bytes([number]) * 16,
        fact=MetaPaused(cap="a", version=Version(0, 1)),
        recorded_at=1,
        dc="dc1",
        actor="m0",
        correlation="",
    )


def replica_of(before: int, events: int) -> Replica:
    """The end of a log: so many events of this epoch, behind `before` of an earlier one."""
    base = Head(position=before, epoch=EPOCH - 1, link=b"\1" * 32)
    tail = seal([draft(each) for each in range(events)], EPOCH, base)
    end = Head(position=tail[-1].position, epoch=EPOCH, link=tail[-1].link)
    history = [(EPOCH - 1, before), (EPOCH, end.position)]
    return Replica(
        StoredLog(head=end, committed=before, fold=Fold(), folded=base, tail=tail, history=history)
    )


def test_a_follower_that_differs_at_the_end_of_a_long_log_is_sent_what_it_lacks() -> None:
    """What it surely has counts from where the logs agree, not from the beginning."""
    # Given
    sent: list[Append] = []
    before = 2 * ENTRIES_UNDER_WAY_MAX
    followers = Followers(
        EPOCH,
        replica_of(before, events=2),
        lambda _, message: sent.append(message),
        lambda *_: None,
        patience_ns=1,
    )
    followers.linked(FOLLOWER, now_ns=0)
    # When it says that it has other events behind the last that they share
    history = [(EPOCH - 1, before + 3)]
    followers.mismatched(
        FOLLOWER, Mismatch(epoch=EPOCH, sequence=sent[-1].sequence, history=history), now_ns=1
    )
    # Then
    assert (sent[-1].after, len(sent[-1].entries)) == (before, 2)


class Leader:
    """What a leader of a long log sends one follower; it was linked when the log had `before`."""

    def __init__(self, before: int, events: int = 2, window: LogWindow = WINDOW) -> None:
        self.sent: list[Append] = []
        self.fetches: list[int] = []
        self.followers = Followers(
            EPOCH,
            replica_of(before, events),
            lambda _, message: self.sent.append(message),
            lambda _, after, __: self.fetches.append(after),
            patience_ns=PATIENCE_NS,
            window=window,
        )
        self.followers.linked(FOLLOWER, now_ns=1)

    @property
    def follower(self) -> Follower:
        return self.followers.known[FOLLOWER]

    def mismatched(self, history: list[tuple[int, int]], now_ns: int = 1) -> None:
        sequence = self.sent[-1].sequence
        message = Mismatch(epoch=EPOCH, sequence=sequence, history=history)
        self.followers.mismatched(FOLLOWER, message, now_ns)

    def appended(self, sequence: int, position: int, now_ns: int) -> None:
        message = Appended(epoch=EPOCH, sequence=sequence, position=position)
        self.followers.appended(FOLLOWER, message, now_ns)

    def fetched(self, after: int, now_ns: int, count: int = 10) -> None:
        head = Head(position=after, epoch=EPOCH - 1, link=b"\2" * 32)
        entries = seal([draft(each) for each in range(count)], EPOCH - 1, head)
        self.followers.fetched(FOLLOWER, after, b"\2" * 32, entries, now_ns)


@pytest.fixture
def leader() -> Leader:
    """It has begun to fetch what comes after position 100 for its follower."""
    found = Leader(before=1000, window=LogWindow(message=10, under_way=40))
    found.mismatched([(EPOCH - 1, 100)])
    assert found.fetches == [100]
    return found


def test_a_fetch_that_does_not_come_is_made_again_more_and_more_rarely(leader: Leader) -> None:
    """A wait has an end of its own, whatever else goes on, and the log is not swamped by it."""
    # When commit rounds go on for a minute, and no fetch is ever answered
    for now_ns in range(10 * MS, 60_000 * MS, 10 * MS):
        leader.followers.ask(FOLLOWER, now_ns)
        leader.followers.retry(now_ns)
    # Then
    assert set(leader.fetches) == {100}
    assert 10 < len(leader.fetches) < 20
    # When the answer comes, late
    leader.fetched(100, 60_000 * MS)
    assert (leader.sent[-1].after, len(leader.sent[-1].entries)) == (100, 10)
    assert leader.fetches[-1] == 110


def test_only_the_first_answer_of_a_fetch_counts(leader: Leader) -> None:
    """What was asked for twice is sent once."""
    # Given
    leader.followers.retry(400 * MS)
    assert leader.fetches == [100, 100]
    # When both answers come
    leader.fetched(100, 500 * MS)
    sent = len(leader.sent)
    leader.fetched(100, 600 * MS)
    # Then
    assert len(leader.sent) == sent
    assert leader.fetches[-1] == 110


def test_an_answer_to_a_fetch_that_was_overtaken_leaves_no_mark(leader: Leader) -> None:
    """A link that breaks and comes back overtakes a fetch: what it brings is not wanted."""
    # Given
    leader.followers.unlinked(FOLLOWER, 2 * MS)
    leader.followers.linked(FOLLOWER, 3 * MS)
    # When
    leader.fetched(100, 4 * MS)
    # Then
    assert not leader.follower.fetches
    leader.mismatched([(EPOCH - 1, 120)], 5 * MS)
    assert leader.fetches[-1] == 120


def test_rounds_do_not_put_off_asking_a_silent_follower() -> None:
    """However often something new is sent, who has not answered for long is asked."""
    # Given
    leader = Leader(before=0)
    leader.appended(1, 2, now_ns=1)
    # When a round asks it all the time
    for now_ns in range(1 * MS, 290 * MS, 10 * MS):
        leader.followers.ask(FOLLOWER, now_ns)
        leader.followers.retry(now_ns)
    asked = leader.follower.asks
    leader.followers.ask(FOLLOWER, 302 * MS)
    leader.followers.retry(302 * MS)
    # Then
    assert (asked, leader.follower.asks) == (0, 1)


def test_who_is_silent_is_sent_no_events_again(leader: Leader) -> None:
    """A connection that lasts delivers: the follower is asked, and has the answer to give."""
    # Given all that may be under way
    for after in (100, 110, 120, 130):
        leader.fetched(after, 2 * MS)
    sent = len(leader.sent)
    # When
    for now_ns in range(10 * MS, 60_000 * MS, 100 * MS):
        leader.followers.retry(now_ns)
    # Then
    assert not any(each.entries for each in leader.sent[sent:])
    assert 10 < len(leader.sent) - sent < 20
    # When it says at last that it has all of it
    leader.appended(leader.follower.sequence, 140, 60_000 * MS)
    # Then
    assert leader.fetches[-1] == 140


def test_what_a_follower_says_that_it_lacks_is_sent_again_once(leader: Leader) -> None:
    """Several messages say so where one was lost: the first is enough."""
    # Given
    for after in (100, 110, 120):
        leader.fetched(after, 2 * MS)
    lacking = [each.sequence for each in leader.sent[-2:]]
    leader.fetches.clear()
    # When
    for sequence in lacking:
        message = Mismatch(epoch=EPOCH, sequence=sequence, history=[(EPOCH - 1, 100)])
        leader.followers.mismatched(FOLLOWER, message, 3 * MS)
    # Then
    assert leader.fetches == [100]
