"""A journal whose disk fails, or whose machine stops, at the worst moment."""

import os
from pathlib import Path

import pytest

from tests.adapters.storage.test_journal_files import begun, kept, opened
from vcap_es.adapters.storage import framing, journal_files
from vcap_es.errors import JournalError


def test_zeros_at_the_end_are_no_frame(tmp_path: Path) -> None:
    """A file that grew before its data came has a tail of zeros: it is cut off like any other."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept()])
    files.close()
    with (tmp_path / "j" / "frames").open("ab") as frames:
        frames.write(bytes(4096))
    files = opened(tmp_path / "j")
    assert set(begun(files).kept) == {("c", 0)}
    files.close()


def test_nothing_is_written_behind_a_torn_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a disk is full in the middle of a frame, what would come behind it is refused.

    It would be acknowledged, and cut off with the torn frame at the next start.
    """
    # Given
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept("a")])
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 8:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    # When
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(JournalError, match="No space left"):
        files.write([kept("b", slot=2)])
    monkeypatch.undo()
    # Then
    with pytest.raises(JournalError, match="look at the disk"):
        files.write([kept("c", slot=4)])
    with pytest.raises(JournalError, match="look at the disk"):
        files.sync()
    files.close()
    files = opened(tmp_path / "j")
    assert set(begun(files).kept) == {("a", 0)}
    files.close()


def test_after_a_failed_fsync_nothing_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may have dropped what it could not write, and would call the next fsync fine."""
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept()])

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(JournalError, match="Input/output error"):
        files.sync()
    monkeypatch.undo()
    with pytest.raises(JournalError, match="look at the disk"):
        files.sync()
    files.close()


def test_a_disk_that_is_full_while_the_journal_is_written_anew_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays in its place until the new one is whole."""
    monkeypatch.setattr(journal_files, "COMPACT_AT_BYTES", 0)
    files = opened(tmp_path / "j")
    begun(files)
    for received in range(10, 100):
        files.write([kept(received=received)])

    def full(_: int, __: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalError, match="No space left"):
        files.sync()
    monkeypatch.undo()
    files.close()
    files = opened(tmp_path / "j")
    assert begun(files).kept["c", 0].received == 99
    files.close()


def test_a_journal_longer_than_a_frame_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it keeps, it never writes a frame that it would not read."""
    # Given
    files = opened(tmp_path / "j")
    begun(files)
    for slot in range(0, 16, 2):
        files.write([kept(f"c{slot}", slot=slot)])
    files.close()
    # When
    monkeypatch.setattr(framing, "FRAME_BYTES_MAX", 300)
    monkeypatch.setattr(journal_files, "ENTRIES_PER_FRAME", 1)
    for _ in range(2):
        files = opened(tmp_path / "j")
        # Then
        assert len(begun(files).kept) == 8
        with pytest.raises(JournalError, match="more than a frame"):
            files.write([kept("c" * 300)])
        files.close()
