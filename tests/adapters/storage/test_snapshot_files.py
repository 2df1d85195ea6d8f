"""Snapshots on a disk: replaced whole, and absent without fuss."""

from pathlib import Path

import pytest

from vcap_es.adapters.storage import snapshot_files
from vcap_es.adapters.storage.snapshot_files import load_snapshot, save_snapshot


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    """A second snapshot replaces the first, and nothing else is left behind."""
    path = tmp_path / "state.snapshot"
    save_snapshot(path, b"old")
    save_snapshot(path, b"new and longer")
    assert load_snapshot(path) == b"new and longer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_no_snapshot(tmp_path: Path) -> None:
    """At the first start there is none, which is nothing to complain about."""
    assert load_snapshot(tmp_path / "state.snapshot") is None


def test_a_snapshot_that_was_cut_short_leaves_the_old_one(tmp_path: Path) -> None:
    """What a crash leaves of a new snapshot is not read, and the next save replaces it."""
    # Given a snapshot, and the beginning of a newer one
    path = tmp_path / "state.snapshot"
    save_snapshot(path, b"old")
    (tmp_path / "state.snapshot.new").write_bytes(b"ne")
    # When it is loaded, it is the old one; when it is saved again, the new one
    assert load_snapshot(path) == b"old"
    save_snapshot(path, b"new")
    assert load_snapshot(path) == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_beyond_all_reason_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file over the limit is no snapshot, and does not fill the memory."""
    path = tmp_path / "state.snapshot"
    save_snapshot(path, b"12345")
    monkeypatch.setattr(snapshot_files, "SNAPSHOT_BYTES_MAX", 4)
    assert load_snapshot(path) is None
