"""Key files of a server's journal, on a real disk: crashes, torn tails, and older journals."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.adapters.storage.test_journal_files import begun, kept, opened
from vcap_es.adapters.storage import journal_files
from vcap_es.adapters.storage.journal_files import JournalFiles
from vcap_es.clock import boot_ns
from vcap_es.components.messages.client import Command, Consume, Idempotency, Refund
from vcap_es.components.messages.outcomes import Consumed, Outcome, Refunded, Refused
from vcap_es.components.messages.server import Broadcast, Grant, Grants, Notice, OpenInterval
from vcap_es.components.volumecap_server.idempotency import key_digest
from vcap_es.components.volumecap_server.keys.ledger import DIGEST_BYTES, KeyLedger, record_of
from vcap_es.components.volumecap_server.keys.records import (
    CallerNamed,
    FileBegun,
    IntervalNamed,
    KeyAnswered,
)
from vcap_es.components.volumecap_server.slices.journal import Keyed
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import (
    DropKeys,
    Reply,
    RewriteKeys,
    ServerOutput,
    TurnKeys,
    Write,
    WriteKeys,
)
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.errors import JournalError

OLD = Path(__file__).parents[1] / "journals" / "before_key_files"
NOW = 1_767_268_800_000_000
CALLER = "reader"


class Server:
    """A server core on a journal in files, whose master has moved `moved` units of each cap to it.

    It synchronises when it is asked to, and works on the disk in one thread.
    """

    def __init__(
        self, directory: Path, moved: dict[str, int], *, limits: Limits | None = None
    ) -> None:
        self.files = JournalFiles(directory, slots_max=8, limits=limits)
        journal = self.files.begin(incarnation=lambda: "1" * 32, session="s")
        self.now_ns = boot_ns()
        self.core = VolumecapServer(journal, self.files.cells, limits)
        self.replies: dict[int, object] = {}
        self.core.connected(self.now_ns)
        for number, (cap, units) in enumerate(moved.items()):
            self._hear(2 * number + 1, cap, units)
        self.core.disconnected()  # an answered refund waits for nobody then
        self.flush()

    def _hear(self, number: int, cap: str, units: int) -> None:
        periods = [OpenInterval(0, NOW - 1, NOW + 10**11, 100)]
        notices = [Notice(cap, "active", "day", "hard", "asap", None, periods)]
        at = {"epoch": 1, "now": NOW, "echo_ns": self.now_ns}
        self.core.received(Broadcast(number=number, notices=notices, **at), self.now_ns)  # type: ignore[arg-type]  # as named
        grants = [Grant(cap, 0, units, 0, 0, 0, False, False, (1, 0), None, None, 0)]
        standing = Grants(number=number + 1, incarnation="1" * 32, grants=grants, **at)  # type: ignore[arg-type]  # likewise
        self.core.received(standing, self.now_ns)

    def flush(self) -> None:
        """Do what the core wants done."""
        while outputs := self.core.take(self.now_ns):
            for each in outputs:
                self._do(each)

    def _do(self, output: ServerOutput) -> None:
        match output:
            case Write(entries, ticket):
                self.files.write(entries)
                if ticket:
                    self.files.sync()
                    self.core.written(ticket, self.now_ns)
            case WriteKeys(keys):
                self.files.write_keys(keys)
            case TurnKeys(number, begun_):
                self.files.turn_keys(number, begun_)
            case DropKeys(number):
                self.files.drop_keys(number)
            case RewriteKeys(number, pieces):
                self.files.rewrite_keys(number, pieces)
                self.core.keys.rewritten(number)
            case Reply(token, outcome):
                self.replies[token] = outcome

    def ask(self, key: str, command: Command, path: str = "") -> object:
        """What a keyed call is answered."""
        token = len(self.replies) + 1
        asked = msgspec.json.encode([CALLER, "POST", path, command])
        idempotency = Idempotency(key=f"{CALLER}/{key}", fingerprint=asked)
        self.core.submit(token, command, idempotency, self.now_ns, CALLER)
        self.flush()
        return self.replies[token]


def take(amount: int, cap: str = "c") -> Consume:
    """A consume of exactly this amount."""
    return Consume(cap=cap, minimum=amount, maximum=amount)


def key_files(directory: Path) -> list[Path]:
    """The key files there are."""
    return sorted(directory.glob("keys-*"))


def test_every_start_places_keys_by_a_secret_of_its_own(tmp_path: Path) -> None:
    """Whoever finds out which keys share a bucket knows nothing of it after the next start."""
    # Given the ledgers of two starts of a journal, and one without a secret
    ledgers = [KeyLedger(b"")]
    for _ in range(2):
        server = Server(tmp_path, {})
        ledgers.append(server.core.keys.ledger)
        server.files.close()
    # When the same keys are put into each
    for ledger in ledgers:
        for key in map(str, range(200)):
            ledger.add(CALLER, record_of(key_digest(key), b"answer"), 0)
    # Then each has other buckets
    buckets = [tuple(each.shares[CALLER].segments[-1].pieces(1)) for each in ledgers]
    assert len(set(buckets)) == 3


# ---- older journals


def test_a_journal_from_before_key_files_is_upgraded_in_place(tmp_path: Path) -> None:
    """Every key that an older server answered has its answer, now and after the next starts."""
    # Given
    directory = tmp_path / "j"
    directory.mkdir()
    shutil.copy(OLD / "frames", directory / "frames")
    calls: list[tuple[str, str, Any, Any]] = msgspec.json.decode((OLD / "answers.json").read_text())
    assert len(calls) == 5
    for _ in range(3):
        # When
        server = Server(directory, {"c": 100, "d": 100})
        # Then
        for path, key, command, answer in calls:
            told = server.ask(key, msgspec.convert(command, Command), path)
            assert told == msgspec.convert(answer, Outcome)
        other = server.ask("one", take(11), "/v1/caps/c/consume")
        assert isinstance(other, Refused)
        assert other.code == "key_reused"
        server.files.close()
    assert b"Keyed" not in (directory / "frames").read_bytes()
    assert len(key_files(directory)) == 1


def test_an_upgrade_that_is_cut_short_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys leave the frames only when a key file has them for good."""
    # Given
    directory = tmp_path / "j"
    directory.mkdir()
    shutil.copy(OLD / "frames", directory / "frames")

    def dies(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JournalFiles, "_rewrite", dies)
    with pytest.raises(JournalError, match="No space left"):
        Server(directory, {})
    monkeypatch.undo()
    (directory / "lock").unlink()
    # When
    server = Server(directory, {"c": 100})
    # Then
    answer = server.ask("one", take(10), "/v1/caps/c/consume")
    assert isinstance(answer, Consumed)
    assert answer.last == 10
    assert server.core.keys.ledger.count == 5, "none is there twice"
    server.files.close()


