"""The masters that a server knows: given, remembered, told and learnt; each is dialled once."""

from vcap_es.components.messages.server import NodeAddress
from vcap_es.components.volumecap_server.master_addresses import MASTERS_MAX, MasterAddresses


def master(node: str, address: str) -> NodeAddress:
    """A master, as the one that leads tells of it."""
    return NodeAddress(node, "m", "master", address, 1, "")


def server(node: str, address: str) -> NodeAddress:
    """A server, as the leading master tells of it."""
    return NodeAddress(node, "s", "server", address, 1, "connected")


def test_what_was_given_or_remembered_is_dialled_until_more_is_known() -> None:
    """A restart needs nobody's help."""
    roster = MasterAddresses(["given"], ["before"])
    assert roster.wanted() == {"given", "before"}
    assert roster.heard == ["before"]


def test_what_the_leader_tells_replaces_what_was_heard() -> None:
    """A master that moved is dialled at its new place; what was given is dialled for ever."""
    roster = MasterAddresses(["given"], ["before"])
    roster.told([master("a", "one"), master("b", "two"), server("s", "three")])
    assert roster.wanted() == {"given", "one", "two"}
    roster.told([master("a", "moved"), master("b", "two")])
    assert roster.wanted() == {"given", "moved", "two"}
    assert roster.heard == ["moved", "two"]


def test_a_leader_that_knows_of_no_master_takes_none_away() -> None:
    """Nothing is better than what was heard before."""
    roster = MasterAddresses([], ["before"])
    roster.told([server("s", "three"), master("a", "")])
    assert roster.wanted() == {"before"}


def test_what_is_learnt_is_added() -> None:
    """Any node may be asked, and may know an old address."""
    roster = MasterAddresses([], ["before"])
    roster.learnt(["one", "two", "one"])
    assert roster.heard == ["one", "two", "before"]


def test_a_master_by_two_names_has_one_link() -> None:
    """It would close the older link of the two each time: the newer stays."""
    roster = MasterAddresses(["name"])
    roster.told([master("a", "address"), master("b", "other")])
    roster.linked("name", "a")
    assert roster.wanted() == {"name", "other"}
    # When it is reached by its other name as well, then by that alone
    roster.linked("address", "a")
    assert roster.wanted() == {"address", "other"}
    # When that link is gone, by whichever is there first
    roster.unlinked("address")
    roster.unlinked("name")
    assert roster.wanted() == {"name", "address", "other"}


def test_a_link_that_works_is_kept() -> None:
    """Though its master calls itself by another address, which may not lead there from here."""
    roster = MasterAddresses([])
    roster.learnt(["works"])
    roster.linked("works", "a")
    roster.told([master("a", "inside")])
    assert roster.wanted() == {"works"}
    roster.unlinked("works")
    assert roster.wanted() == {"inside"}


def test_another_master_at_an_old_address_is_dialled() -> None:
    """The address was the first one's when it was linked; now the leader tells otherwise."""
    roster = MasterAddresses(["one"])
    roster.linked("one", "a")
    roster.linked("moved", "a")
    roster.unlinked("one")
    roster.told([master("a", "moved")])
    assert roster.wanted() == {"moved"}
    roster.told([master("b", "one"), master("a", "moved")])
    assert roster.wanted() == {"one", "moved"}


def test_of_two_masters_at_one_address_the_last_to_tell_is_there() -> None:
    """A master whose store was lost is another node at the same place; the list has it first."""
    roster = MasterAddresses([])
    roster.linked("elsewhere", "old")
    roster.told([master("new", "one"), master("old", "one")])
    assert roster.wanted() == {"one", "elsewhere"}


def test_what_is_kept_is_bounded() -> None:
    """However many addresses are heard of, and whatever was said of them."""
    roster = MasterAddresses(["given"])
    for round_ in range(3):
        roster.told([master(f"{round_}.{each}", f"{round_}.{each}") for each in range(100)])
        roster.learnt([f"learnt {round_}.{each}" for each in range(100)])
        roster.linked("given", f"{round_}")
        roster.unlinked("given")
    assert len(roster.heard) == MASTERS_MAX
    assert len(roster.wanted()) == MASTERS_MAX + 1
    assert len(roster._nodes) <= MASTERS_MAX + 1
