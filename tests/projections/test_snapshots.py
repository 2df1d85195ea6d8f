"""Snapshots: the same state back, or none at all and the reason."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from tests.projections.test_balances import OPENED, state_of
from tests.support.lives import lives
from vcap_es.events.facts import Fact
from vcap_es.events.log import Head
from vcap_es.projections import snapshots
from vcap_es.projections.balances import encode
from vcap_es.projections.snapshots import Discarded, Snapshot, head_of, restore, take

LINK = sha256(b"link").digest()
HEAD = Head(position=5, epoch=2, link=LINK)


@given(lives())
def test_a_state_comes_back_as_it_was(facts: list[Fact]) -> None:
    """What is restored is the state that was taken, byte for byte, and so is its head."""
    state = state_of(facts)
    data = take(state, HEAD)
    assert head_of(data) == HEAD
    restored = restore(data, LINK)
    assert isinstance(restored, Snapshot)
    assert restored.head == HEAD
    assert encode(restored.state) == encode(state)
    assert take(restored.state, HEAD) == data


@given(st.data())
def test_a_snapshot_with_any_bit_changed_is_discarded(data: st.DataObject) -> None:
    """One bit anywhere, and nothing of it is used."""
    whole = bytearray(take(state_of(OPENED), HEAD))
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[at // 8] ^= 1 << at % 8
    assert isinstance(head_of(bytes(whole)), Discarded)
    assert isinstance(restore(bytes(whole), LINK), Discarded)


@given(st.data())
def test_a_snapshot_that_is_cut_or_padded_is_discarded(data: st.DataObject) -> None:
    """A file that was written in part, or has something behind it, is not used."""
    whole = take(state_of(OPENED), HEAD)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert isinstance(restore(cut, LINK), Discarded)
    assert isinstance(restore(whole + b"\0", LINK), Discarded)


@pytest.mark.parametrize(
    ("link", "reason"),
    [(None, "has no event at position 5"), (bytes(32), "has another event at position 5")],
)
def test_a_snapshot_of_another_log_is_discarded(link: bytes | None, reason: str) -> None:
    """A snapshot is used only where the log has its very event at its position."""
    discarded = restore(take(state_of(OPENED), HEAD), link)
    assert isinstance(discarded, Discarded)
    assert reason in discarded.reason


def test_a_snapshot_of_another_version_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the structs, or what facts mean for them, have changed, the log is folded again."""
    data = take(state_of(OPENED), HEAD)
    monkeypatch.setattr(snapshots, "FORMAT", bytes(32))
    assert restore(data, LINK) == Discarded("the snapshot is of another version")


def test_the_format_covers_the_structs_of_the_state() -> None:
    """The description that is digested names every struct and field that a state is made of."""
    described = repr(inspect.type_info(Snapshot))
    for name in (
        "Pool",
        "unreported",
        "Account",
        "refused",
        "Definition",
        "ApiKeyCreated",
        "Head",
        "NodeSeen",
    ):
        assert name in described
