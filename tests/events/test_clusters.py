import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.events.clusters import (
    RESTORED_BYTES,
    ClusterName,
    difference,
    founding_of,
    generation_of,
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
    assert "another restoring of the same backup" in difference(first, second)


def test_the_difference_is_told_in_words() -> None:
    """Who is refused reads whether it is of another founding, or of an older or newer log."""
    later = restored(FOUNDED, bytes(4))
    assert "another cluster, founded by itself" in difference("a" * 32, FOUNDED)
    assert "an older generation" in difference(FOUNDED, later)
    assert "a newer generation" in difference(later, FOUNDED)


@pytest.mark.parametrize("name", ["no spaces", "a+0.00000000", "a+1", "a+1.xyz", "x" * 65, "a\n"])
def test_what_no_cluster_can_be_called_is_refused(name: str) -> None:
    """A peer cannot make a message long or odd by the name of its cluster."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, ClusterName)
