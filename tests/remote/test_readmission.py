"""A data centre is restored from a backup, and readmitted, over a real broker: books are exact."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from compose.broker import Broker
from tests.support.centres import Centres, centres_in
from tests.support.deployment import PATIENT, Deployment, eventually, wipe
from tests.support.people import Caller, Fields, books

NAMES = ("north", "south")
TOTAL = 100


@pytest.fixture
def centres(tmp_path: Path, broker: Broker) -> Iterator[Centres]:
    """Two data centres that take part."""
    urls = dict.fromkeys(NAMES, broker.url)
    with centres_in(tmp_path, NAMES, urls, environment=PATIENT) as found:
        yield found
        found.verify()


def said(centre: Deployment, *words: str) -> Any:
    """What the command line says, as JSON."""
    done = centre.vcap(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def trouble(centre: Deployment, name: str) -> str:
    """What a data centre says of another one."""
    listed: list[Fields] = said(centre, "dc", "list")["centres"]
    return next(each["trouble"] or "" for each in listed if each["name"] == name)


def is_consumed(caller: Caller, amount: int) -> bool:
    """Whether so many units are had, when the server knows the cap."""
    answered = eventually(
        lambda: (
            found if (found := caller.consume(0, "c", amount)).status_code in (200, 429) else None
        ),
        "a consume is answered",
    )
    return bool(answered.status_code == 200)


def drained(callers: list[Caller]) -> int:
    """All that servers give, one by one."""
    taken = 0
    for caller in callers:
        while is_consumed(caller, 1):
            taken += 1
    return taken


def test_a_restored_data_centre_is_readmitted(centres: Centres, tmp_path: Path) -> None:
    """What it had sent and received since the backup is known again; the rest is had, once."""
    # Given a cap of both, of which much is served after a backup of north
    north, south = (centres[name] for name in NAMES)
    body = {"total": TOTAL, "interval": "day", "placement": "even"}
    north.control("PUT", "/v1/caps/c", body)
    callers = [Caller(each, each.make_key()) for each in (north, south)]
    assert is_consumed(callers[1], 10)
    file = tmp_path / "north.tar"
    said(north, "backup", "--data", str(north.directory / "master0"), "--to", str(file))
    assert is_consumed(callers[1], 50)
    assert is_consumed(callers[0], 15)

    # When all of north is lost, but its server, and it is restored
    north.kill_server(0)
    north.kill_primary()
    wipe(north.directory / "master0")
    said(north, "restore", str(file), "--data", str(north.directory / "master0"))
    north.start_master(0)

    # Then both say what to do, and one side alone lets nobody in
    eventually(lambda: "vcap dc readmit north" in trouble(south, "north"), "north knocks")
    eventually(lambda: "vcap dc readmit south" in trouble(north, "south"), "south knocks")
    status = said(north, "restore", "status")
    assert status["centres_missing"].keys() == {"south"}
    assert status["withheld"] > 0
    said(south, "dc", "readmit", "north")
    said(north, "dc", "readmit", "south")

    # And the books of both agree
    def is_told() -> bool:
        found = said(north, "restore", "status")
        here, there = books(north, "c"), books(south, "c")
        agree = (here["sent"], here["received"]) == (there["received"], there["sent"])
        return bool(agree and not found["centres_missing"] and not found["caps_untold"])

    eventually(is_told, "all is told", 60.0)
    assert trouble(south, "north") == trouble(north, "south") == ""

    # When its server comes back as well, and two operators see that nobody is missing
    north.start_server(0, wait=False)
    eventually(lambda: said(north, "restore", "status")["knocking"], "the server knocks", 60.0)
    said(north, "restore", "readmit", "s0")
    eventually(lambda: not said(north, "restore", "status")["servers_missing"], "it has told", 60.0)
    released = {"if_told": True, "cap": None}
    north.control("POST", "/v1/restore/releases", released)
    headers = {"Authorization": f"Bearer {north.make_key('operator')}"}
    url = f"{north.primary_url}/v1/restore/releases"
    answer = httpx2.post(url, json=released, headers=headers, timeout=30)
    assert answer.json()["under_way"], answer.text

    # Then all that is left is had, and not one unit more
    eventually(lambda: books(north, "c")["withheld"] == 0, "nothing is withheld")
    for each in callers:
        each.close()
    callers = [Caller(each, each.make_key()) for each in (north, south)]
    taken = drained(callers)
    for each in callers:
        each.close()
    assert 75 + taken == TOTAL
