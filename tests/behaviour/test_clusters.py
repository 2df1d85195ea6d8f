"""An empty store joins the cluster whose leader speaks to it first, and never another one."""

import pytest

from vcap_es.components.consensus.replica import StoredLog
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import Ballot, SaveBallot, founded
from vcap_es.components.master.identity import Identity, Moment
from vcap_es.components.master.master import Master
from vcap_es.components.messages.master import (
    Append,
    Greeting,
    Heartbeat,
    HeartbeatAnswer,
    Leading,
    Prepare,
)
from vcap_es.components.messages.server import PROTOCOL, Hello
from vcap_es.components.primary_master.outputs import Close, Send
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.events.chain import GENESIS
from vcap_es.events.clusters import restored
from vcap_es.events.log import Head
from vcap_es.projections.states.data_centre import Fold

OURS, FOREIGN = "aa" * 16, "bb" * 16
OLDER = OURS
NEWER = restored(OURS, bytes(4))
MOMENT = Moment(10**9, 1)


def master(ballot: Ballot, slot: int = 1) -> Master:
    """A master with an empty log."""
    identity = Identity(dc="dc1", slot=slot, name=f"m{slot}", address="")
    held = StoredLog(head=Head(), committed=0, fold=Fold(), folded=Head(), tail=[], history=[])
    return Master(identity, ballot, held, Timings(), random=lambda _: 0, moment=MOMENT)


def greeting(cluster: str, node: str = "m0-x", slot: int = 0) -> Greeting:
    """How another master introduces itself."""
    return Greeting(
        protocol=PROTOCOL, node=node, slot=slot, name="m0", address="", stamp=1, cluster=cluster
    )


def hello(cluster: str) -> Hello:
    """How a server introduces itself that is a witness."""
    return Hello(
        protocol=PROTOCOL,
        incarnation="i1",
        session="s",
        name="s1",
        address="",
        voter="w-s1-a",
        cluster=cluster,
    )


def heartbeat(epoch: int) -> Heartbeat:
    """What only a leader says."""
    return Heartbeat(epoch=epoch, committed=0, sent_ns=1)


def closed(core: Master) -> dict[int, str]:
    """The connections that are given up now, and why."""
    found = core.take(MOMENT)
    return {each.connection: each.reason for each in found if isinstance(each, Close)}


def test_a_foreign_leader_is_refused_and_never_obeyed() -> None:
    """Whatever epoch it leads, and whatever it says after it was refused."""
    core = master(founded(Ballot(node="m1-b"), OURS))
    core.tick(MOMENT)
    assert core.role == "leading"
    core.heard(1, greeting(FOREIGN), MOMENT)
    assert "we are of two clusters, aaaaaaaa and bbbbbbbb" in closed(core)[1]
    for message in (heartbeat(9998), Prepare(epoch=9998, transfer=0)):
        core.heard(1, message, MOMENT)
        assert list(closed(core)) == [1]
    append = Append(epoch=9998, sequence=1, after=0, prior=0, link=GENESIS, entries=[], committed=0)
    core.heard(1, append, MOMENT)
    assert core.role == "leading"
    assert core.voter.ballot.promised < 9998


@pytest.mark.parametrize("theirs", [FOREIGN, NEWER])
def test_a_server_of_another_cluster_or_generation_is_refused(theirs: str) -> None:
    """What it holds was never given here."""
    core = master(founded(Ballot(node="m1-b"), OURS))
    core.tick(MOMENT)
    core.take(MOMENT)
    core.heard(1, hello(theirs), MOMENT)
    assert "we are of two" in closed(core)[1]
    assert core.primary is not None
    assert not core.primary.locals.servers
    assert not core.state.nodes.get("i1")


def test_an_empty_store_joins_the_cluster_of_the_leader_that_speaks_first() -> None:
    """That is kept before it answers, and the masters of another one are parted with."""
    core = master(Ballot(node="m1-b"))
    core.heard(1, greeting(OURS, "m0-x"), MOMENT)
    core.heard(2, greeting(FOREIGN, "m0-y"), MOMENT)
    core.heard(3, hello(FOREIGN), MOMENT)
    assert not closed(core), "it belongs to none yet"
    # When
    core.heard(1, heartbeat(2), MOMENT)
    outputs = core.take(MOMENT)
    # Then
    assert core.cluster == OURS
    kept = [each.ballot.cluster for each in outputs if isinstance(each, SaveBallot)]
    assert kept
    assert set(kept) == {OURS}
    answered = [
        index
        for index, each in enumerate(outputs)
        if isinstance(each, Send) and isinstance(each.message, HeartbeatAnswer)
    ]
    assert answered
    assert answered[0] > next(i for i, each in enumerate(outputs) if isinstance(each, SaveBallot))
    assert {each.connection for each in outputs if isinstance(each, Close)} == {2, 3}
    # And what still comes from those is heard as from nobody
    core.heard(2, heartbeat(9998), MOMENT)
    assert core.voter.ballot.promised == 2
    assert list(core.masters) == ["m0-x"]


def test_an_empty_store_is_welcome_and_never_leads() -> None:
    """It stands for no election, however long nobody leads."""
    leader, joiner = master(founded(Ballot(node="m1-b"), OURS)), master(Ballot(node="m0-e"), 0)
    leader.heard(1, joiner.greeting(), MOMENT)
    assert not closed(leader)
    for second in range(2, 60):
        joiner.tick(Moment(second * 10**9, second))
    assert joiner.role == "following"


def test_the_first_master_of_a_cluster_writes_its_name_first() -> None:
    """The log begins with the name that its ballot was founded with."""
    core = master(founded(Ballot(node="m1-b"), OURS))
    core.tick(MOMENT)
    core.take(MOMENT)
    assert core.state.primacy.cluster == OURS
    assert core.greeting().cluster == OURS
    core.heard(1, hello(""), MOMENT)
    told = [each.message for each in core.take(MOMENT) if isinstance(each, Send)]
    assert Leading(epoch=core.epoch, node="m1-b", cluster=OURS) in told


def test_a_server_stays_where_it_joined() -> None:
    """It keeps the name once, and speaks to no master of another one, be it only a generation."""
    kept: list[str] = []
    belonging = Belonging("", kept.append)
    assert not belonging.obstacle(FOREIGN)
    belonging.join("")
    belonging.join(OLDER)
    belonging.join(NEWER)
    assert (belonging.cluster, kept) == (OLDER, [OLDER])
    assert "we are of two clusters" in belonging.obstacle(FOREIGN)
    assert "one was restored from a backup" in belonging.obstacle(NEWER)
    assert not belonging.obstacle(OLDER)
