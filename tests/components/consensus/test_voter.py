"""A voter: what it promises, to whom, and what it takes back: nothing."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot, SaveBallot, Voter
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.messages.master import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatAnswer,
    Prepare,
    Prevote,
    Promise,
    Refusal,
)
from vcap_es.events.units import MS

CONFIG = Config(2, 3, "m0-a", ("m0-a", "m1-b"), ("m0-a", "m1-b", "w-s1-c"))
TIMINGS = Timings()
LATER = TIMINGS.sticky_ms * MS


def voter(**fields: object) -> Voter:
    """A witness that has followed m0-a in epoch 2, and just started."""
    known = {"node": "w-s1-c", "promised": 2, "promised_to": "m0-a", "config": CONFIG, **fields}
    return Voter(Ballot(**known), TIMINGS, 0)  # type: ignore[arg-type]  # the fields of a ballot


def prepare(epoch: int, transfer: int = 0) -> Prepare:
    """What a candidate asks."""
    return Prepare(epoch=epoch, transfer=transfer)


def test_a_promise_is_kept_before_it_is_told() -> None:
    """The ballot comes first in the outputs, with the epoch and to whom it was promised."""
    keep, promise = voter().heard("m1-b", prepare(3), LATER)
    assert isinstance(keep, SaveBallot)
    assert (keep.ballot.promised, keep.ballot.promised_to) == (3, "m1-b")
    assert promise == Promise(epoch=3, is_firm=True, config=CONFIG, committed=0)


def test_a_prevote_promises_nothing() -> None:
    """It is answered as the real question would be, and changes nothing."""
    one = voter()
    before = one.ballot
    assert one.heard("m1-b", Prevote(epoch=3, transfer=0), LATER) == [
        Promise(epoch=3, is_firm=False, config=CONFIG, committed=0)
    ]
    assert one.heard("m1-b", Prevote(epoch=3, transfer=0), 0) == [Refusal(epoch=3, promised=2)]
    assert one.ballot == before


def test_a_voter_that_hears_its_leader_promises_nothing_to_others() -> None:
    """For a second after a heartbeat; unless the connection broke, or the leader asked for it."""
    for change in (lambda _: None, lambda one: one.lost("m1-b")):
        one = voter()
        one.heard("m0-a", Heartbeat(epoch=2, committed=5, sent_ns=1), LATER)
        change(one)
        assert one.heard("m1-b", prepare(3), LATER + 1) == [Refusal(epoch=3, promised=2)]
    one = voter()
    one.heard("m0-a", Heartbeat(epoch=2, committed=5, sent_ns=1), LATER)
    assert isinstance(one.heard("m1-b", prepare(3, transfer=2), LATER + 1)[1], Promise)
    one = voter()
    one.heard("m0-a", Heartbeat(epoch=2, committed=5, sent_ns=1), LATER)
    one.lost("m0-a")
    assert isinstance(one.heard("m1-b", prepare(3), LATER + 1)[1], Promise)


def test_an_old_transfer_does_not_count() -> None:
    """A leader's wish to hand over holds for its own epoch only."""
    one = voter()
    one.heard("m1-b", Heartbeat(epoch=3, committed=5, sent_ns=1), LATER)
    assert one.heard("m0-a", prepare(4, transfer=2), LATER) == [Refusal(epoch=4, promised=3)]


def test_a_lower_epoch_is_refused_for_ever() -> None:
    """After a promise nothing lower is promised, accepted or followed, also after a restart."""
    one = voter()
    one.heard("m1-b", prepare(5), LATER)
    one = Voter(one.ballot, TIMINGS, 0)
    lower = Config(4, 1, "m0-a", ("m0-a",), CONFIG.voters)
    for message in (prepare(4), Accept(config=lower), Heartbeat(epoch=4, committed=9, sent_ns=1)):
        (answer,) = one.heard("m0-a", message, 9 * LATER)
        assert isinstance(answer, Refusal)
        assert answer.promised == 5


def test_one_epoch_is_promised_to_one_candidate() -> None:
    """The same candidate is told again; another with the same epoch is refused."""
    one = voter()
    one.heard("m1-b", prepare(3), LATER)
    assert isinstance(one.heard("m1-b", prepare(3), LATER)[-1], Promise)
    assert one.heard("m1-other", prepare(3), LATER) == [Refusal(epoch=3, promised=3)]


def test_a_newer_configuration_replaces_an_older_one_and_never_back() -> None:
    """By (epoch, version); a repetition is answered again, a late older one is not."""
    one = voter()
    newer = Config(2, 4, "m0-a", ("m0-a",), CONFIG.voters)
    keep, answer = one.heard("m0-a", Accept(config=newer), 0)
    assert isinstance(keep, SaveBallot)
    assert keep.ballot.config == newer
    assert answer == Accepted(epoch=2, version=4)
    assert one.heard("m0-a", Accept(config=newer), 0) == [Accepted(epoch=2, version=4)]
    assert one.heard("m0-a", Accept(config=CONFIG), 0) == []
    assert one.ballot.config == newer


def test_an_epoch_that_is_followed_is_promised() -> None:
    """So a late message of an earlier leader cannot undo what was copied since."""
    one = voter()
    keep, answer = one.heard("m1-b", Heartbeat(epoch=3, committed=7, sent_ns=8), 0)
    assert isinstance(keep, SaveBallot)
    assert (keep.ballot.promised, keep.ballot.promised_to) == (3, "m1-b")
    assert answer == HeartbeatAnswer(epoch=3, sent_ns=8)
    assert one.committed == 7


def test_who_was_never_admitted_does_not_vote() -> None:
    """An empty store decides nothing, until a leader has admitted it."""
    one = voter(config=None, promised=0, promised_to="")
    assert one.heard("m1-b", prepare(3), 9 * LATER) == [Refusal(epoch=3, promised=0)]
    one.heard("m0-a", Accept(config=CONFIG), 9 * LATER)
    assert isinstance(one.heard("m1-b", prepare(3), 99 * LATER)[-1], Promise)
