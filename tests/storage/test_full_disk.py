"""A disk that is really full: a small file system in memory, mounted for one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZE = "600k"


def mounted(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run `command` where a small file system is mounted at `folder`, for it alone."""
    script = f'mount -t tmpfs -o size={SIZE} none "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(folder), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small file system can be mounted; skips where none can be."""
    folder = tmp_path_factory.mktemp("small")
    try:
        tried = mounted(folder, "true")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    return folder


def test_a_disk_that_is_really_full_loses_nothing(folder: Path) -> None:
    """Refused is refused: it is not there, the log goes on, and with room all is recorded."""
    done = mounted(folder, sys.executable, "-m", "tests.storage.small_disk", str(folder))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["cases"] == 180
    assert seen["refused"] == 120
    assert seen["cut"] > 0  # there was room for some truncations,
    assert seen["closed in disorder"] > 0  # and none to bring the WAL into the main file
    assert seen["did not open"] > 0
    assert not list(folder.iterdir())  # all that was in the other file system


def test_a_full_disk_under_the_cells_of_a_journal_is_an_error_with_words(folder: Path) -> None:
    """What has its place goes on, what has none is refused, and with room there is one again."""
    done = mounted(folder, sys.executable, "-m", "tests.storage.small_journal", str(folder))
    assert done.returncode == 0, (done.returncode, done.stderr)
    seen = json.loads(done.stdout)
    assert 0 < seen["slots"] < 1 << 20
    assert seen["grown"]
    for said in (seen["said"], seen["new"]):
        assert "No space left on device: make room" in said
