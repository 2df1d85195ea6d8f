"""When a master stands for election, and what ends an attempt."""

from vcap_es.components.consensus.candidacy import VoteRequest
from vcap_es.components.consensus.election import Election
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot, Voter
from vcap_es.components.decisions.primacy import Config
from vcap_es.components.messages.master import Prevote
from vcap_es.events.units import MS

ALL = ("m0-a", "m1-b", "w-s0-c")
CONFIG = Config(2, 5, "m0-a", ("m0-a", "m1-b"), ALL)


def standing(asked: list[VoteRequest]) -> Election:
    """That of the second master, which follows the first one in epoch 2."""
    ballot = Ballot(node="m1-b", config=CONFIG, promised=2, promised_to="m0-a")
    return Election(
        1,
        Voter(ballot, Timings(), 0),
        Timings(),
        random=lambda _: 0,
        ask=asked.append,
        keep=lambda _: None,
        doubt=lambda _: None,
        remark=lambda _: None,
        now_ns=0,
    )


def test_a_heartbeat_ends_an_attempt() -> None:
    """Who hears that somebody leads does not go on to depose it."""
    # Given
    asked: list[VoteRequest] = []
    attempt = standing(asked)
    attempt.begin(0, position=7, transfer=0, is_forced=False)
    assert [each.message for each in asked] == 2 * [Prevote(epoch=3, transfer=0)]
    # When
    attempt.led(2, MS)
    # Then
    assert not attempt.is_under_way


def test_a_heartbeat_does_not_end_the_attempt_that_its_leader_has_asked_for() -> None:
    """A leader beats on until another one is elected; one of a later epoch was elected."""
    # Given
    attempt = standing([])
    attempt.begin(0, position=7, transfer=2, is_forced=False)
    # When the leader that hands over is heard
    attempt.led(2, MS)
    # Then
    assert attempt.is_under_way
    # When another one is
    attempt.led(4, 2 * MS)
    # Then
    assert not attempt.is_under_way
