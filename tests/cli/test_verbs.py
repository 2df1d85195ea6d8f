"""Every verb of `vcap`, as a person and as a program uses it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import PATIENT, ROOT, Deployment, deployed, eventually
from tests.support.people import Caller, define, refused, settled
from vcap_es.cli import app

CAPS = """
[[cap]]
id = "shop:coffee"
total = 100
group = "shop"

[[cap]]
match = "cli:*"
total = 5
interval = "month"
"""

VERBS = (
    *("", "up", "run", "run primary", "run server", "cap", "cap apply", "cap list", "cap show"),
    *("cap change", "cap pause", "cap resume", "cap retire", "keys", "keys create", "keys list"),
    *("keys revoke", "consume", "balance", "explain", "events", "events read", "events tail"),
    *("events show", "events stats", "verify", "rebuild", "backtest", "completion"),
    *("backup", "restore", "restore status", "restore readmit", "restore accept"),
)


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A data centre with one server, for all tests here."""
    with deployed(tmp_path_factory.mktemp("cli"), 1, PATIENT) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def client_key(dc: Deployment) -> Path:
    """The file of a client's key."""
    path = dc.directory / "client.key"
    path.write_text(dc.make_key())
    return path


def done(dc: Deployment, *arguments: str) -> str:
    """What a command printed that ended well."""
    ended = dc.vcap(*arguments)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def as_json(dc: Deployment, *arguments: str) -> Any:
    """The JSON that a command printed."""
    return json.loads(done(dc, *arguments, "--json"))