# ---- crashes


def test_answers_survive_a_killed_process(tmp_path: Path) -> None:
    """What a client was told, it is told again by the next process; nothing was fsynced for it."""
    # Given
    script = """
import os, signal, sys
from pathlib import Path
from tests.adapters.storage.test_key_journal import Server, take
server = Server(Path(sys.argv[1]), {"c": 100})
for key in range(20):
    server.ask(str(key), take(1))
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
    server = Server(tmp_path / "j", {"c": 100})
    answers = [server.ask(str(key), take(1)) for key in range(20)]
    assert [each.last for each in answers if isinstance(each, Consumed)] == list(range(1, 21))
    server.files.close()


def test_a_refund_and_its_key_are_one_record_whichever_file_is_lost(tmp_path: Path) -> None:
    """Without the key files, the key is in the frame that has the mark: it gives back once."""
    # Given
    server = Server(tmp_path / "j", {"c": 100})
    taken = server.ask("c", take(10))
    assert isinstance(taken, Consumed)
    refunded = server.ask("r", Refund(id=taken.id, amount=3))
    assert isinstance(refunded, Refunded)
    server.files.close()
    # When
    for each in key_files(tmp_path / "j"):
        each.unlink()
    # Then
    server = Server(tmp_path / "j", {"c": 100})
    assert server.ask("r", Refund(id=taken.id, amount=3)) == refunded
    server.files.close()


def test_a_refunds_key_outlives_every_rewriting_of_the_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames let a key go only when a key file surely has it."""
    # Given
    monkeypatch.setattr(journal_files, "COMPACT_AT_BYTES", 0)
    server = Server(tmp_path / "j", {"c": 1000})
    taken = server.ask("c", take(500))
    assert isinstance(taken, Consumed)
    # When
    answers = [server.ask(f"r{each}", Refund(id=taken.id, amount=1)) for each in range(200)]
    keys = (tmp_path / "j" / "frames").read_bytes().count(b"Keyed")
    server.files.close()
    # Then
    assert keys < 150, "the frames do not keep all keys"
    server = Server(tmp_path / "j", {"c": 1000})
    for each, answer in enumerate(answers):
        assert isinstance(answer, Refunded)
        assert server.ask(f"r{each}", Refund(id=taken.id, amount=1)) == answer
    server.files.close()


