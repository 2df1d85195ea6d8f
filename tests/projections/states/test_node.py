"""The fold of nodes: the latest start wins, and who told longest ago is forgotten first."""

from itertools import permutations, product

import pytest

from vcap_es.events.facts import NodeAddressChanged
from vcap_es.events.log import Head
from vcap_es.projections.snapshots import Snapshot, restore, take
from vcap_es.projections.states import node
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.projections.states.node import NODES_MAX, NodeSeen


def told(name: str, stamp: int, address: str = "") -> NodeAddressChanged:
    """What the node of that name tells in a start."""
    return NodeAddressChanged(
        node=f"id of {name}",
        name=name,
        role="server",
        address=address or f"http://{name}:{stamp}",
        stamp=stamp,
    )


def folded(facts: list[NodeAddressChanged], fold: Fold | None = None) -> dict[str, NodeSeen]:
    """The nodes after the facts."""
    fold = fold or Fold()
    for fact in facts:
        fold.evolve(fact)
    return fold.state.nodes


def kept(state: DataCentre) -> DataCentre:
    """The state, once through a snapshot."""
    snapshot = restore(take(state, Head(position=1, epoch=1, link=bytes(32))), bytes(32))
    assert isinstance(snapshot, Snapshot)
    return snapshot.state


def test_a_node_is_known_by_what_it_told() -> None:
    """Name, role, address and start are those of the fact."""
    seen = folded([told("s1", 3)])["id of s1"]
    assert seen == NodeSeen(
        name="s1", role="server", address="http://s1:3", stamp=3, order=seen.order
    )


@pytest.mark.parametrize("order", list(permutations(range(1, 5))), ids=str)
def test_the_latest_start_wins_in_whatever_order(order: tuple[int, ...]) -> None:
    """Four starts of a node, told in any order, also twice, leave the address of the last one."""
    for facts in ([told("s1", stamp) for stamp in order], [told("s1", s) for s in order * 2]):
        assert folded(facts)["id of s1"].address == "http://s1:4"


def test_an_address_that_goes_back_to_an_older_one_wins_too() -> None:
    """Which address it is decides nothing: only in which start it was told."""
    starts = [told("s1", 1, "a"), told("s1", 2, "b"), told("s1", 3, "a")]
    assert {folded(list(each))["id of s1"].address for each in permutations(starts)} == {"a"}


def test_in_one_start_the_log_decides() -> None:
    """Of two addresses with one stamp, that which was recorded later holds."""
    assert folded([told("s1", 1, "a"), told("s1", 1, "b")])["id of s1"].address == "b"


def test_nodes_do_not_mix() -> None:
    """Two nodes of one name, as after a lost store, are two."""
    other = NodeAddressChanged(node="new", name="s1", role="server", address="b", stamp=1)
    nodes = folded([told("s1", 9, "a"), other])
    assert {each: seen.address for each, seen in nodes.items()} == {"id of s1": "a", "new": "b"}


def test_who_told_longest_ago_is_forgotten_first() -> None:
    """At the bound one goes for each that comes; who tells anew is young, a late message is not."""
    # Given as many nodes as are kept, the second of which has told anew; of the third came a
    # message of an earlier start
    names = [f"s{number}" for number in range(NODES_MAX)]
    facts = [told(name, 2) for name in names]
    facts += [told("s1", 3), told("s2", 1)]
    # When two more come
    nodes = folded([*facts, told("new", 1), told("newer", 1)])
    # Then the first and the third are gone
    assert len(nodes) == NODES_MAX
    missing = {f"id of {name}" for name in names} - set(nodes)
    assert missing == {"id of s0", "id of s2"}


def test_the_same_are_forgotten_after_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot between any two facts changes nothing of who is kept, nor in what order."""
    monkeypatch.setattr(node, "NODES_MAX", 2)
    for names in product("abc", repeat=5):
        facts = [told(name, stamp) for stamp, name in enumerate(names)]
        whole = folded(facts)
        for count in range(len(facts)):
            first = Fold()
            folded(facts[:count], first)
            again = folded(facts[count:], Fold(kept(first.state)))
            assert list(again.items()) == list(whole.items())
