"""Whatever is wrong is said clearly, is not recorded, and costs nothing."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tests.support.deployment import PATIENT, ROOT, Deployment, deployed, eventually, free_ports
from tests.support.people import Caller, Fields, books, define, refused, taken

AMOUNT_MAX = 2**63 - 1


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A data centre with one server, for all tests here."""
    with deployed(tmp_path_factory.mktemp("bad"), 1, PATIENT) as deployment:
        yield deployment
        deployment.verify()


@pytest.fixture(scope="module")
def key(dc: Deployment) -> str:
    """A client's key that opens every cap."""
    return dc.make_key()


@pytest.fixture(scope="module")
def caller(dc: Deployment, key: str) -> Iterator[Caller]:
    """A client that may consume from every cap."""
    found = Caller(dc, key)
    yield found
    found.close()


@contextmanager
def nothing_recorded(dc: Deployment) -> Iterator[None]:
    """Inside, no event is recorded, save reports of what was consumed before of other caps."""
    before = dc.control("GET", "/v1/log?limit=1")["head"]
    yield
    new = dc.control("GET", f"/v1/log?after={before}")["events"]
    assert [each for each in new if not is_late(each)] == []


def is_late(event: Fields) -> bool:
    """Whether an event is a report that is not about the cap `amounts`."""
    entries = event["fact"].get("entries", [])
    return event["kind"] == "SpendReported" and all(each["cap"] != "amounts" for each in entries)


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, what it printed, and its complaint."""
    ended = subprocess.run(
        [sys.executable, "-m", "vcap_es", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
        env={**os.environ, **(environment or {})},
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def post(dc: Deployment, key: str, path: str, body: str) -> httpx2.Response:
    """The answer of the server to a body, byte by byte as given."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx2.post(dc.server_urls[0] + path, content=body, headers=headers, timeout=20.0)


# ---- amounts

BAD_AMOUNTS = {
    "zero": "0",
    "negative": "-1",
    "2**63": str(2**63),
    "400 digits": "1" + "0" * 400,
    "true": "true",
    "a float": "1.0",
    "a text": '"1"',
    "an exponent": "1e3",
    "null": "null",
    "NaN": "NaN",
    "a list": "[1]",
    "a leading zero": "01",
    "a key twice": '1, "amount": 1',
}


@pytest.mark.parametrize("amount", BAD_AMOUNTS.values(), ids=BAD_AMOUNTS)
def test_an_amount_is_an_integer_from_1_to_2_to_the_63(
    dc: Deployment, key: str, amount: str
) -> None:
    """Anything else is refused with 400, in every call that has an amount, and takes nothing."""
    define(dc, "amounts", 100)
    bodies = {
        "/v1/caps/amounts/consume": f'{{"amount": {amount}}}',
        "/v1/consume": f'{{"items": [{{"cap": "amounts", "amount": {amount}}}]}}',
        "/v1/holds": f'{{"cap": "amounts", "lifetime_ms": 1, "amount": {amount}}}',
        "/v1/caps/amounts/refund": f'{{"id": "0.0.amounts.0-1", "amount": {amount}}}',
    }
    with nothing_recorded(dc):
        for path, body in bodies.items():
            answer = post(dc, key, path, body)
            assert answer.status_code == 400, (path, answer.text)


