"""The register: what a majority is, whose epoch is whose, and which voters there should be."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.decisions.primacy import (
    SLOTS,
    Config,
    created,
    elected,
    electorate,
    is_quorum,
    next_epoch,
    settled,
    wanted_voters,
    with_isr,
    with_voters,
    witness_id,
)

NODES = ("m0-a", "m1-b", "w-s1-c", "w-s2-d", "w-s3-e")
groups = st.sets(st.sampled_from(NODES), min_size=1)


def quorums(config: Config) -> list[set[str]]:
    """Every set of voters that decides for `config`."""
    everybody = electorate(config)
    return [
        set(chosen)
        for size in range(len(everybody) + 1)
        for chosen in combinations(everybody, size)
        if is_quorum(config, chosen)
    ]


@given(old=groups, new=groups)
def test_whoever_decides_a_change_of_voters_meets_whoever_decided_before(
    old: set[str], new: set[str]
) -> None:
    """A joint configuration has no quorum that misses one of the old or of the new voters."""
    before = Config(1, 1, "m0-a", ("m0-a",), tuple(sorted(old)))
    joint = with_voters(before, new)
    after = settled(joint)
    for deciding in quorums(joint):
        for others in (*quorums(before), *quorums(after)):
            assert deciding & others


@given(old=groups)
def test_two_quorums_of_one_configuration_meet(old: set[str]) -> None:
    """So no two leaders are elected in one epoch."""
    found = quorums(Config(1, 1, "", (), tuple(sorted(old))))
    assert found
    assert all(one & other for one in found for other in found)


@given(highest=st.integers(0, 10**6), slot=st.integers(0, SLOTS - 1))
def test_an_epoch_belongs_to_one_slot(highest: int, slot: int) -> None:
    """The next epoch is above all that were seen, and no other slot would take it."""
    epoch = next_epoch(slot, highest)
    assert highest < epoch <= highest + SLOTS
    assert all(next_epoch(other, highest) != epoch for other in range(SLOTS) if other != slot)


def test_a_leader_begins_alone_and_keeps_the_voters() -> None:
    """An elected master is in sync with nobody yet; later changes count up."""
    config = elected(created("m0-a"), "m0-a", 4)
    assert (config.stamp, config.isr, config.voters) == ((4, 1), ("m0-a",), ("m0-a",))
    assert with_isr(config, {"m1-b", "m0-a"}).stamp == (4, 2)
    assert with_isr(config, {"m1-b", "m0-a"}).isr == ("m0-a", "m1-b")


def test_two_voters_are_never_wanted() -> None:
    """Without a second master or a witness the lone voter stays: two bear no loss at all."""
    config = created("m0-a")
    assert wanted_voters(config, {"m0-a"}, {"w-s1-c"}) == ("m0-a",)
    assert wanted_voters(config, {"m0-a", "m1-b"}, set()) == ("m0-a",)
    assert wanted_voters(config, {"m0-a", "m1-b"}, {"w-s1-c"}) == ("m0-a", "m1-b", "w-s1-c")


def test_witnesses_are_one_or_three_and_stay() -> None:
    """Who votes goes on voting while others come; three are taken as soon as there are three."""
    config = Config(2, 5, "m0-a", ("m0-a", "m1-b"), ("m0-a", "m1-b", "w-s2-d"))
    pair = {"m0-a", "m1-b"}
    assert wanted_voters(config, pair, {"w-s1-c"}) == config.voters
    assert wanted_voters(config, pair, set()) == config.voters
    assert wanted_voters(config, pair, {"w-s1-c", "w-s3-e"}) == tuple(sorted(NODES))


def test_a_witness_that_lost_its_store_takes_its_own_place() -> None:
    """The new one of the same name votes instead of the old one, which nobody is any more."""
    config = Config(2, 5, "m0-a", ("m0-a", "m1-b"), ("m0-a", "m1-b", witness_id("s-1", "old")))
    renewed = witness_id("s-1", "new")
    assert wanted_voters(config, {"m0-a", "m1-b"}, {renewed}) == ("m0-a", "m1-b", renewed)


def test_a_master_that_lost_its_store_takes_its_own_place() -> None:
    """The masters that vote are those in sync."""
    config = Config(2, 5, "m0-a", ("m0-a", "m1-new"), ("m0-a", "m1-old", "w-s1-c"))
    wanted = wanted_voters(config, {"m0-a", "m1-new"}, {"w-s1-c"})
    assert wanted == ("m0-a", "m1-new", "w-s1-c")
