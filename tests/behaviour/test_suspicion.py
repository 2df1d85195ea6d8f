"""A master whose log has less than it once acknowledged does not lead, and does not vote."""

import pytest
from msgspec import structs

from vcap_es.components.consensus.replica import StoredLog
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.master import Master
from vcap_es.events.log import Head
from vcap_es.projections.states.data_centre import Fold

TOGETHER = Config(4, 2, "m0-a", ("m0-a", "m1-b"), ("m0-a", "m1-b", "w-s0-c"))
BALLOT = Ballot(node="m1-b", promised=4, promised_to="m0-a", config=TOGETHER, committed=7)


def master_with(ballot: Ballot, head: Head) -> Master:
    """A master that starts with this ballot, and a log that ends there."""
    held = StoredLog(
        head=head,
        committed=head.position,
        fold=Fold(),
        folded=head,
        tail=[],
        history=[(head.epoch, head.position)],
    )
    identity = Identity(dc="dc1", slot=1, name="second", address="")
    return Master(identity, ballot, held, Timings(), random=lambda _: 0, moment=Moment(1, 1))


def test_a_log_that_has_what_was_committed_in_its_epoch_is_whole() -> None:
    """Longer, or of a later epoch, is no harm."""
    assert master_with(BALLOT, Head(position=7, epoch=4, link=b"l")).role == "following"
    assert master_with(BALLOT, Head(position=9, epoch=6, link=b"l")).role == "following"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (Head(position=6, epoch=4, link=b"l"), "position 7 was committed"),
        (Head(position=9, epoch=2, link=b"l"), "in sync in epoch 4, and the log ends in 2"),
    ],
)
def test_an_older_log_of_a_master_in_sync_is_suspect(head: Head, reason: str) -> None:
    """Also where it is longer: what stands there may be what was set aside since."""
    master = master_with(BALLOT, head)
    assert master.role == "suspect"
    assert reason in master.suspicion


def test_who_leads_alone_may_have_nothing_of_its_epoch_yet() -> None:
    """It was elected, and died before its first event was durable."""
    alone = structs.replace(TOGETHER, isr=("m1-b",))
    ballot = structs.replace(BALLOT, config=alone)
    assert master_with(ballot, Head(position=9, epoch=2, link=b"l")).role == "following"
