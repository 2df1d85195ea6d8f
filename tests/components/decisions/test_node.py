"""What is recorded of where a node is reached."""

from itertools import permutations, product

import pytest

from vcap_es.components.decisions.node import seen
from vcap_es.events.facts import NodeAddressChanged
from vcap_es.projections.states.data_centre import Fold


def tell(fold: Fold, stamp: int, address: str, name: str = "s1") -> NodeAddressChanged | None:
    """The node "n" tells; what follows is folded and given."""
    fact = seen(fold.state, node="n", name=name, role="server", address=address, stamp=stamp)
    if fact is not None:
        fold.evolve(fact)
    return fact


def test_what_is_known_is_not_recorded_again() -> None:
    """The first word of a start is recorded, its repetitions are not."""
    fold = Fold()
    assert tell(fold, 1, "a") == NodeAddressChanged(
        node="n", name="s1", role="server", address="a", stamp=1
    )
    assert tell(fold, 1, "a") is None


@pytest.mark.parametrize(("stamp", "address", "name"), [(1, "b", "s1"), (1, "a", "s2")])
def test_news_of_the_same_start_is_recorded(stamp: int, address: str, name: str) -> None:
    """Another address or another name is news."""
    fold = Fold()
    tell(fold, 1, "a")
    assert tell(fold, stamp, address, name) is not None


def test_an_earlier_start_is_not_recorded() -> None:
    """A late message of an earlier start is no news."""
    fold = Fold()
    tell(fold, 2, "a")
    assert tell(fold, 1, "b") is None


@pytest.mark.parametrize("addresses", list(product("ab", repeat=4)), ids="".join)
def test_in_every_interleaving_the_latest_start_wins(addresses: tuple[str, ...]) -> None:
    """Four starts at any addresses, heard in any order: the node is where its last start is."""
    for order in permutations(enumerate(addresses, 1)):
        fold = Fold()
        for stamp, address in order:
            tell(fold, stamp, address)
        assert fold.state.nodes["n"].address == addresses[-1]
