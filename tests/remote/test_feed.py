"""The live feed, as MQTT clients and curl see it."""

import json
import os
import subprocess
from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import Any

import httpx2
import pytest

from compose.broker import Broker
from compose.packages import Unavailable, unpacked
from tests.support.deployment import PATIENT, Deployment, deployed, eventually
from tests.support.people import Caller

MQTT = ("mosquitto-clients", "libmosquitto1", "libcjson1")


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Deployment]:
    """A data centre alone, with two masters and a feed."""
    environment = {
        **PATIENT,
        "VCAP__DATA_CENTRE": "fed",
        "VCAP__FEED__BROKER": broker.url,
        "VCAP__SERVER__LIMITS__REPORT_MS": "200",
    }
    directory = tmp_path_factory.mktemp("fed")
    with deployed(directory, 1, environment, masters=2, witnesses=1) as found:
        yield found


class Listening:
    """A program that prints what it hears, a line each."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.lines: Queue[str] = Queue()
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self) -> str:
        """The next line."""
        return self.lines.get(timeout=30)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def mosquitto() -> tuple[str, dict[str, str]]:
    """The program of MQTT's clients, and what it needs to run where it is unpacked."""
    try:
        root = unpacked("mosquitto", MQTT)
    except Unavailable as reason:
        pytest.skip(str(reason))
    libraries = next(root.glob("usr/lib/*/libmosquitto.so.1")).parent
    return str(root / "usr/bin/mosquitto_sub"), {"LD_LIBRARY_PATH": str(libraries)}


def curl(dc: Deployment, path: str, *headers: str) -> Listening:
    """`curl -N` of the master that leads."""
    words = ["curl", "-sN", f"{leader(dc)}{path}", "-H", f"Authorization: Bearer {dc.admin_key}"]
    for each in headers:
        words += ["-H", each]
    return Listening(words)


def leader(dc: Deployment) -> str:
    """The address of the master that leads."""

    def leading() -> str:
        for url in dc.master_urls:
            try:
                if " leads epoch " in httpx2.get(f"{url}/readyz?verbose", timeout=2.0).text:
                    return url
            except httpx2.TransportError:
                continue
        return ""

    return str(eventually(leading, "somebody leads"))


def order(dc: Deployment, method: str, path: str, body: object = None) -> None:
    """A call of the master that leads, while the other one is dead."""
    headers = {"Authorization": f"Bearer {dc.admin_key}"}
    answer = httpx2.request(method, f"{leader(dc)}{path}", json=body, headers=headers)
    assert answer.is_success, answer.text


def events(listening: Listening, count: int) -> list[dict[str, Any]]:
    """The next events of a stream; comments are passed over."""
    found: list[dict[str, Any]] = []
    ids: list[int] = []
    while len(found) < count:
        line = listening.next()
        if line.startswith("id: "):
            ids.append(int(line[4:]))
        if line.startswith("data: "):
            found.append(json.loads(line[6:]))
    assert ids == [each["position"] for each in found]
    return found


def test_mqtt_clients_hear_every_fact(dc: Deployment, broker: Broker) -> None:
    """`mosquitto_sub -t 'vcap/#'` sees a cap being defined, and what is consumed of it."""
    program, environment = mosquitto()
    words = ["-h", "127.0.0.1", "-p", str(broker.mqtt_port), "-u", "guest", "-P", "guest"]
    words += ["-V", "311", "-t", "vcap/#", "-v", "-d"]
    heard = Listening(["stdbuf", "-oL", program, *words], environment)
    while "Subscribed" not in heard.next():
        pass
    # When
    dc.control("PUT", "/v1/caps/heard", {"total": 5, "interval": "month"})
    caller = Caller(dc, dc.make_key())
    assert caller.consume(0, "heard", 2).status_code == 200
    caller.close()
    # Then
    topics: dict[str, Any] = {}
    while "vcap/fed/volumecap/SpendReported/heard" not in topics:
        topic, _, body = heard.next().partition(" ")
        if topic.startswith("vcap/"):
            topics[topic] = json.loads(body)
    heard.stop()
    defined = topics["vcap/fed/meta/MetaDefined/heard"]
    assert defined["fact"]["definition"]["total"] == 5
    spent = topics["vcap/fed/volumecap/SpendReported/heard"]
    assert [(each["cap"], each["spent"]) for each in spent["fact"]["entries"]] == [("heard", 2)]
    assert not any("ApiKey" in topic for topic in topics)


def test_a_stream_goes_on_where_it_ended_at_another_master(dc: Deployment) -> None:
    """Each event comes as it is committed; after a failover none is missed, and none comes twice.

    Given a reader who is cut off by the death of the master.
    """
    stream = curl(dc, "/v1/events?cap=followed")
    assert stream.next().startswith(": the log of fed")
    dc.control("PUT", "/v1/caps/followed", {"total": 5, "interval": "month"})
    first = events(stream, 3)
    assert [each["kind"] for each in first] == ["MetaDefined", "IntervalOpened", "IntervalOpened"]
    # When
    dead = dc.master_urls.index(leader(dc))
    dc.kill(f"master{dead}")
    stream.stop()
    order(dc, "PUT", "/v1/caps/followed", {"total": 6, "interval": "month"})
    order(dc, "POST", "/v1/caps/followed/pause")
    # Then
    again = curl(dc, "/v1/events?cap=followed", f"Last-Event-ID: {first[-1]['position']}")
    kinds = [each["kind"] for each in events(again, 6)]
    totals = ["IntervalTotalChanged"] * 2
    assert kinds == ["MetaChanged", *totals, "MetaPaused", *totals]
    again.stop()
    dc.start_master(dead)


def test_a_stream_tells_only_what_is_asked_for_and_may_be_seen(dc: Deployment) -> None:
    """A noun, a kind, from a position on; and of the caps that the key opens."""
    dc.control("PUT", "/v1/caps/open", {"total": 5, "interval": "month"})
    dc.control("PUT", "/v1/caps/hidden", {"total": 5, "interval": "month"})
    key = dc.make_key("auditor", ["open"])
    url = f"{leader(dc)}/v1/events?after=0&noun=meta"
    stream = Listening(["curl", "-sN", url, "-H", f"Authorization: Bearer {key}"])
    (defined,) = events(stream, 1)
    assert (defined["kind"], defined["fact"]["cap"]) == ("MetaDefined", "open")
    stream.stop()
    headers = {"Authorization": f"Bearer {dc.admin_key}"}
    for path in ("?kind=Unheard", "?noun=unheard", "?cap=a%20b"):
        answer = httpx2.get(f"{leader(dc)}/v1/events{path}", headers=headers)
        assert answer.status_code in (400, 422), answer.text
    odd = httpx2.get(f"{leader(dc)}/v1/events", headers={**headers, "Last-Event-ID": "x"})
    assert odd.status_code == 400