def fields(text: str) -> dict[str, str]:
    """The names and values that a command printed a line each."""
    return dict(re.split(" {2,}", line, maxsplit=1) for line in text.splitlines())


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a table, by the names of its head."""
    head, *rest = [line.split() for line in text.splitlines()]
    return [dict(zip(head, row, strict=False)) for row in rest]


# ---- caps


def test_apply_plans_creates_keeps_and_changes(dc: Deployment, tmp_path: Path) -> None:
    """The plan comes first, `--dry-run` ends there, and a second time nothing is to be done."""
    # Given
    file = tmp_path / "caps.toml"
    file.write_text(CAPS)
    plan = "+ shop:coffee  create: 100 per day\n+ cli:*  create: 5 per month\n"
    # Then a dry run changes nothing
    assert done(dc, "cap", "apply", "-f", str(file), "--dry-run") == plan
    assert dc.vcap("cap", "show", "shop:coffee").returncode == 1
    # And what is applied is there, and stays
    assert done(dc, "cap", "apply", "-f", str(file)) == plan
    unchanged = done(dc, "cap", "apply", "-f", str(file))
    assert unchanged == "= shop:coffee  unchanged\n= cli:*  unchanged\n"
    # And a changed one is changed, and told by its difference
    file.write_text(CAPS.replace("100", "150").replace("= 5", "= 6"))
    assert as_json(dc, "cap", "apply", "-f", str(file)) == [
        {"id": "shop:coffee", "action": "change", "changes": {"total": [100, 150]}},
        {"id": "cli:*", "action": "change", "changes": {"total": [5, 6]}},
    ]
    assert fields(done(dc, "cap", "show", "shop:coffee"))["total"] == "150"


def test_apply_reads_standard_input(dc: Deployment) -> None:
    """`-f -` lets another program write the file."""
    ended = subprocess.run(
        [sys.executable, "-m", "vcap_es", "cap", "apply", "-f", "-", "--dry-run"],
        cwd=ROOT,
        input='[[cap]]\nid = "piped"\ntotal = 1\n',
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "VCAP_URL": dc.primary_url,
            "VCAP_KEY": dc.admin_key,
        },
    )
    assert ended.stdout == "+ piped  create: 1 per day\n", ended.stderr


def test_caps_are_listed_shown_and_changed(dc: Deployment) -> None:
    """As a table, as fields, and as JSON; by group and by prefix."""
    define(dc, "list:a", 10, group="lists")
    define(dc, "list:b", 20)
    assert rows(done(dc, "cap", "list", "--group", "lists")) == [
        {
            "id": "list:a",
            "state": "active",
            "total": "10",
            "interval": "month",
            "available": "10",
            "held": "0",
            "spent": "0",
            "group": "lists",
        }
    ]
    assert [each["id"] for each in as_json(dc, "cap", "list", "--prefix", "list:")] == [
        "list:a",
        "list:b",
    ]
    changed = as_json(dc, "cap", "change", "list:b", "--total", "30", "--group", "lists")
    assert (changed["definition"]["total"], changed["definition"]["group"]) == (30, "lists")
    assert changed == as_json(dc, "cap", "show", "list:b")
    shown = fields(done(dc, "cap", "show", "list:b"))
    assert (shown["total"], shown["available"], shown["state"]) == ("30", "30", "active")


def test_a_cap_is_paused_resumed_and_retired(dc: Deployment) -> None:
    """Each prints the cap as it is then."""
    define(dc, "life", 10)
    for verb, state in (("pause", "paused"), ("resume", "active"), ("retire", "retired")):
        assert fields(done(dc, "cap", verb, "life"))["state"] == state


def test_what_cannot_be_changed_is_refused_with_code_1(dc: Deployment) -> None:
    """One line on standard error, nothing on standard output."""
    define(dc, "strict", 10)
    for arguments, word in {
        ("cap", "show", "none"): "unknown_cap",
        ("cap", "change", "none", "--total", "1"): "unknown_cap",
        ("cap", "change", "strict", "--mode", "fancy"): "fancy",
        ("cap", "change", "strict", "--total", "-1"): "-1",
        ("keys", "revoke", "none"): "unknown_key",
    }.items():
        ended = dc.vcap(*arguments)
        assert (ended.returncode, ended.stdout) == (1, ""), arguments
        assert ended.stderr.startswith("vcap: ")
        assert ended.stderr.count("\n") == 1
        assert word in ended.stderr


# ---- consume


def test_consume_takes_or_is_refused(dc: Deployment, client_key: Path) -> None:
    """Exit code 0 and what was taken; 1 and why not; 2 where nobody answers."""
    define(dc, "cups", 10)
    key = ("--key-file", str(client_key))
    taken = fields(done(dc, "consume", "cups", "3", *key))
    assert (taken["consumed"], taken["remaining"], taken["total"]) == ("3", "7", "10")
    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00Z", taken["resets_at"])
    assert as_json(dc, "consume", "cups", *key)["consumed"] == 1
    ended = dc.vcap("consume", "cups", "7", *key)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("vcap: capped: ")
    ended = dc.vcap("consume", "cups", "7", *key, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["code"]) == (1, "capped")
    ended = dc.vcap("consume", "cups", *key, "--server", "http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "127.0.0.1:1 does not answer" in ended.stderr
    first = done(dc, "consume", "cups", "2", *key, "--idempotency-key", "one")
    assert done(dc, "consume", "cups", "2", *key, "--idempotency-key", "one") == first


# ---- what auditors ask


def test_balances_explanations_and_events(dc: Deployment, client_key: Path) -> None:
    """Now and as it was, as a table, in words, and event by event."""
    # Given
    define(dc, "audit", 10)
    before = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    id_ = as_json(dc, "consume", "audit", "4", "--key-file", str(client_key))["id"]
    settled(dc, "audit", spent=4)
    # Then
    now, _ = rows(done(dc, "balance", "audit"))
    assert (now["available"], now["spent"]) == ("6", "4")
    then, _ = rows(done(dc, "balance", "audit", "--at", before))
    assert (then["available"], then["spent"]) == ("10", "0")
    assert as_json(dc, "balance", "audit")["intervals"][0]["spent"] == 4
    assert "4 units" in done(dc, "explain", "audit")
    assert as_json(dc, "explain", "audit", "--id", id_)["status"] == "reported"
    # And
    table = rows(done(dc, "events", "read", "--cap", "audit"))
    kinds = ["MetaDefined", "IntervalOpened", "IntervalOpened", "ToppedUp", "SpendReported"]
    assert [each["kind"] for each in table] == kinds
    lines = done(dc, "events", "read", "--cap", "audit", "--kind", "ToppedUp", "--json")
    position = json.loads(lines)["position"]
    assert json.loads(done(dc, "events", "show", str(position)))["kind"] == "ToppedUp"
    assert int(rows(done(dc, "balance", "audit", "--position", str(position)))[0]["held"]) == 4


def test_reading_pages_through_the_log(dc: Deployment) -> None:
    """`--limit` may be more than a page of the API."""
    lines = done(dc, "events", "read", "--limit", "5000", "--json").splitlines()
    positions = [json.loads(line)["position"] for line in lines]
    assert positions == list(range(1, len(positions) + 1))
    assert len(done(dc, "events", "read", "--after", "2", "--limit", "3").splitlines()) == 4


def test_tail_prints_what_comes_until_it_is_interrupted(dc: Deployment, tmp_path: Path) -> None:
    """Nothing of the past; Ctrl-C ends it without a word."""
    out = tmp_path / "out"
    with out.open("wb") as file:
        tail = subprocess.Popen(
            [sys.executable, "-m", "vcap_es", "events", "tail", "--kind", "MetaDefined"],
            cwd=ROOT,
            stdout=file,
            stderr=file,
            env={**os.environ, "VCAP_URL": dc.primary_url, "VCAP_KEY": dc.admin_key},
        )
        total = iter(range(1, 10_000))
        eventually(
            lambda: define(dc, f"tail:{next(total)}", 1) and len(out.read_text().splitlines()) > 1,
            "it prints an event",
        )
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 130
    head, *events = out.read_text().splitlines()
    assert head.split() == ["position", "recorded_at", "kind", "actor", "fact"]
    assert all("MetaDefined" in line and "tail:" in line for line in events)


def test_events_are_counted_by_kind(dc: Deployment) -> None:
    """From the file itself, as a table and as JSON."""
    log = str(dc.log)
    counts = as_json(dc, "events", "stats", "--log", log)
    assert counts["EpochStarted"] == 1
    table = rows(done(dc, "events", "stats", "--log", log))
    assert {"kind": "EpochStarted", "events": "1"} in table
    numbers = [int(each["events"]) for each in table]
    assert numbers == sorted(numbers, reverse=True)


# ---- keys


def test_keys_are_made_listed_and_revoked(dc: Deployment) -> None:
    """The secret is told once, and is nowhere in the log."""
    define(dc, "locked", 10)
    made = fields(done(dc, "keys", "create", "client", "--scope", "locked", "--scope", "group:x"))
    assert (made["role"], made["scopes"]) == ("client", "locked group:x")
    assert made["id"] in [each["id"] for each in rows(done(dc, "keys", "list"))]
    assert made["secret"] not in json.dumps(as_json(dc, "keys", "list"))
    assert made["secret"].rpartition("_")[2].encode() not in dc.log.read_bytes()
    done(dc, "keys", "revoke", made["id"])
    assert made["id"] not in done(dc, "keys", "list")
    caller = Caller(dc, made["secret"])
    eventually(lambda: caller.consume(0, "locked").status_code == 401, "it opens nothing")
    refused(caller.consume(0, "locked"), "unauthorized")
    caller.close()


# ---- words


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` says how the verb is used and what it does."""
    app([*verb.split(), "--help"], result_action="return_value")
    told = capsys.readouterr()
    usage, summary = re.split(r"\n\n", told.out)[:2]
    assert usage.startswith(f"Usage: vcap {verb}".rstrip())
    assert summary.strip()
    assert told.err == ""


