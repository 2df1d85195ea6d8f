"""What a journal says: frames folded one after the other, and written anew in the fewest."""

import msgspec
import pytest
from msgspec import structs

from vcap_es.components.messages.outcomes import Refused
from vcap_es.components.messages.refusals import capped
from vcap_es.components.volumecap_server.idempotency import key_digest, take_in
from vcap_es.components.volumecap_server.keys.ledger import HEAD_BYTES, record_of
from vcap_es.components.volumecap_server.keys.packed_answers import pack
from vcap_es.components.volumecap_server.slices.journal import (
    Begun,
    Dropped,
    Entry,
    HoldNoted,
    Journal,
    Kept,
    Keyed,
    Marked,
    decode,
    encode,
    settle_cells,
)
from vcap_es.errors import JournalDamaged


def kept(cap: str = "c", **fields: int) -> Kept:
    """The record of a slice."""
    known = {"slot": 0, "received": 9, "returned": 0, "ceiling": 7, "refunded": 0}
    return Kept(cap=cap, number=0, start=0, end=1, **{**known, **fields})


def keyed(key: str, cap: str = "c", spent: int = 0) -> Keyed:
    """The answer of a keyed call."""
    outcome = Refused(code="capped", cap=cap, detail="")
    return Keyed(
        key=key, fingerprint=b"f", outcome=outcome, cap=cap, number=0, spent=[(cap, 0, spent)]
    )


def noted(*, is_open: bool) -> HoldNoted:
    """A hold of two units."""
    return HoldNoted(cap="c", number=0, first=1, last=3, expires_ns=5, is_open=is_open, spent=3)


def folded(*entries: Entry) -> Journal:
    """What these entries say."""
    journal = Journal()
    for entry in decode(encode(list(entries))):
        journal.fold(entry)
    return journal


ALL: list[Entry] = [
    Begun(incarnation="i", start=2, session="s", boot="b"),
    kept(),
    kept("d", slot=2),
    Marked(cap="c", number=0, first=0, last=1, refunded=1),
    noted(is_open=True),
    keyed("k"),
    keyed("l", "d"),
]


def test_a_journal_written_anew_says_the_same() -> None:
    """The fewest entries fold to what all of them did."""
    journal = folded(*ALL, kept(received=12), noted(is_open=False))
    again = folded(*journal.entries())
    assert structs.replace(again, keys=journal.keys) == journal


def test_a_dropped_slice_takes_all_that_was_known_of_it_along() -> None:
    """Its totals, marks, holds and keys are gone; those of others stay."""
    journal = folded(*ALL, Dropped(cap="c", number=0))
    assert list(journal.kept) == [("d", 0)]
    assert list(journal.keyed) == ["l"]
    assert not journal.marks
    assert not journal.holds


def test_a_key_used_anew_with_another_slice_outlives_the_first_one() -> None:
    """The end of the slice that a key was kept with before does not forget it."""
    journal = folded(keyed("k"), keyed("k", "d"), Dropped(cap="c", number=0))
    assert list(journal.keyed) == ["k"]


def test_after_the_process_died_the_cells_are_what_is_spent() -> None:
    """But an answer that was noted stands, also where its cell was not written any more."""
    journal, cells = folded(*ALL, keyed("m", spent=6)), [2, 5, 0, 0]
    settle_cells(journal, cells, same_boot=True)
    assert cells == [6, 5, 0, 0]
    assert journal.holds[("c", 0)][(1, 3)].is_open


def test_after_the_machine_was_lost_all_below_the_ceiling_is_spent() -> None:
    """And holds that were open count as committed."""
    journal, cells = folded(*ALL), [2, 5, 100, 100]
    settle_cells(journal, cells, same_boot=False)
    assert cells == [7, 0, 7, 0]
    assert not journal.holds[("c", 0)][(1, 3)].is_open


def test_a_slice_without_a_slot_has_no_cells() -> None:
    """There was no room for it; it can only be given back."""
    cells = [1, 2]
    settle_cells(folded(kept(slot=-1, ceiling=0)), cells, same_boot=False)
    assert cells == [1, 2]


def test_a_cell_above_its_ceiling_is_damage() -> None:
    """Nothing is guessed: such a journal must not go on."""
    with pytest.raises(JournalDamaged, match="above the ceiling"):
        settle_cells(folded(kept()), [8, 0], same_boot=True)


def test_a_key_of_the_frames_stands_unless_a_key_file_has_a_good_answer() -> None:
    """An answer of an interval that is closed is none, and must not hide that of a refund."""
    # Given
    journal = folded(kept(), keyed("me/k"), keyed("me/l"))
    name, closed = journal.keys.name(("c", 0)), journal.keys.name(("c", 9))
    answers = {}
    for key, interval in (("me/k", name), ("me/l", closed)):
        answer = pack(capped("c", 1, 5), interval, "c", {})
        answers[key] = record_of(key_digest(key), b"m" * 8 + answer)
        journal.keys.add("me", answers[key], 0)
    # When
    take_in(journal, 0)
    # Then
    found = {key: journal.keys.find("me", key_digest(key)) for key in answers}
    assert found["me/k"] == answers["me/k"][HEAD_BYTES:]
    assert found["me/l"] != answers["me/l"][HEAD_BYTES:]
    assert journal.keys.names == {name: ("c", 0)}
    assert not journal.keyed


def test_holds_from_before_have_nothing_above_them() -> None:
    """A journal that was written when commits took nothing of their own is read as it was."""
    old = {
        "type": "HoldNoted",
        "cap": "c",
        "number": 0,
        "first": 1,
        "last": 3,
        "expires_ns": 5,
        "is_open": True,
        "spent": 3,
    }
    assert decode(msgspec.msgpack.encode([old])) == [noted(is_open=True)]


def test_what_a_commit_took_above_its_hold_is_kept() -> None:
    """The hold says which units, after the machine was lost too."""
    settled = msgspec.structs.replace(noted(is_open=False), above=(7, 9))
    assert folded(settled).holds["c", 0][1, 3].above == (7, 9)
