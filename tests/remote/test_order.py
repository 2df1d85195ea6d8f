"""One order of the events of all data centres, each with a number that it always has."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from compose.broker import Broker
from tests.support.centres import Centres, centres_in, join
from tests.support.deployment import PATIENT, Deployment, eventually
from vcap_es.events.instants import parse_instant

NAMES = ("late", "soon")


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Centres]:
    """Two data centres that lived alone for a while."""
    directory = tmp_path_factory.mktemp("order")
    urls = dict.fromkeys(NAMES, broker.url)
    with centres_in(directory, NAMES, urls, environment=PATIENT, members=()) as found:
        for name, each in found.items():
            define(each, f"alone:{name}")
        join(found, NAMES[::-1])
        yield found


def define(centre: Deployment, cap: str, total: int = 10) -> None:
    """A cap for all."""
    body = {"total": total, "interval": "month", "placement": "even"}
    centre.control("PUT", f"/v1/caps/{cap}", body)


def everything(centre: Deployment, limit: int = 7) -> list[dict[str, Any]]:
    """The whole order, by small pages."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = centre.control("GET", f"/v1/audit/events?limit={limit}{after}")
        for each in page["events"]:
            assert each["event"]["recorded_at"] < page["watermark"]
        found += page["events"]
        if not page["more"]:
            return found
        after = f"&after={page['cursor']}"


def reaching(centre: Deployment, cap: str) -> list[dict[str, Any]]:
    """The whole order, if it tells of the cap already at all data centres."""
    found = everything(centre)
    of_it = [each["event"]["dc"] for each in found if each["event"]["fact"].get("cap") == cap]
    return found if {*of_it} == {*NAMES} else []


def test_nothing_appears_below_what_was_served(centres: Centres) -> None:
    """Whoever is asked, whenever: what was told once stands there for ever, under its number."""
    late, soon = (centres[name] for name in NAMES)
    told: list[dict[str, Any]] = []
    for turn in range(4):
        for name, each in centres.items():
            define(each, f"{name}:{turn}")
        asked = (late, soon)[turn % 2]
        found = eventually(lambda asked=asked, turn=turn: reaching(asked, f"soon:{turn}"), "told")
        assert found[: len(told)] == told
        assert [each["number"] for each in found] == list(range(1, len(found) + 1))
        places = [
            (parse_instant(each["event"]["recorded_at"]), each["event"]["dc"]) for each in found
        ]
        assert places == sorted(places)
        assert len(found) > len(told)
        told = found
    caps = [each["event"]["fact"].get("cap") for each in told]
    # The one that began has its life from before; the one that was added begins with that.
    assert "alone:soon" in caps
    kinds = {each["event"]["dc"]: each["event"]["kind"] for each in reversed(told)}
    assert kinds == {"soon": "ClusterCreated", "late": "CentreChanged"}
    # What was decided at one, and learned at another, stands in that order
    for cap in ("soon:0", "late:1"):
        of_it = [each["event"] for each in told if each["event"]["fact"].get("cap") == cap]
        kinds_of = [each["kind"] for each in of_it]
        assert kinds_of.index("MetaDefined") < kinds_of.index("MetaLearned")


def test_the_log_files_give_the_same_order(centres: Centres) -> None:
    """`vcap audit merge` of both logs tells what the data centres tell, up to its watermark."""
    late, soon = (centres[name] for name in NAMES)
    define(soon, "files")
    told = eventually(lambda: reaching(late, "files"), "told")
    merged = soon.vcap("audit", "merge", str(late.log), str(soon.log), "--json")
    assert merged.returncode == 0, merged.stderr
    lines = [json.loads(line) for line in merged.stdout.splitlines()]

    def places(found: list[dict[str, Any]]) -> list[tuple[int, str, int]]:
        return [(each["number"], each["event"]["dc"], each["event"]["position"]) for each in found]

    both = min(len(lines), len(told))
    assert both > 30
    assert places(lines)[:both] == places(told)[:both]
    first = soon.vcap("audit", "merge", "--limit", "3")
    assert first.stdout.splitlines()[1].split()[3:5] == ["1", "ClusterCreated"]
    twice = soon.vcap("audit", "merge", str(late.log), str(late.log))
    assert "two logs" in twice.stderr


def test_a_write_can_wait_until_its_place_is_permanent(centres: Centres) -> None:
    """`ack=permanent`: the answer comes when every data centre has passed it, and says so."""
    late = centres["late"]
    headers = {"Authorization": f"Bearer {late.admin_key}"}
    body = {"total": 11, "interval": "month", "placement": "even"}
    url = f"{late.primary_url}/v1/caps/permanent"
    answer = httpx2.put(f"{url}?ack=permanent", json=body, headers=headers, timeout=20.0)
    assert answer.status_code == 201, answer.text
    watermark = answer.headers["vcap-watermark"]
    defined = [
        each
        for each in everything(centres["soon"], limit=500)
        if each["event"]["fact"].get("cap") == "permanent"
    ]
    assert defined[0]["event"]["kind"] == "MetaDefined"
    assert defined[0]["event"]["recorded_at"] < watermark
    plain = httpx2.put(url, json=body, headers=headers, timeout=20.0)
    assert "vcap-watermark" not in plain.headers


def test_who_cannot_be_reached_is_named(centres: Centres) -> None:
    """Without its word nobody knows what it has recorded; a write is done, and is not permanent."""
    late, soon = (centres[name] for name in NAMES)
    soon.kill_primary()
    headers = {"Authorization": f"Bearer {late.admin_key}"}
    answer = httpx2.get(f"{late.primary_url}/v1/audit/events", headers=headers, timeout=20.0)
    assert (answer.status_code, answer.json()["code"]) == (503, "centre_unreachable")
    assert "soon" in answer.json()["detail"]
    body = {"total": 12, "interval": "month", "placement": "even"}
    url = f"{late.primary_url}/v1/caps/late:0"
    written = httpx2.put(f"{url}?ack=permanent", json=body, headers=headers, timeout=20.0)
    assert (written.status_code, written.json()["code"]) == (503, "not_permanent")
    shown = httpx2.get(url, headers=headers).json()
    assert shown["definition"]["total"] == 12
    soon.start_primary()
    eventually(
        lambda: (
            httpx2.get(
                f"{late.primary_url}/v1/audit/events", headers=headers, timeout=20.0
            ).is_success
        ),
        "it answers again",
    )
