"""The journal of a volumecap server, on real files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vcap_es.adapters.storage import journal_files
from vcap_es.adapters.storage.journal_files import JournalFiles
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.volumecap_server.idempotency import key_digest
from vcap_es.components.volumecap_server.slices.journal import (
    Dropped,
    Entry,
    HoldNoted,
    Journal,
    Kept,
    Keyed,
    Marked,
)
from vcap_es.errors import JournalDamaged, JournalError


def kept(cap: str = "c", *, slot: int = 0, received: int = 10, ceiling: int = 10) -> Kept:
    """The totals of a slice."""
    return Kept(
        cap=cap,
        number=0,
        start=0,
        end=1,
        slot=slot,
        received=received,
        returned=0,
        ceiling=ceiling,
        refunded=0,
    )


def opened(directory: Path) -> JournalFiles:
    """An open journal of up to 8 slices."""
    return JournalFiles(directory, slots_max=8)


def begun(files: JournalFiles) -> Journal:
    """What it says, after a start."""
    return files.begin(incarnation=lambda: "i" * 32, session="s")


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """A journal that is closed and opened says the same, and counts its starts."""
    # Given
    files = opened(tmp_path / "j")
    first = begun(files)
    entries: list[Entry] = [
        kept(),
        Marked(cap="c", number=0, first=0, last=3, refunded=2),
        HoldNoted(cap="c", number=0, first=3, last=5, expires_ns=9, is_open=True, spent=5),
        Keyed(
            key="k",
            fingerprint=b"f",
            outcome=Consumed(
                cap="c", origin="x.", last=1, consumed=1, remaining=1, total=1, resets_at=1
            ),
            cap="c",
            number=0,
            spent=[("c", 0, 6)],
            caller="me",
        ),
    ]
    files.write(entries[:2])
    files.write(entries[2:])
    files.sync()
    files.close()
    # When
    files = opened(tmp_path / "j")
    again = begun(files)
    # Then
    assert again.incarnation == first.incarnation == "i" * 32
    assert (first.start, again.start) == (1, 2)
    assert again.kept == {("c", 0): entries[0]}
    assert again.marks == {("c", 0): {(0, 3): entries[1]}}
    assert again.holds == {("c", 0): {(3, 5): entries[2]}}
    assert again.keys.find("me", key_digest("k")) is not None
    assert not again.keyed, "a key file has it now"
    assert files.cells[0] == 6, "an answer that was noted stands for what it spent"
    files.close()


def test_a_torn_tail_is_cut_off(tmp_path: Path) -> None:
    """A frame that is not whole never happened, wherever it was torn, and writing goes on."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept("a")])
    whole = (tmp_path / "j" / "frames").stat().st_size
    files.write([kept("b", slot=2)])
    files.close()
    data = (tmp_path / "j" / "frames").read_bytes()
    for cut in range(whole, len(data)):
        # Given
        torn = tmp_path / f"torn{cut}"
        torn.mkdir()
        (torn / "frames").write_bytes(data[:cut])
        # When
        files = opened(torn)
        journal = begun(files)
        # Then
        assert set(journal.kept) == {("a", 0)}
        files.write([kept("c", slot=4)])
        files.close()
        files = opened(torn)
        assert set(begun(files).kept) == {("a", 0), ("c", 0)}
        files.close()


@pytest.mark.parametrize("bit", range(0, 400, 7))
def test_a_flipped_bit_is_not_believed(tmp_path: Path, bit: int) -> None:
    """After a bit is flipped, only what stands before it is read."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept("a")])
    files.close()
    path = tmp_path / "j" / "frames"
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)
    files = opened(tmp_path / "j")
    try:
        journal = files.journal
        assert set(journal.kept) <= {("a", 0)}
    finally:
        files.close()


def test_the_cells_survive_the_process(tmp_path: Path) -> None:
    """What a killed process had spent is there when the next one opens the journal."""
    # Given
    script = """
import os, signal, sys
from pathlib import Path
from tests.adapters.storage.test_journal_files import begun, kept, opened
files = opened(Path(sys.argv[1]))
begun(files)
files.write([kept()])
files.cells[0] = 7
os.kill(os.getpid(), signal.SIGKILL)
"""
    # When
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "j")],
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
    )
    # Then
    assert killed.returncode == -9
    files = opened(tmp_path / "j")
    begun(files)
    assert files.cells[0] == 7
    files.close()


def test_after_a_machine_crash_everything_below_the_ceiling_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another boot id the cells are not believed."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept(ceiling=9)])
    files.cells[0] = 4
    files.close()
    monkeypatch.setattr(journal_files, "_boot_id", lambda: "another boot")
    files = opened(tmp_path / "j")
    begun(files)
    assert files.cells[0] == 9
    files.close()


def test_cells_above_the_ceiling_are_damage(tmp_path: Path) -> None:
    """A server that spent more than it may is not let go on."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept(ceiling=5)])
    files.cells[0] = 6
    files.close()
    files = opened(tmp_path / "j")
    with pytest.raises(JournalDamaged, match="above the ceiling"):
        begun(files)
    files.close()


def test_a_journal_has_one_process(tmp_path: Path) -> None:
    """The second to open it is told who has it and what to do."""
    files = opened(tmp_path / "j")
    with pytest.raises(JournalError, match="in use by another process"):
        opened(tmp_path / "j")
    files.close()
    opened(tmp_path / "j").close()


def test_a_long_journal_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file has grown, sync shortens it and loses nothing."""
    # Given
    monkeypatch.setattr(journal_files, "COMPACT_AT_BYTES", 4096)
    files = opened(tmp_path / "j")
    begun(files)
    # When
    for received in range(10, 400):
        files.write([kept(received=received)])
    files.write([kept("gone", slot=2), Dropped(cap="gone", number=0)])
    before = (tmp_path / "j" / "frames").stat().st_size
    files.sync()
    files.write([kept("after", slot=4)])
    after = (tmp_path / "j" / "frames").stat().st_size
    files.close()
    # Then
    assert after < before / 10
    files = opened(tmp_path / "j")
    journal = begun(files)
    assert set(journal.kept) == {("c", 0), ("after", 0)}
    assert journal.kept["c", 0].received == 399
    files.close()


def test_a_journal_can_be_set_aside(tmp_path: Path) -> None:
    """A journal that must not go on is kept for people, out of the way."""
    files = opened(tmp_path / "j")
    begun(files)
    aside = files.set_aside()
    assert aside.is_dir()
    assert not (tmp_path / "j").exists()
    opened(tmp_path / "j").close()
    files.close()
    files.close()  # once more is no harm