@pytest.mark.parametrize("total", [each for each in BAD_AMOUNTS.values() if each != "0"])
def test_a_total_is_an_integer_from_0_to_2_to_the_63(dc: Deployment, total: str) -> None:
    """Anything else is refused, and no cap is defined."""
    headers = {"Authorization": f"Bearer {dc.admin_key}", "Content-Type": "application/json"}
    body = f'{{"total": {total}}}'.replace("amount", "total")
    with nothing_recorded(dc):
        url = f"{dc.primary_url}/v1/caps/never"
        answer = httpx2.put(url, content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text


def test_the_largest_amounts_are_exact(dc: Deployment, caller: Caller) -> None:
    """Above what a float can hold, to the last unit."""
    define(dc, "huge", AMOUNT_MAX)
    assert taken(caller.consume(0, "huge", 2**53 + 1))["consumed"] == 2**53 + 1
    rest = AMOUNT_MAX - 2**53 - 1
    assert taken(caller.consume(0, "huge", rest))["remaining"] == 0
    refused(caller.consume(0, "huge"), "capped")
    eventually(lambda: books(dc, "huge")["spent"] == AMOUNT_MAX, "its server has told of all")


# ---- requests


def test_what_is_too_large_is_refused_by_its_name(dc: Deployment, key: str) -> None:
    """Bodies, paths and heads have bounds; each has its own status."""
    consume = "/v1/caps/amounts/consume"
    with nothing_recorded(dc):
        assert post(dc, key, consume, '{"amount": 1' + " " * 5_000 + "}").status_code == 413
        assert post(dc, key, "/v1/consume", "[" * 300_000).status_code == 413
        assert post(dc, key, f"/v1/caps/{'a' * 9_000}/consume", "{}").status_code == 414
        assert post(dc, key + "x" * 9_000, consume, '{"amount": 1}').status_code == 431
        assert post(dc, key, "/v1/consume", "[" * 4_000).status_code == 400


def test_what_is_not_understood_is_refused_by_its_name(dc: Deployment, key: str) -> None:
    """Unknown caps, fields, methods, paths and media types."""
    consume = "/v1/caps/amounts/consume"
    headers = {"Authorization": f"Bearer {key}"}
    url = dc.server_urls[0]
    with nothing_recorded(dc):
        assert post(dc, key, "/v1/caps/unknown/consume", '{"amount": 1}').status_code == 404
        assert post(dc, key, "/v1/caps/a%2Fb/consume", '{"amount": 1}').status_code == 404
        assert post(dc, key, consume, '{"amount": 1, "colour": "red"}').status_code == 400
        assert post(dc, key, consume, "amount=1").status_code == 400
        assert post(dc, key, consume, '{"amount": 1').status_code == 400
        assert httpx2.get(url + consume, headers=headers).status_code == 405
        assert httpx2.get(f"{url}/v2/caps", headers=headers).status_code == 404
        answer = httpx2.post(
            url + consume, content="amount=1", headers={**headers, "Content-Type": "text/plain"}
        )
        assert answer.status_code == 415


def test_a_wrong_key_opens_nothing(dc: Deployment, key: str) -> None:
    """One that is no key, one of nobody, and one with another secret: 401, at both planes."""
    changed = key[:-1] + ("0" if key[-1] != "0" else "1")
    for wrong in ("x", "vcap", "vcap_nobody_" + "0" * 64, changed):
        answer = post(dc, wrong, "/v1/caps/amounts/consume", '{"amount": 1}')
        assert answer.status_code == 401, wrong
        assert answer.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": f"Bearer {wrong}"}
        assert httpx2.get(f"{dc.primary_url}/v1/caps", headers=headers).status_code == 401


def test_a_slow_body_is_ended_and_costs_nobody_else(
    dc: Deployment, caller: Caller, key: str
) -> None:
    """A body that never ends is answered with 408 and the connection closed; others are served."""
    define(dc, "slow", 10)
    head_text = (
        f"POST /v1/caps/slow/consume HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    host, port = dc.server_urls[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(head_text.encode() + b'{"amount"')
        taken(caller.consume(0, "slow"))
        told = b"".join(iter(lambda: slow.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 408 ")
    assert books(dc, "slow")["spent"] <= 1


# ---- files


def test_a_caps_file_is_wrong_at_a_line_and_column(dc: Deployment, tmp_path: Path) -> None:
    """Nothing of it is applied, and the message says where to look."""
    wrong = {
        '[[cap]]\nid = "a"\ntotal = 10\n[[cap]\n': ("line 4, column 6",),
        '[[cap]]\nid = "a"\ntotal = 10\n\n[[cap]]\nid = "b"\ntotal = "ten"\n': (
            'cap 2 (id "b")',
            "total",
        ),
        '[[cap]]\nid = "a"\ntotal = 1\ncolour = "red"\n': ("colour",),
        '[[cap]]\nid = "a"\ntotal = 1\n[[cap]]\nid = "a"\ntotal = 2\n': ("cap 1", "already"),
        '[[cap]]\nid = "a b"\ntotal = 1\n': ("a b",),
        '[[cap]]\nid = "a"\ntotal = 1\ntimezone = "Mars/Olympus"\n': ("Mars/Olympus",),
    }
    file = tmp_path / "caps.toml"
    with nothing_recorded(dc):
        for text, words in wrong.items():
            file.write_text(text)
            ended = dc.vcap("cap", "apply", "-f", str(file))
            assert ended.returncode == 2
            assert ended.stdout == ""
            assert ended.stderr.startswith(f"vcap: {file}"), ended.stderr
            assert all(word in ended.stderr for word in words), ended.stderr
        file.write_bytes(b"\xff\xfe")
        assert "UTF-8" in dc.vcap("cap", "apply", "-f", str(file)).stderr


def test_a_trace_is_wrong_at_a_line_and_column(tmp_path: Path) -> None:
    """`vcap backtest` names the line of the CSV and the column."""
    caps, trace = tmp_path / "caps.toml", tmp_path / "trace.csv"
    caps.write_text('[[cap]]\nid = "a"\ntotal = 10\nstart = 2013-01-01\n')
    begin = "at,cap,amount\n2013-01-01T00:00:00Z,a,1\n"
    for line, word in {
        "2013-01-01T00:00:01Z,a,many": "amount",
        "yesterday,a,1": "yesterday",
        "2013-01-01T00:00:01Z,a b,1": "a b",
        "2012-01-01T00:00:01Z,a,1": "earlier",
    }.items():
        trace.write_text(begin + line + "\n")
        code, out, complaint = run("backtest", "--caps", str(caps), "--trace", str(trace))
        assert (code, out) == (2, "")
        assert "line 3" in complaint
        assert word in complaint


# ---- settings, ports, directories


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    """In a file, in the environment, or as an option: exit code 2, and the name of the setting."""
    config = tmp_path / "vcap.toml"
    for text, word in {
        "[server]\nprot = 1\n": "prot",
        '[server]\nport = "many"\n': "server.port",
        "[server]\nport = 70000\n": "server.port",
        '[server]\nmasters = ["x"]\n': "server.masters",
        "[server\n": "line 1",
    }.items():
        config.write_text(text)
        code, _, complaint = run("run", "server", "--config", str(config))
        assert code == 2
        assert word in complaint
    code, _, complaint = run("run", "server", environment={"VCAP__SERVER__PORT": "x"})
    assert code == 2
    assert "server.port" in complaint
    assert run("run", "server", "--config", str(tmp_path / "nowhere"))[0] == 2


def test_a_node_secret_is_secret(tmp_path: Path) -> None:
    """One that is missing, short, or readable by others is refused, and no data directory made."""
    secret, data = tmp_path / "secret", tmp_path / "data"
    command = ["run", "server", "--port", str(free_ports(1)[0]), "--data", str(data)]
    command += ["--node-secret-file", str(secret)]
    assert "No such file" in run(*command)[2]
    secret.write_text("0" * 64)
    secret.chmod(0o644)
    assert "chmod 600" in run(*command)[2]
    secret.chmod(0o600)
    secret.write_text("short")
    code, _, complaint = run(*command)
    assert code == 2
    assert "32 characters" in complaint
    assert not data.exists()


def test_a_port_that_is_taken_is_named_before_anything_is_recorded(
    dc: Deployment, tmp_path: Path
) -> None:
    """A second node at the same port ends at once with exit code 2."""
    for kind, url in (("primary", dc.primary_url), ("server", dc.server_urls[0])):
        port = url.rpartition(":")[2]
        data, secret = tmp_path / kind, dc.directory / "node.secret"
        code, _, complaint = run(
            *("run", kind, "--port", port, "--data", str(data)),
            *("--node-secret-file", str(secret)),
        )
        assert code == 2
        assert port in complaint
        assert not data.exists()
    port = dc.primary_url.rpartition(":")[2]
    code, out, complaint = run("up", "--data", str(tmp_path / "up"), "--port", port)
    assert (code, out) == (2, "")
    assert port in complaint


def test_a_directory_in_use_is_not_touched(dc: Deployment) -> None:
    """A second master on the same log, a second server on the same journal: it ends at once."""
    secret = dc.directory / "node.secret"
    port = str(free_ports(1)[0])
    with nothing_recorded(dc):
        for kind, data, wanted in (("primary", "master0", 75), ("server", "server1", 2)):
            code, _, complaint = run(
                *("run", kind, "--port", port, "--data", str(dc.directory / data)),
                *("--node-secret-file", str(secret)),
            )
            assert code == wanted
            assert data in complaint


def test_a_wrong_node_secret_is_told_once_and_tried_ever_slower(
    dc: Deployment, tmp_path: Path
) -> None:
    """The server says what is wrong, is not ready, and does not knock all the time."""
    # Given
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("f" * 64)
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "vcap_es", "run", "server", "--port", str(port)]
    command += ["--data", str(tmp_path / "data"), "--node-secret-file", str(secret)]
    command += ["--master", dc.primary_url]
    told = tmp_path / "log"
    with nothing_recorded(dc), told.open("wb") as log:
        # When
        server = subprocess.Popen(command, cwd=ROOT, stderr=log)
        try:
            eventually(lambda: len(knocks(dc)) >= 6, "it tries six times")
            ready = httpx2.get(f"http://127.0.0.1:{port}/readyz?verbose")
        finally:
            server.terminate()
            server.wait()
    # Then
    assert told.read_text().count("this node secret is refused there") == 1
    assert ready.status_code == 503
    assert "node secret" in ready.text
    fifth, sixth = knocks(dc)[4:6]
    assert sixth - fifth >= timedelta(milliseconds=150)


def knocks(dc: Deployment) -> list[datetime]:
    """When servers with a wrong secret tried to link."""
    lines = (dc.directory / "master0.log").read_text().splitlines()
    found = [json.loads(line) for line in lines if "wrong node secret" in line]
    return [datetime.fromisoformat(each["at"]) for each in found]
