import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.adapters.links.link import REASON_BYTES_MAX
from vcap_es.events.clusters import (
    RESTORED_BYTES,
    ClusterName,
    difference,
    founding_of,
    generation_of,
    is_of,
    restored,
)

FOUNDED = "9f" * 16
randoms = st.binary(min_size=RESTORED_BYTES, max_size=RESTORED_BYTES)


@given(st.lists(randoms, max_size=5))
def test_each_restoring_is_one_more_generation_of_one_founding(made: list[bytes]) -> None:
    """However often a log is restored, its name keeps the founding and counts the generations."""
    name = FOUNDED
    for random in made:
        name = restored(name, random)
    assert (founding_of(name), generation_of(name)) == (FOUNDED, len(made))
    assert msgspec.convert(name, ClusterName) == name


def test_two_restorings_of_one_backup_have_two_names() -> None:
    """A drill and the real thing, or two drills, never take each other for themselves."""
    first, second = restored(FOUNDED, bytes(4)), restored(FOUNDED, b"\1\2\3\4")
    assert first != second
    assert "both were restored from one backup" in difference(first, second)


def test_the_difference_is_told_in_words() -> None:
    """Who is refused reads whether it is of another founding, or of an older or newer log."""
    later = restored(FOUNDED, bytes(4))
    assert "two clusters, aaaaaaaa and 9f9f9f9f: each was" in difference("a" * 32, FOUNDED)
    assert "two generations, 9f9f9f9f and 9f9f9f9f+1." in difference(FOUNDED, later)


def test_the_difference_fits_in_the_reason_for_closing_a_line() -> None:
    """However long a name is, who is refused reads the whole sentence."""
    long = "a" * 64 + "+999999999."
    for one, other in ((f"{long}00000000", f"{long}00000001"), ("b" * 64, f"{long}00000000")):
        assert len(difference(one, other).encode()) <= REASON_BYTES_MAX


def test_a_copy_may_not_have_come_to_the_restoring_yet() -> None:
    """The first part of a log has the name of an earlier generation, and never of another one."""
    once, again = restored(FOUNDED, bytes(4)), restored(FOUNDED, b"1234")
    twice = restored(once, bytes(4))
    assert is_of(FOUNDED, twice)
    assert is_of(once, twice)
    assert is_of(twice, twice)
    assert not is_of(twice, once)
    assert not is_of(once, again)
    assert not is_of("a" * 32, once)


@pytest.mark.parametrize("name", ["no spaces", "a+0.00000000", "a+1", "a+1.xyz", "x" * 65, "a\n"])
def test_what_no_cluster_can_be_called_is_refused(name: str) -> None:
    """A peer cannot make a message long or odd by the name of its cluster."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, ClusterName)
