"""A ballot on a disk: durable, whole, one process's, and in need of no room."""

import subprocess
import sys
from pathlib import Path

import pytest

from vcap_es.adapters.storage.ballot_file import HALF_BYTES, BallotFile
from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.primacy import Config
from vcap_es.errors import BallotDamaged, BallotLocked

CONFIG = Config(2, 3, "m0-a", ("m0-a", "m1-b"), ("m0-a", "m1-b", "w-s1-c"), ("m0-a",))


def opened(path: Path, node: str = "m0-a") -> BallotFile:
    """The ballot at `path`."""
    return BallotFile.open(path, lambda: node)


def test_a_ballot_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """With one more start; the node's id is that of the first start."""
    path = tmp_path / "new" / "ballot"
    file = opened(path)
    assert file.ballot == Ballot(node="m0-a", start=1)
    wanted = Ballot(
        node="m0-a", start=1, promised=7, promised_to="m1-b", config=CONFIG, committed=99
    )
    file.keep(wanted)
    file.close()
    again = opened(path, node="somebody else")
    assert again.ballot == Ballot(
        node="m0-a", start=2, promised=7, promised_to="m1-b", config=CONFIG, committed=99
    )
    again.close()


def test_a_torn_write_leaves_the_ballot_before(tmp_path: Path) -> None:
    """Whichever part of the last write reached the disk, one of the two ballots is read."""
    path = tmp_path / "ballot"
    file = opened(path)
    file.keep(Ballot(node="m0-a", start=1, promised=5))
    before = path.read_bytes()
    file.keep(Ballot(node="m0-a", start=1, promised=6))
    after = path.read_bytes()
    file.close()
    changed = [at for at in range(2 * HALF_BYTES) if before[at] != after[at]]
    for cut in range(changed[0], changed[-1] + 2):
        path.write_bytes(after[:cut] + before[cut:])
        torn = opened(path)
        assert torn.ballot.promised == (6 if cut > changed[-1] else 5)
        torn.close()


@pytest.mark.parametrize("size", [0, 1, HALF_BYTES, 2 * HALF_BYTES])
def test_a_ballot_whose_making_was_cut_short_is_made_anew(tmp_path: Path, size: int) -> None:
    """Nobody ever heard of it: the power failed before its first ballot was written."""
    path = tmp_path / "ballot"
    path.write_bytes(bytes(size))
    file = opened(path, node="m0-b")
    assert file.ballot == Ballot(node="m0-b", start=1)
    file.close()


def test_a_ballot_that_cannot_be_read_is_no_new_one(tmp_path: Path) -> None:
    """Who forgot its promises must not vote: it is an error that names the file."""
    path = tmp_path / "ballot"
    file = opened(path)
    file.keep(file.ballot)
    file.close()
    path.write_bytes(b"x" * 2 * HALF_BYTES)
    with pytest.raises(BallotDamaged, match="ballot"):
        opened(path)


def test_a_making_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    """Nobody ever heard of the node whose file was not even as long as it is to be."""
    path = tmp_path / "ballot"
    path.write_bytes(b"\0" * 100)
    file = opened(path, node="m0-b")
    assert file.ballot.node == "m0-b"
    file.close()


def test_one_store_serves_one_process(tmp_path: Path) -> None:
    """A second one is told so."""
    path = tmp_path / "ballot"
    file = opened(path)
    with pytest.raises(BallotLocked, match="one process"):
        opened(path)
    file.close()
    opened(path).close()


def test_a_full_disk_takes_no_vote_away(tmp_path: Path) -> None:
    """In a process that may make no file longer, a ballot is kept all the same."""
    path = tmp_path / "ballot"
    opened(path).close()
    size = path.stat().st_size
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from vcap_es.adapters.storage.ballot_file import BallotFile\n"
        "from vcap_es.components.consensus.voter import Ballot\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "file = BallotFile.open(Path(sys.argv[1]), lambda: 'other')\n"
        "for promised in range(1, 20):\n"
        "    file.keep(Ballot(node='m0-a', promised=promised))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    file = opened(path)
    assert file.ballot.promised == 19
    assert path.stat().st_size == size
    file.close()


def test_a_ballot_that_was_let_go_is_written_nowhere(tmp_path: Path) -> None:
    """Its descriptor may be another file's by then; that file is left alone."""
    first = opened(tmp_path / "first")
    first.close()
    first.close()
    second = opened(tmp_path / "second", node="m1-b")
    before = (tmp_path / "second").read_bytes()
    with pytest.raises(OSError, match="descriptor"):
        first.keep(Ballot(node="m0-a", promised=9))
    assert (tmp_path / "second").read_bytes() == before
    second.close()