def test_every_verb_is_summed_up_in_the_list() -> None:
    """Who types `vcap` alone learns what there is."""
    ended = subprocess.run(
        [sys.executable, "-m", "vcap_es"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for verb in {verb.split()[0] for verb in VERBS if verb}:
        assert re.search(rf"│ {verb} +\S", ended.stdout), verb


def test_a_word_that_is_no_verb_is_told() -> None:
    """Exit code 2 and no trace of Python."""
    for words in (["frobnicate"], ["cap", "aply"], ["cap", "apply"], ["consume", "x", "y"]):
        ended = subprocess.run(
            [sys.executable, "-m", "vcap_es", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "Traceback" not in ended.stderr
        assert ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str) -> None:
    """A script for each shell; bash at least finds no fault in it."""
    ended = subprocess.run(
        [sys.executable, "-m", "vcap_es", "completion", "--shell", shell],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "backtest" in ended.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ended.stdout, text=True, check=True)


def test_a_verb_loads_only_what_it_needs() -> None:
    """`vcap` starts fast: neither HTTP nor the log are loaded to parse a command."""
    heavy = {"httpx2", "aiosqlite", "starlette", "uvicorn", "fastavro", "structlog"}
    check = f"import sys, vcap_es.cli; print(sorted({heavy} & sys.modules.keys()))"
    ended = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert ended.stdout == "[]\n"


def test_a_key_that_is_none_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    """A wrong file is named; nothing is sent."""
    file = tmp_path / "key"
    file.write_text("\n")
    for arguments in (["--key-file", str(file)], ["--key-file", str(tmp_path / "nowhere")]):
        ended = subprocess.run(
            [sys.executable, "-m", "vcap_es", "cap", "list", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 2
        assert arguments[1] in ended.stderr
