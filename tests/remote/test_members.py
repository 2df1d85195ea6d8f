"""Data centres come and go, by the command line, over a real broker."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compose.broker import Broker
from tests.support.centres import Centres, centres_in
from tests.support.deployment import PATIENT, Deployment, eventually
from tests.support.people import Caller, Fields, books

LIMITS = {**PATIENT, "VCAP__SERVER__LIMITS__REFUND_WINDOW_MS": "200"}
NAMES = ("east", "north", "south")


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Centres]:
    """Three data centres, none of which takes part in anything yet."""
    directory = tmp_path_factory.mktemp("members")
    urls = dict.fromkeys(NAMES, broker.url)
    with centres_in(directory, NAMES, urls, environment=LIMITS, members=()) as found:
        yield found
        found.verify()


def said(centre: Deployment, *words: str) -> Any:
    """What the command line says, as JSON."""
    done = centre.vcap(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(centre: Deployment, *words: str) -> str:
    """What the command line says when the answer is no."""
    done = centre.vcap(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def membership(centre: Deployment, name: str) -> str | None:
    """What a data centre knows of another one, when it has heard of its log."""
    listed: list[Fields] = said(centre, "dc", "list")["centres"]
    known = {each["name"]: each["membership"] for each in listed if each["cluster"]}
    return known.get(name)


def available(centre: Deployment, cap: str) -> int | None:
    """What a pool has; None where the cap or its interval is not known."""
    found = centre.control("GET", "/v1/caps")["caps"]
    known = [each["current"] for each in found if each["id"] == cap and each["current"]]
    return known[0]["available"] if known else None


def define(centre: Deployment, cap: str, ends_in_s: int) -> None:
    """A cap of 90 for everybody, once, until so many seconds from now."""
    end = datetime.now(UTC) + timedelta(seconds=ends_in_s)
    body = {"total": 90, "interval": "single", "end": end.isoformat(), "placement": "even"}
    centre.control("PUT", f"/v1/caps/{cap}", body)


def test_data_centres_come_and_go(centres: Centres) -> None:
    """One alone, then two, then three; one drains to zero, and the homes of its caps move."""
    east, north, south = (centres[name] for name in NAMES)
    assert "is alone" in north.vcap("dc", "list").stdout
    assert "add it first" in refused(north, "dc", "remove", "south")

    # Given a cap from before there was anybody else
    define(north, "before", 600)
    assert available(north, "before") == 90

    # When a second one is added, it learns of the cap, and may have of it at once
    said(north, "dc", "add", "south")
    eventually(lambda: membership(south, "north") == "in", "south knows")
    eventually(lambda: available(south, "before") is not None, "south knows the cap")
    caller = Caller(south, south.make_key())
    assert caller.consume(0, "before", 60).status_code == 200

    # And of what is opened then, it has a share; as has a third one, by whomever it is added
    define(north, "two", 600)
    eventually(lambda: available(south, "two") == 45, "south has its share")
    said(south, "dc", "add", "east", "--weight", "2")
    eventually(lambda: membership(east, "north") == "in", "east knows")
    eventually(lambda: membership(north, "east") == "in", "north knows")
    define(north, "three", 30)
    eventually(lambda: available(east, "three") == 30, "east has its share")
    resolved = said(east, "cap", "resolve", "three")
    assert [each["name"] for each in resolved["centres"]] == ["east", "north", "south"]

    # When a change is asked for where the cap is not decided
    done = south.vcap("cap", "change", "three", "--total", "60")
    assert done.returncode == 0, done.stderr
    assert said(north, "cap", "show", "three")["definition"]["total"] == 60
    assert said(south, "cap", "resolve", "three")["home"] == "north"

    # When the home is to go, its caps go first
    assert "move" in refused(east, "dc", "remove", "north")
    for cap in ("before", "two"):
        said(south, "cap", "retire", cap)
    assert said(east, "cap", "move", "three", "--to", "south")["home"] == "south"
    eventually(lambda: said(south, "cap", "show", "three")["home"] == "south", "south decides")
    said(north, "dc", "remove", "north")

    # Then it drains, to zero and out, and the others share what is new
    eventually(lambda: books(north, "three")["available"] == 0, "north has nothing")
    eventually(lambda: membership(east, "north") == "out", "north is out", 120.0)
    assert said(north, "cap", "show", "three")["current"] is None
    define(south, "four", 600)
    eventually(lambda: available(east, "four") == 45, "two share what there is")
    assert said(south, "cap", "resolve", "four")["centres"] == [
        {"name": "east", "weight": 1},
        {"name": "south", "weight": 1},
    ]
    caller.close()


def test_two_operators_declare_one_lost(centres: Centres) -> None:
    """One alone changes nothing, nor does the same one twice."""
    south = centres["south"]
    assert "for-good" in south.vcap("dc", "lose", "north").stdout
    first = said(south, "dc", "lose", "north", "--for-good")
    assert (first["done"], len(first["approved_by"])) == (False, 1)
    assert said(south, "dc", "lose", "north", "--for-good")["done"] is False
    assert membership(south, "north") == "out"
    assert said(south, "dc", "lose", "north", "--for-good", *as_another(south))["done"]
    assert membership(south, "north") == "lost"
    assert "lost" in refused(south, "dc", "add", "north")


def as_another(centre: Deployment) -> list[str]:
    """The options by which another operator gives a command."""
    path = centre.directory / "other.key"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(centre.make_key("admin"))
    return ["--key-file", str(path)]


def test_the_heir_of_a_lost_one_decides_its_caps(centres: Centres) -> None:
    """A home is lost; one that is left decides from now on, and changes are taken again."""
    east, south = centres["east"], centres["south"]
    define(east, "orphan", 600)
    eventually(lambda: available(south, "orphan") == 45, "south has its share")
    east.stop()
    lose = ("dc", "lose", "east", "--for-good")
    said(south, *lose)
    assert said(south, *lose, *as_another(south))["done"]
    assert "--heir" in refused(south, "cap", "change", "orphan", "--total", "60")
    # When an heir is named
    lose = (*lose, "--heir", "south")
    said(south, *lose)
    assert said(south, *lose, *as_another(south))["done"]
    eventually(lambda: said(south, "cap", "resolve", "orphan")["home"] == "south", "south decides")
    said(south, "cap", "change", "orphan", "--total", "60")
    # Then the share of what the lost one has opened is what it was
    assert available(south, "orphan") == 45