def test_a_torn_tail_of_a_key_file_is_cut_off(tmp_path: Path) -> None:
    """A frame that is not whole never happened, wherever it was torn."""
    # Given
    server = Server(tmp_path / "j", {"c": 100})
    first = server.ask("a", take(1))
    server.files.close()
    current = key_files(tmp_path / "j")[-1]
    whole = current.stat().st_size
    server.files = JournalFiles(tmp_path / "j", slots_max=8)
    server.files.close()
    data = current.read_bytes()
    frame = data + data[-40:]
    for cut in range(whole, len(frame), 7):
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(tmp_path / "j", torn)
        (torn / current.name).write_bytes(frame[:cut])
        # When
        server = Server(torn, {"c": 100})
        # Then
        assert server.ask("a", take(1)) == first
        server.files.close()


def test_a_file_that_is_half_written_anew_is_not_read(tmp_path: Path) -> None:
    """A process that dies in the middle leaves the old files, and another name beside them."""
    # Given
    server = Server(tmp_path / "j", {"c": 100})
    first = server.ask("a", take(1))

    def half() -> Any:
        yield [FileBegun("b", 0, is_whole=True)]
        raise OSError(28, "No space left on device")

    # When
    with pytest.raises(OSError, match="No space left"):
        server.files.rewrite_keys(99, half())
    server.files.close()
    # Then
    assert any(each.suffix == ".new" for each in key_files(tmp_path / "j"))
    server = Server(tmp_path / "j", {"c": 100})
    assert server.ask("a", take(1)) == first
    assert not any(each.suffix == ".new" for each in key_files(tmp_path / "j"))
    server.files.close()


def test_a_file_written_anew_stands_for_those_before_it(tmp_path: Path) -> None:
    """Where the process dies before it has removed them, no answer is there twice."""
    # Given a file with everything, and one before it that it replaces
    files = opened(tmp_path / "j")
    begun(files)
    files.write([kept()])
    record = record_of(sha256(b"k").digest()[:DIGEST_BYTES], b"m" * 8 + b"x" * 30)
    for number, is_whole in ((7, False), (8, True)):
        files.turn_keys(number, FileBegun("b", 0, is_whole=is_whole))
        files.write_keys([CallerNamed(1, "me"), IntervalNamed(1, "c", 0), KeyAnswered(1, record)])
    files.close()
    # When
    files = opened(tmp_path / "j")
    ledger = begun(files).keys
    # Then
    assert ledger.count == 1
    assert ledger.names == {1: ("c", 0)}
    files.close()


# ---- what it costs


def test_evicted_answers_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Files of a caller that floods are written anew; who calls rarely still finds its answer."""
    # Given
    limits = Limits(keys_max=50, key_file_bytes_max=4000)
    server = Server(tmp_path / "j", {"c": 2**40}, limits=limits)
    first = server.ask("mine", take(1))
    # When
    for each in range(3000):
        flood = Idempotency(key=str(each), fingerprint=b"")
        server.core.submit(-1, take(1), flood, server.now_ns, "flood")
        server.flush()
    # Then
    assert sum(each.stat().st_size for each in key_files(tmp_path / "j")) < 20_000
    assert server.ask("mine", take(1)) == first
    server.files.close()


def test_a_key_file_costs_at_most_96_bytes_a_key(tmp_path: Path) -> None:
    """Measured at the files, of calls that come one by one."""
    server = Server(tmp_path / "j", {"c": 2**50})
    keys = 2000
    for each in range(keys):
        server.ask(str(each).ljust(250, "z"), take(1))
    written = sum(each.stat().st_size for each in key_files(tmp_path / "j"))
    assert 30 < written / keys <= 96
    assert Keyed.__name__.encode() not in (tmp_path / "j" / "frames").read_bytes()
    server.files.close()
