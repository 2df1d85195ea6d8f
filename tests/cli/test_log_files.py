"""`vcap verify` and `vcap rebuild`: the whole log, sound or not."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import PATIENT, ROOT, Deployment, deployed
from tests.support.people import Caller, define, settled, taken
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import ToppedUp
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.projections.balances import encode
from vcap_es.projections.snapshots import Snapshot, restore
from vcap_es.projections.states.data_centre import DataCentre

VERBS = {
    "then": ("balance", "c", "--position", "8", "--json"),
    "consume": ("explain", "c", "--id", "{consume}", "--json"),
    "show": ("events", "show", "3"),
    "read": ("events", "read", "--cap", "c", "--limit", "5"),
}
"""What an auditor asks of a master, or of a log."""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a primary that served a day cap, and has stopped.

    What auditors were told while it lived is in the file `told.json` there.
    """
    directory = tmp_path_factory.mktemp("lived")
    with deployed(directory, 1, PATIENT) as dc:
        define(dc, "c", 100)
        caller = Caller(dc, dc.make_key())
        ids = [taken(caller.consume(0, "c", 5))["id"] for _ in range(3)]
        settled(dc, "c", spent=15)
        caller.close()
        told = {"id": ids[0], **{name: _told(dc, ids[0], verb) for name, verb in VERBS.items()}}
    (directory / "master0" / "told.json").write_text(json.dumps(told))
    return directory / "master0"


def _told(dc: Deployment, consume: str, verb: tuple[str, ...]) -> str:
    """What a verb prints that asks the master."""
    return subprocess.run(
        [sys.executable, "-m", "vcap_es", *(each.format(consume=consume) for each in verb)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "VCAP_URL": dc.primary_url, "VCAP_KEY": dc.admin_key},
    ).stdout


@pytest.fixture
def copied(lived: Path, tmp_path: Path) -> Path:
    """A copy of its log that can be tampered with."""
    copy = tmp_path / "log.sqlite"
    with sqlite3.connect(lived / "log.sqlite") as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    return copy


def vcap(*arguments: str) -> tuple[int, str, str]:
    """Run a command: its exit code, what it printed, and its complaint."""
    ended = subprocess.run(
        [sys.executable, "-m", "vcap_es", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def tamper(log: Path, *statements: str) -> None:
    """Change a log as somebody with the file could."""
    with sqlite3.connect(log) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert db.execute(statement).rowcount == 1
    db.close()


def findings(log: Path) -> list[dict[str, Any]]:
    """What `vcap verify` finds in a log that is not sound."""
    code, out, complaint = vcap("verify", "--log", str(log), "--json")
    assert (code, complaint) == (1, "")
    verdict = json.loads(out)
    assert verdict["sound"] is False
    found: list[dict[str, Any]] = verdict["findings"]
    return found


@pytest.mark.parametrize("name", VERBS)
def test_a_file_tells_what_its_master_told(lived: Path, copied: Path, name: str) -> None:
    """Every verb of auditors takes a log file and prints the same, with an index or without."""
    told = json.loads((lived / "told.json").read_text())
    words = [each.format(consume=told["id"]) for each in VERBS[name]]
    for log in (lived / "log.sqlite", copied):
        assert vcap(*words, "--log", str(log)) == (0, told[name], "")


def test_a_file_tells_how_it_was_at_its_end(lived: Path) -> None:
    """Without an instant, balances and reasons are those of its last event."""
    log = str(lived / "log.sqlite")
    code, out, complaint = vcap("balance", "c", "--log", log, "--json")
    assert (code, complaint) == (0, "")
    first, *_ = json.loads(out)["intervals"]
    assert (first["spent"], first["available"]) == (15, 85)
    code, out, complaint = vcap("explain", "c", "--log", log)
    assert (code, complaint) == (0, "")
    assert "15 units spent at s0" in out
    assert "85 units free in the pool" in out


def test_what_is_not_known_to_be_committed_is_left_out(copied: Path) -> None:
    """What was copied to a disk and may have to go again is told nobody; that is said."""
    # Given a file with an event more than it knows to be committed
    committed = asyncio.run(_one_more(copied))
    # When its end is read
    words = ("events", "read", "--limit", "9999", "--json")
    code, out, complaint = vcap(*words, "--log", str(copied))
    # Then that event is not there
    assert code == 0
    assert json.loads(out.splitlines()[-1])["position"] == committed
    assert f"1 events after position {committed} are not known to be committed" in complaint


async def _one_more(path: Path) -> int:
    """Append an event that nobody has committed; gives the position before it."""
    log = await SqliteLog.open(path)
    head = await log.head()
    assert await log.committed() == head.position, "a master that stops tells its log so"
    fact = ToppedUp(cap="c", number=0, incarnation="f" * 32, moved=1)
    draft = Draft(
        event_id=bytes(16), recorded_at=2**60, dc="dc1", actor="m1", correlation="", fact=fact
    )
    await log.append([draft], head.epoch)
    await log.close()
    return head.position


@pytest.mark.parametrize(
    "verb", [("balance", "d"), ("explain", "d"), ("explain", "d", "--id", "x.0.d.1-2")]
)
def test_a_cap_that_is_not_in_a_file_is_told(lived: Path, verb: tuple[str, ...]) -> None:
    """A refusal, as of a master."""
    code, out, complaint = vcap(*verb, "--log", str(lived / "log.sqlite"))
    assert (code, out) == (1, "")
    assert "unknown_cap" in complaint


def test_a_sound_log_is_sound(copied: Path) -> None:
    """Exit code 0, the number of events, and the last link."""
    code, out, complaint = vcap("verify", "--log", str(copied))
    assert (code, complaint) == (0, "")
    assert "sound   yes" in out
    assert vcap("verify", "--log", str(copied), "--json")[0] == 0


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("UPDATE events SET fact = CAST(fact || x'00' AS BLOB) WHERE position = 5", 5),
        ("UPDATE events SET actor = 'somebody' WHERE position = 6", 6),
        ("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 3", 3),
        ("DELETE FROM events WHERE position = 4", 5),
        ("UPDATE events SET link = zeroblob(32) WHERE position = 2", 2),
        ("UPDATE events SET position = 7000 WHERE position = 7", 8),
    ],
)
def test_a_changed_log_is_found_out(copied: Path, statement: str, position: int) -> None:
    """Changed, dropped or moved: exit code 1, and the place where the chain breaks."""
    tamper(copied, statement)
    [broken] = findings(copied)
    assert (broken["position"], broken["rule"]) == (position, "chain")
    code, out, _ = vcap("verify", "--log", str(copied))
    assert code == 1
    assert f"position {position}: chain: the chain breaks" in out


