"""The drill: back up, kill, wipe and restore a whole deployment, and each of its nodes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.deployment import PATIENT, Deployment, eventually, wipe

TOTAL, BEFORE, AFTER = 100, 30, 25


class Caller:
    """A client with a key, at one server after the other."""

    def __init__(self, dc: Deployment) -> None:
        self.dc, self._headers = dc, {"Authorization": f"Bearer {dc.make_key()}"}

    def consume(self, index: int, amount: int) -> Any:
        """The answer of a server, when it knows the key and the cap."""
        url = f"{self.dc.server_urls[index]}/v1/caps/c/consume"

        def answer() -> Any:
            try:
                answered = httpx2.post(
                    url, json={"amount": amount}, headers=self._headers, timeout=30
                )
            except httpx2.TransportError:
                return None
            return None if answered.status_code in (401, 404, 503) else answered

        return eventually(answer, "a consume is answered")

    def drain(self, index: int) -> int:
        """All that a server gives, one by one."""
        taken = 0
        while self.consume(index, 1).status_code == 200:
            taken += 1
        return taken


def books(dc: Deployment) -> dict[str, int]:
    """Where the units of the first interval are; they are all of the total."""
    found = dc.control("GET", "/v1/caps/c/balances")["intervals"][0]
    places = ("available", "withheld", "held", "spent", "expired", "unreported")
    assert sum(found[each] for each in places) == found["total"] == TOTAL
    return {each: found[each] for each in places}


def backed_up(dc: Deployment, file: Path) -> dict[str, Any]:
    """A backup of the first master, taken now."""
    ended = dc.vcap("backup", "--data", str(dc.directory / "master0"), "--to", str(file), "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def restored(file: Path, directory: Path, servers: int, *old: Path) -> Deployment:
    """A deployment that is begun anew from a backup, in an empty directory; it is not started."""
    directory.mkdir()
    dc = Deployment(directory, servers, PATIENT)
    words = [word for each in old for word in ("--old", str(each))]
    ended = dc.vcap("restore", str(file), "--data", str(directory / "master0"), *words, "--json")
    assert ended.returncode == 0, ended.stderr
    dc._is_founded = True
    return dc


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Deployment]:
    """Two masters and two servers, the first a witness; some was spent, and then backed up."""
    directory = tmp_path / "live"
    directory.mkdir()
    dc = Deployment(directory, 2, PATIENT, masters=2, witnesses=1)
    try:
        dc.start_master(0)
        for index in range(2):
            dc.start_server(index)
        dc.start_master(1)
        dc.control("PUT", "/v1/caps/c", {"total": TOTAL, "interval": "month"})
        assert Caller(dc).consume(0, BEFORE).status_code == 200
        eventually(lambda: books(dc)["spent"] == BEFORE, "the spend is reported")
        yield dc
    finally:
        dc.stop()


def test_the_whole_deployment_is_restored(live: Deployment, tmp_path: Path) -> None:
    """Nothing is served twice, and what old servers hold comes back with them."""
    # Given a backup, after which more was spent at each server
    made = backed_up(live, tmp_path / "b.tar")
    caller = Caller(live)
    for index in range(2):
        assert caller.consume(index, AFTER).status_code == 200
    eventually(lambda: books(live)["spent"] == BEFORE + 2 * AFTER, "all is reported")
    # When everything is killed, and it is begun anew with an empty server
    for node in ("master0", "master1", "server1", "server2"):
        live.kill(node)
    witness = live.directory / "server1"
    dc = restored(tmp_path / "b.tar", tmp_path / "new", 2, live.directory / "master0", witness)
    shutil.move(live.directory / "server2", dc.directory / "server2")
    try:
        dc.start_master(0)
        dc.start_server(0)
        # Then it says what it is, and what is missing
        view = dc.control("GET", "/v1/restore")
        assert (view["was"], view["position"]) == (made["cluster"], made["position"])
        assert view["lacks"] > 0
        # And what may have been served is not served again, in words
        there = books(dc)
        assert (there["available"], there["spent"]) == (0, BEFORE)
        refused = Caller(dc).consume(0, 1)
        assert refused.status_code == 429
        assert f"{there['withheld']} count as spent since the log was restored" in refused.text
        # And an old server that knocks is refused by both, until an operator readmits it
        dc.start_server(1, wait=False)
        old = eventually(lambda: dc.control("GET", "/v1/restore")["knocking"], "it knocks")
        assert [each["name"] for each in old] == ["s1"]
        assert "one was restored from a backup" in eventually(
            lambda: ready_words(dc.server_urls[1]), "it says why it is not ready"
        )
        ended = dc.vcap("restore", "readmit", "s1")
        assert ended.returncode == 0, ended.stderr
        eventually(lambda: books(dc)["spent"] == BEFORE + AFTER, "it has told what it spent")
        # And what it gives back can be had, while the rest stays withheld
        held = books(dc)["held"]
        dc.stop_server(1)
        back = books(dc)
        assert back["withheld"] < there["withheld"]
        served = Caller(dc).drain(0)
        assert served <= held
        assert BEFORE + 2 * AFTER + served <= TOTAL
        dc.verify()
        # And two operators release the rest, at the price of what was told
        _release(dc)
        eventually(lambda: books(dc)["withheld"] == 0, "it is released")
        dc.verify()
    finally:
        dc.stop()
        dc.verify()


def ready_words(url: str) -> str:
    """What a node says that is not ready; "" while it does not listen."""
    try:
        answer = httpx2.get(f"{url}/readyz?verbose", timeout=1.0)
    except httpx2.TransportError:
        return ""
    return answer.text if "restored from a backup" in answer.text else ""


def _release(dc: Deployment) -> None:
    first = dc.vcap("restore", "accept")
    assert "nothing has changed" in first.stdout, first.stderr
    headers = {"Authorization": f"Bearer {dc.make_key('operator')}"}
    url = f"{dc.primary_url}/v1/restore/releases"
    answer = httpx2.post(url, json={}, headers=headers, timeout=30)
    assert answer.json()["under_way"], answer.text
    assert len(answer.json()["approved_by"]) == 2


def test_a_drill_beside_the_living_deployment_is_harmless(live: Deployment, tmp_path: Path) -> None:
    """The restored one dials nobody, nobody joins it, and the living one goes on."""
    backed_up(live, tmp_path / "b.tar")
    before = live.control("GET", "/v1/primacy")
    dc = restored(tmp_path / "b.tar", tmp_path / "new", 1)
    try:
        # When it is started on the same machine, with the same secret
        dc.start_master(0)
        dc.start_server(0)
        # Then each has its own nodes
        nodes = dc.control("GET", "/v1/nodes")
        assert [each["name"] for each in nodes["masters"]] == ["m0"]
        assert [each["name"] for each in nodes["servers"]] == ["s0"]
        assert len(live.control("GET", "/v1/nodes")["servers"]) == 2
        # And the living one leads on, and serves
        after = live.control("GET", "/v1/primacy")
        assert (after["epoch"], after["isr"]) == (before["epoch"], before["isr"])
        assert Caller(live).consume(1, 1).status_code == 200
        assert Caller(dc).consume(0, 1).status_code == 429
        dc.verify()
    finally:
        dc.stop()
    live.verify()


def test_each_node_comes_back_empty(live: Deployment, tmp_path: Path) -> None:
    """A master that lost its disk copies the log; a server that did begins anew."""
    for node in ("master1", "server2"):
        live.kill(node)
        wipe(live.directory / node)
        live.start(node)
    eventually(lambda: len(live.control("GET", "/v1/primacy")["isr"]) == 2, "both are in sync")
    caller = Caller(live)
    assert caller.consume(1, 1).status_code == 200
    served = BEFORE + 1 + sum(caller.drain(index) for index in range(2))
    # What the lost server held stays with it; all else was served.
    there = eventually(lambda: _settled(live, served), "all is reported")
    assert there["spent"] + there["held"] == TOTAL
    live.verify()
    del tmp_path


def _settled(dc: Deployment, served: int) -> dict[str, int]:
    there = books(dc)
    return there if there["spent"] == served else {}
