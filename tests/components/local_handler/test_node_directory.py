"""What servers are told of where everybody is."""

from vcap_es.components.local_handler.liveness import FORGOTTEN_AFTER_US, Sighting
from vcap_es.components.local_handler.node_directory import (
    ABSENT_TOLD_MAX,
    MASTERS_TOLD_MAX,
    masters_of,
    servers_of,
    servers_told,
)
from vcap_es.components.messages.server import PROTOCOL, Hello, NodeDirectory, Report
from vcap_es.components.primary_master.outputs import Send
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.facts.node import Role
from vcap_es.events.units import SECOND_US
from vcap_es.projections.states.data_centre import DataCentre, Fold

NOON = 1_767_268_800_000_000


def told(
    fold: Fold, node: str, address: str, *, role: Role = "master", name: str = "n", stamp: int = 1
) -> None:
    """A node tells where it is."""
    fold.evolve(NodeAddressChanged(node=node, name=name, role=role, address=address, stamp=stamp))


def hello(incarnation: str, address: str, stamp: int = 1, session: str = "s") -> Hello:
    """A server says where it is."""
    return Hello(
        protocol=PROTOCOL,
        incarnation=incarnation,
        session=session,
        name=f"name of {incarnation}",
        address=address,
        stamp=stamp,
    )


def directories(master: PrimaryMaster, now: int) -> dict[int, NodeDirectory]:
    """The directories that leave with the next round, by connection."""
    started = master.begin_round(now)
    outputs = started.outputs if started is not None else []
    return {
        each.connection: each.message
        for each in outputs
        if isinstance(each, Send) and isinstance(each.message, NodeDirectory)
    }


def primary(fold: Fold) -> PrimaryMaster:
    """A master that leads, and has said so."""
    master = PrimaryMaster(fold, dc="dc1", name="m0", epoch=2, now=NOON)
    master.begin_round(NOON)
    return master


def test_the_masters_are_those_that_told_who_told_last_first() -> None:
    """One without an address cannot be reached; of very many only the last are told."""
    fold = Fold()
    told(fold, "a", "http://a")
    told(fold, "none", "")
    told(fold, "s", "http://s", role="server")
    told(fold, "b", "http://b")
    told(fold, "a", "http://moved", stamp=2)
    assert [(each.node, each.address) for each in masters_of(fold.state)] == [
        ("a", "http://moved"),
        ("b", "http://b"),
    ]
    for number in range(2 * MASTERS_TOLD_MAX):
        told(fold, f"m{number}", f"http://m{number}")
    assert len(masters_of(fold.state)) == MASTERS_TOLD_MAX
    assert masters_of(fold.state)[0].node == f"m{2 * MASTERS_TOLD_MAX - 1}"


def test_a_server_is_told_of_with_the_address_of_its_latest_start() -> None:
    """What the log has of it wins over what a link said; presence is what the master sees."""
    fold = Fold()
    told(fold, "a", "http://new", role="server", name="s1", stamp=3)
    sightings = {
        "a": Sighting("a", "s1", "http://old", NOON, NOON),
        "b": Sighting("b", "s2", "http://b", NOON, NOON),
        "c": Sighting("c", "s3", "http://c", NOON, NOON, lost_at=NOON),
    }
    found = servers_of(fold.state, sightings, lambda incarnation: incarnation == "a")
    assert [(each.node, each.address, each.presence) for each in found] == [
        ("a", "http://new", "connected"),
        ("b", "http://b", "away"),
        ("c", "http://c", "lost"),
    ]


def test_of_those_who_went_the_last_are_told() -> None:
    """However many incarnations there were, a message stays small."""
    sightings = {
        str(each): Sighting(str(each), "s", "", NOON, NOON + each)
        for each in range(2 * ABSENT_TOLD_MAX)
    }
    found = servers_of(DataCentre(), sightings, lambda _: False)
    assert len(found) == ABSENT_TOLD_MAX
    assert found[0].node == str(2 * ABSENT_TOLD_MAX - 1)


def test_who_does_not_lead_knows_only_what_was_told() -> None:
    """Not whether anybody is there."""
    fold = Fold()
    told(fold, "m", "http://m")
    told(fold, "a", "http://a", role="server")
    assert [(each.node, each.presence) for each in servers_told(fold.state)] == [("a", "")]


def test_everybody_hears_at_once_of_who_comes_goes_and_moves() -> None:
    """A server, a master, a later start; and of who is lost, when that is so."""
    fold = Fold()
    master = primary(fold)
    # When one comes, it hears; when another comes, both do
    master.received(1, hello("a", "http://a"), NOON)
    assert [each.node for each in directories(master, NOON)[1].nodes] == ["a"]
    master.received(2, hello("b", "http://b"), NOON)
    heard = directories(master, NOON)
    assert {connection: len(each.nodes) for connection, each in heard.items()} == {1: 2, 2: 2}
    assert heard[1] == heard[2]
    # When a master has told where it is
    master.note(
        NodeAddressChanged(node="m", name="m1", role="master", address="http://m", stamp=1), NOON
    )
    assert [each.address for each in directories(master, NOON)[1].nodes] == [
        "http://m",
        "http://a",
        "http://b",
    ]
    # When one goes, and when it is lost, while the other speaks
    master.disconnected(2)
    [after] = directories(master, NOON).values()
    assert [each.presence for each in after.nodes] == ["", "connected", "away"]
    now, found = NOON, dict[int, NodeDirectory]()
    while not found and now < NOON + FORGOTTEN_AFTER_US:
        now += SECOND_US
        master.received(1, Report(incarnation="a", order=(1, 1), sent_ns=1, holdings=[]), now)
        master.tick(now)
        found = directories(master, now)
    assert [each.presence for each in found[1].nodes] == ["", "connected", "lost"]