def test_a_changed_index_is_found_out(copied: Path) -> None:
    """The kind by which events are sought is not in the chain, but is compared with the fact."""
    tamper(copied, "UPDATE events SET kind = 'Returned' WHERE position = 3")
    [broken] = findings(copied)
    assert broken["rule"] == "chain"
    assert "position 3" in broken["detail"]


def test_books_that_are_wrong_under_a_whole_chain_are_found_out(copied: Path) -> None:
    """A grant above the total, written by the real log: all links hold, and the audit finds it."""

    async def overdraw() -> None:
        log = await SqliteLog.open(copied)
        head = await log.head()
        last = (await log.read(head.position - 1, limit=1))[0]
        fact = ToppedUp(cap="c", number=0, incarnation="f" * 32, moved=86)
        draft = Draft(
            event_id=bytes(16),
            recorded_at=last.recorded_at,
            dc="dc1",
            actor="m1",
            correlation="",
            fact=fact,
        )
        await log.append([draft], head.epoch)
        await log.close()

    asyncio.run(overdraw())
    assert "overdrawn" in {each["rule"] for each in findings(copied)}


def test_a_file_that_is_no_log_is_told(tmp_path: Path, copied: Path) -> None:
    """Missing, of somebody else, or damaged: exit code 2 or 1, and the file's name."""
    assert vcap("verify", "--log", str(tmp_path / "none"))[0] == 2
    other = tmp_path / "other.sqlite"
    sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
    for verb in (["verify"], ["rebuild"], ["events", "stats"]):
        code, _, complaint = vcap(*verb, "--log", str(other))
        assert code in (1, 2)
        assert code == 1 or str(other) in complaint
    data = bytearray(copied.read_bytes())
    data[4096 : 4096 * 4] = bytes(4096 * 3)
    copied.write_bytes(data)
    assert vcap("verify", "--log", str(copied))[0] in (1, 2)


def test_a_rebuild_gives_the_same_balances_as_lived(lived: Path) -> None:
    """The digest is the same every time, and that of the state which the primary had at its end."""
    log = str(lived / "log.sqlite")
    first, second = (json.loads(vcap("rebuild", "--log", log, "--json")[1]) for _ in range(2))
    assert first["balances"] == second["balances"]
    assert (first["caps"], first["events"]) == (1, second["events"])
    snapshot = (lived / "snapshot").read_bytes()
    assert (
        sha256(encode(_state_of(snapshot, lived / "log.sqlite"))).hexdigest() == first["balances"]
    )
    assert first["balances"] in vcap("rebuild", "--log", log)[1]


def _state_of(snapshot: bytes, log: Path) -> DataCentre:
    """The state in a snapshot that was taken at the end of a log."""

    async def link() -> bytes:
        reader = await SqliteLog.open_reader(log)
        head = await reader.head()
        await reader.close()
        return head.link

    restored = restore(snapshot, asyncio.run(link()))
    assert isinstance(restored, Snapshot), restored
    return restored.state
