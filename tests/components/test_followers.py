"""What a leader sends its followers."""

from vcap_es.components.followers import ENTRIES_UNDER_WAY_MAX, Followers
from vcap_es.components.primacy_messages import Append, Mismatch
from vcap_es.components.replica import Held, Replica
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import MetaPaused, Version
from vcap_es.events.log import Head
from vcap_es.events.sealing import seal
from vcap_es.projections.states.data_centre import Fold

EPOCH, FOLLOWER = 4, "m1-" + "1" * 32


def replica_of(before: int, events: int) -> Replica:
    """The end of a log: so many events of this epoch, behind `before` of an earlier one."""
    base = Head(position=before, epoch=EPOCH - 1, link=b"\1" * 32)
    fact = MetaPaused(cap="a", version=Version(0, 1))
    drafts = [
        Draft(
            event_id=bytes([each]) * 16,
            fact=fact,
            recorded_at=1,
            dc="dc1",
            actor="m0",
            correlation="",
        )
        for each in range(events)
    ]
    tail = seal(drafts, EPOCH, base)
    end = Head(position=tail[-1].position, epoch=EPOCH, link=tail[-1].link)
    history = [(EPOCH - 1, before), (EPOCH, end.position)]
    return Replica(
        Held(head=end, committed=before, fold=Fold(), folded=base, tail=tail, history=history)
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
