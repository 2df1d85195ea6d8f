"""A forced promotion: for its time only, and what it gives up is given up for good."""

import pytest

from vcap_es.components.consensus.candidacy import Candidacy
from vcap_es.components.consensus.replica import Replica, StoredLog
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot, Voter
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.primacy import Config, elected
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.master import Master
from vcap_es.components.messages.master import Append, Greeting, Heartbeat, Promise
from vcap_es.components.messages.server import PROTOCOL
from vcap_es.components.primary_master.outputs import Answer
from vcap_es.components.secondary_master import SecondaryMaster
from vcap_es.errors import PrefixLost
from vcap_es.events.chain import Stored
from vcap_es.events.log import Head
from vcap_es.projections.states.data_centre import Fold

SECOND = 10**9
BOTH = ("m0-a", "m1-b", "w-s0-c")
ALONE = Config(2, 5, "m0-a", ("m0-a",), BOTH)


def held(position: int, epoch: int) -> StoredLog:
    """A log of one epoch, of which all is committed."""
    head = Head(position=position, epoch=epoch, link=b"l") if position else Head()
    history = [(epoch, position)] if position else []
    return StoredLog(
        head=head, committed=position, fold=Fold(), folded=head, tail=[], history=history
    )


def stored(position: int) -> Stored:
    """An event of the epoch 3."""
    return Stored(
        position=position,
        epoch=3,
        event_id=b"",
        recorded_at=1,
        dc="dc1",
        actor="",
        correlation="",
        fact=b"",
        link=b"another",
    )


def second(ballot: Ballot) -> Master:
    """The master of slot 1, with one event on its log."""
    identity = Identity(dc="dc1", slot=1, name="m1", address="")
    moment = Moment(SECOND, 1)
    return Master(identity, ballot, held(1, 2), Timings(), random=lambda _: 0, moment=moment)


def at(second: int) -> Moment:
    """So many seconds after the boot."""
    return Moment(second * SECOND, second * 1_000_000)


def test_an_approval_does_not_outlive_the_leader_that_comes_after_it() -> None:
    """Two operators wanted it while nobody led; somebody leads, and dies: it is not forced."""
    master = second(Ballot(node="m1-b", config=ALONE, promised=2, promised_to="m0-a"))
    for token, operator in enumerate(("one", "another")):
        master.approve_promotion(token, operator, at(2))
    assert len(master.promotion) == 2
    # When the leader is there again
    greeting = Greeting(protocol=PROTOCOL, node="m0-a", slot=0, name="m0", address="", stamp=1)
    master.heard(1, greeting, at(4))
    master.heard(1, Heartbeat(epoch=2, committed=1000, sent_ns=1), at(4))
    # Then nothing of it is left
    assert not master.promotion


def test_approvals_expire() -> None:
    """The second operator comes too late."""
    master = second(Ballot(node="m1-b", config=ALONE, promised=2, promised_to="m0-a"))
    master.approve_promotion(1, "one", at(2))
    master.approve_promotion(2, "another", at(602 + 1))
    assert list(master.promotion) == ["another"]


def test_an_empty_copy_is_never_promoted() -> None:
    """Who lost its log has nothing to lead with, whatever operators say."""
    identity = Identity(dc="dc1", slot=1, name="m1", address="")
    ballot = Ballot(node="m1-b", config=ALONE, promised=2, promised_to="m0-a")
    master = Master(
        identity, ballot, held(0, 0), Timings(), random=lambda _: 0, moment=Moment(SECOND, 1)
    )
    for token, operator in enumerate(("one", "another")):
        master.approve_promotion(token, operator, at(2))
    answers = [each.outcome for each in master.take(at(2)) if isinstance(each, Answer)]
    assert [each.code for each in answers if isinstance(each, Denied)] == ["never_admitted"] * 2
    assert master.role == "following"


def test_voters_that_are_gone_for_good_are_not_waited_for() -> None:
    """No witness, and the only voter is gone with what it had: the other master leads alone."""
    lone = Config(2, 5, "m0-a", ("m0-a",), ("m0-a",))
    master = second(Ballot(node="m1-b", config=lone, promised=2, promised_to="m0-a"))
    # Given that one operator did not name it
    master.approve_promotion(1, "one", at(2))
    master.approve_promotion(2, "another", at(3), ["m0"])
    assert master.role == "following"
    # When both say the same
    master.approve_promotion(3, "one", at(4), ["m0"])
    # Then
    assert master.role == "leading"
    assert master.config is not None
    assert (master.config.voters, master.config.forced) == (("m1-b",), master.epoch)


@pytest.mark.parametrize("after", [510, 700, 1000])
def test_who_has_what_was_given_up_does_not_follow(after: int) -> None:
    """Its committed events are of another epoch than the leader's at the same positions."""
    replica = Replica(held(1000, 2))
    voter = Voter(Ballot(node="m0-a", config=ALONE, promised=3, promised_to="m1-b"), Timings(), 0)
    follower = SecondaryMaster(replica, voter)
    follower.heard_of("m1-b", 3)
    message = Append(
        epoch=3,
        sequence=1,
        after=after,
        prior=2 if after == 510 else 3,
        link=b"other",
        entries=[stored(511)] if after == 510 else [],
        committed=after,
    )
    with pytest.raises(PrefixLost, match="force"):
        follower.append(message)


def test_what_was_given_up_is_missed_by_nobody() -> None:
    """A witness knew of 1000; after the forced promotion that mark does not count any more."""
    ballot = Ballot(node="w-s0-c", config=ALONE, promised=2, promised_to="m0-a", committed=1000)
    witness = Voter(ballot, Timings(), 0)
    forced = elected(ALONE, "m1-b", 3, is_forced=True)
    witness.promise(3, "m1-b")
    witness.accept(forced)
    assert witness.ballot.committed == 0
    # When the leader of the forced epoch stands again
    own = Voter(Ballot(node="m1-b", config=forced, promised=3, promised_to="m1-b"), Timings(), 0)
    candidacy = Candidacy("m1-b", 5, own, position=510, transfer=0, forced=False)
    candidacy.begin()
    # Then nothing is missing to it, also where somebody has not heard of that promotion
    for node, config, committed in (("w-s0-c", forced, 0), ("m0-a", ALONE, 1000)):
        promise = Promise(epoch=5, is_firm=False, config=config, committed=committed)
        candidacy.promised(node, promise)
    assert candidacy.obstacle() is None
