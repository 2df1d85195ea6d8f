"""Founding a cluster is an act of its own; whoever loses a directory joins, and founds nothing."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.deployment import PATIENT, ROOT, Deployment, eventually, free_ports, wipe


def vcap(*words: str) -> "subprocess.CompletedProcess[str]":
    """A verb, and what it says."""
    return subprocess.run(
        [sys.executable, "-m", "vcap_es", *words],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )


def places(directory: Path) -> list[str]:
    """Where a master keeps what it has."""
    secret = directory / "node.secret"
    return ["--data", str(directory / "master0"), "--node-secret-file", str(secret)]


def readiness(url: str) -> str:
    """What a node says of itself; "" while it does not listen."""
    try:
        return httpx2.get(f"{url}/readyz?verbose", timeout=1.0).text
    except httpx2.TransportError:
        return ""


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[Deployment]:
    """Two masters, a witness and another server, with a cap of which 7 of 10 are spent."""
    deployment = Deployment(tmp_path, 2, PATIENT, masters=2, witnesses=1)
    try:
        deployment.start_master(0)
        for index in range(2):
            deployment.start_server(index)
        deployment.start_master(1)
        deployment.control("PUT", "/v1/caps/c", {"total": 10})
        assert spend(deployment, 7) == 200
        (tmp_path / "admin.key").write_text(deployment.admin_key)
        yield deployment
    finally:
        deployment.stop()


def spend(dc: Deployment, amount: int) -> int:
    """The status of a consume at the second server, once it knows."""
    headers = {"Authorization": f"Bearer {dc.make_key()}"}
    url = f"{dc.server_urls[1]}/v1/caps/c/consume"

    def answered() -> int:
        status = httpx2.post(url, json={"amount": amount}, headers=headers, timeout=30).status_code
        return 0 if status in (401, 404, 503) else status

    return int(eventually(answered, "a consume is answered"))


def keep_admin_key(dc: Deployment) -> None:
    """The key of the cluster outlives the directory that it was made in."""
    path = dc.directory / "master0" / "admin.key"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        shutil.copy(dc.directory / "admin.key", path)


def test_a_cluster_is_founded_once(tmp_path: Path) -> None:
    """Asked again before it was run, it is the same one; a directory in use is refused."""
    first, again = vcap("init", *places(tmp_path)), vcap("init", *places(tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    assert "founded cluster " in first.stdout
    assert f"vcap run primary --slot 0 --data {tmp_path}/master0" in first.stdout
    assert (tmp_path / "node.secret").stat().st_mode & 0o777 == 0o600
    # Given that it was run
    (tmp_path / "master0" / "log.sqlite").touch()
    refused = vcap("init", *places(tmp_path))
    assert refused.returncode == 2
    assert f"{tmp_path}/master0 belongs to a node already" in refused.stderr


def test_a_directory_serves_the_kind_of_node_that_made_it(tmp_path: Path) -> None:
    """A server's is no place to found in, nor a master's for another slot or for a witness."""
    # Given a founded master's directory, and a server's
    assert vcap("init", *places(tmp_path)).returncode == 0
    (tmp_path / "server1").mkdir()
    (tmp_path / "server1" / "frames").touch()
    secret = ("--node-secret-file", str(tmp_path / "node.secret"), "--port", str(free_ports(1)[0]))
    master, server = ("--data", str(tmp_path / "master0")), ("--data", str(tmp_path / "server1"))
    # When they are taken for what they are not
    tried = {
        "belongs to a node already": ("init", *server, *secret),
        "this is the master of slot 1": ("run", "secondary", *master, *secret),
        "this is the witness s1": ("run", "server", "--witness", *master, *secret),
    }
    # Then
    for words, command in tried.items():
        refused = vcap(*command)
        assert refused.returncode == 2, command
        assert words in refused.stderr, refused.stderr


def test_an_empty_directory_waits_and_says_for_what(tmp_path: Path) -> None:
    """It founds nothing, is not ready, and names the way out."""
    vcap("init", *places(tmp_path / "elsewhere"))
    port = str(free_ports(1)[0])
    secret = str(tmp_path / "elsewhere" / "node.secret")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "vcap_es", "run", "primary", "--port", port),
            *("--data", str(tmp_path / "master0"), "--node-secret-file", secret),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: "run `vcap init`" in readiness(url), "it says what it waits for")
            assert httpx2.get(f"{url}/readyz").status_code == 503
            assert not (tmp_path / "master0" / "admin.key").exists()
        finally:
            process.terminate()
            assert process.stderr is not None
            assert "waits to join" in process.stderr.read()


@pytest.mark.parametrize("slot", [0, 1])
def test_a_master_that_lost_its_disk_comes_back_as_a_new_copy(dc: Deployment, slot: int) -> None:
    """Whichever it was: nothing is founded, and it is in sync with everything that there was."""
    before = dc.control("GET", "/v1/primacy")["cluster"]
    # When
    dc.kill(f"master{slot}")
    wipe(dc.directory / f"master{slot}")
    dc.start_master(slot)
    # Then
    keep_admin_key(dc)
    primacy = eventually(
        lambda: (found := dc.control("GET", "/v1/primacy")) and len(found["isr"]) == 2 and found,
        "both are in sync",
    )
    assert primacy["cluster"] == before
    assert spend(dc, 4) == 429
    assert spend(dc, 3) == 200
    dc.stop()
    for each in (0, 1):
        checked = vcap("verify", "--log", str(dc.log_of(each)))
        assert checked.returncode == 0, checked.stdout


def test_a_cluster_that_is_founded_by_mistake_harms_nobody(dc: Deployment) -> None:
    """Both masters refuse the other, in words; the healthy one leads on and serves."""
    # Given that the master of slot 0 lost its disk, and somebody founds there
    dc.kill("master0")
    wipe(dc.directory / "master0")
    assert vcap("init", *places(dc.directory)).returncode == 0
    dc.start_master(0, wait=False)
    own = dc.directory / "master0" / "admin.key"
    eventually(own.exists, "it leads a cluster of its own")
    # When they have met
    words = "we are of two clusters"
    logs = [dc.directory / f"{each}.log" for each in ("master0", "master1", "server1", "server2")]
    eventually(lambda: all(words in each.read_text() for each in logs), "all of them say so")
    # Then
    assert dc.child("master1").poll() is None
    dc.kill("master0")
    wipe(dc.directory / "master0")
    keep_admin_key(dc)
    dc.master_urls.reverse()
    assert dc.control("GET", "/v1/caps/c")["id"] == "c"
    assert spend(dc, 3) == 200


def test_a_log_of_another_cluster_is_not_taken_for_ones_own(dc: Deployment, tmp_path: Path) -> None:
    """Whoever puts the files of two clusters into one directory is told so, before it starts."""
    other = (
        Deployment(tmp_path / "other", 0, PATIENT) if (tmp_path / "other").mkdir() is None else dc
    )
    other.start_primary()
    other.stop()
    dc.kill("master1")
    for path in (dc.directory / "master1").glob("log.sqlite*"):
        path.unlink()
    shutil.copy(other.log, dc.log_of(1))
    dc.start_master(1, wait=False)
    eventually(lambda: dc.child("master1").poll() is not None, "it does not start")
    assert "the files of two clusters" in (dc.directory / "master1.log").read_text()
