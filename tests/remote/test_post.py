"""What becomes of the post where the broker, or somebody at the broker, is up to no good."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from compose.broker import Broker
from tests.support.centres import Centres, broker_in, centres_in, environment_of, join
from tests.support.deployment import PATIENT, Deployment, deployed, eventually, wipe
from tests.support.people import Caller, Fields, books, drain
from vcap_es.adapters.rabbitmq.letters import Writer
from vcap_es.adapters.rabbitmq.topology import letters_queue, parked_queue
from vcap_es.components.messages.centre import Inquiry
from vcap_es.components.messages.encoding import encode

NAMES = ("bad1", "bad2")


@contextmanager
def channel_to(broker: Broker) -> Iterator[BlockingChannel]:
    """Somebody at the broker."""
    connection = pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=60)
    )
    try:
        yield connection.channel()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Centres]:
    """Two data centres on a broker that somebody else can use as well."""
    directory = tmp_path_factory.mktemp("post")
    urls = dict.fromkeys(NAMES, broker.url)
    with centres_in(directory, NAMES, urls, environment=PATIENT) as found:
        yield found
        found.verify()


def post_of(centre: Deployment) -> Fields:
    """What a data centre says of its post."""
    found: Fields = centre.control("GET", "/v1/centres")["post"]
    return found


def trouble(centre: Deployment) -> str:
    """Why the other data centre cannot be told anything."""
    others = [each for each in centre.control("GET", "/v1/centres")["centres"] if not each["here"]]
    return str(others[0]["trouble"] or "")


def define(centre: Deployment, cap: str, total: int) -> None:
    """A cap for both."""
    body = {"total": total, "interval": "month", "placement": "even"}
    centre.control("PUT", f"/v1/caps/{cap}", body)


def has(centre: Deployment, cap: str, available: int) -> Callable[[], bool]:
    """Whether a data centre has so much of a cap."""

    def found() -> bool:
        listed = centre.control("GET", "/v1/caps")["caps"]
        now = [each["current"] for each in listed if each["id"] == cap and each["current"]]
        return bool(now) and now[0]["available"] == available

    return found


def secret_of(centres: Centres) -> str:
    """What only the two of them know."""
    return (centres["bad1"].directory.parent / "bad1-bad2.secret").read_text().strip()


def parked(channel: BlockingChannel) -> list[str]:
    """The reasons of all that is parked at the first data centre."""
    reasons = []
    while True:
        method, properties, _ = channel.basic_get(parked_queue("bad1"), auto_ack=True)
        if method is None or properties is None or properties.headers is None:
            return reasons
        reasons.append(str(properties.headers["reason"]))


def test_what_cannot_be_opened_is_parked_with_the_reason(centres: Centres, broker: Broker) -> None:
    """Forged, swapped, of another version, or junk: no amount changes, and it can be looked at."""
    define(centres["bad1"], "forged", 100)
    eventually(has(centres["bad2"], "forged", 50), "both have their share")
    before = [books(each, "forged") for _, each in centres.items()]
    told = [encode(Inquiry(cap="forged"))]
    listed = centres["bad1"].control("GET", "/v1/centres")["centres"]
    own, cluster = (each["cluster"] for each in listed)
    good = Writer("bad2", "bad1", (secret_of(centres),), 1_000, cluster)
    swapped = Writer("bad2", "bad9", (secret_of(centres),), 1_000, cluster)
    forged = Writer("bad2", "bad1", ("f" * 32,), 1_000, cluster)
    namesake = Writer("bad2", "bad1", (secret_of(centres),), 1_000, "other")
    letter = good.write(told, own)
    bad = [
        (b"junk", "no letter"),
        (forged.write(told, own), "wrong signature"),
        (letter[:-1] + bytes([letter[-1] ^ 1]), "wrong signature"),
        (letter.replace(b"\x01", b"\x02", 1), "other version"),
        (swapped.write(told, own), "wrong way"),
        (Writer("bad7", "bad1", ("f" * 32,), 1, cluster).write(told, own), "unknown source"),
        (good.write(told, "other"), "namesake"),
        (namesake.write(told, own), "namesake"),
        (good.write([encode({"type": "Unheard"})], own), "not understood"),  # type: ignore[arg-type]
    ]
    with channel_to(broker) as channel:
        # When
        for body, _ in bad:
            channel.basic_publish("", letters_queue("bad2", "bad1"), body)
        # Then
        count = len(bad)
        eventually(lambda: sum(post_of(centres["bad1"])["parked"].values()) == count, "parked")
        reasons = eventually(lambda: parked(channel), "they are in the queue")
    assert [each.partition(":")[0] for each in reasons] == [why for _, why in bad]
    assert [books(each, "forged") for _, each in centres.items()] == before


def test_a_letter_that_somebody_keeps_and_sends_again_is_parked(
    centres: Centres, broker: Broker
) -> None:
    """Letters are taken from the queue, and come back late, twice, and the last one first."""
    define(centres["bad1"], "stolen", 40)
    stolen: list[bytes] = []

    def steal(channel: BlockingChannel, method: Any, _: Any, body: bytes) -> None:
        stolen.append(body)
        channel.basic_ack(method.delivery_tag)

    def rob() -> int:
        channel.connection.process_data_events(0.1)
        return len(stolen)

    with channel_to(broker) as channel:
        # Given that somebody gets half of them
        thief = channel.basic_consume(letters_queue("bad2", "bad1"), steal)
        eventually(lambda: rob() >= 5, "some are stolen")
        channel.basic_cancel(thief)
        known = post_of(centres["bad1"])["parked"].get("repeated", 0)
        # When all of them come twice, in another order
        for body in [*reversed(stolen), *stolen]:
            channel.basic_publish("", letters_queue("bad2", "bad1"), body)
        wanted = known + len(stolen)
        eventually(
            lambda: post_of(centres["bad1"])["parked"].get("repeated", 0) >= wanted, "parked"
        )
    # Then every unit can be had, and not one more
    caller = Caller(centres["bad2"], centres["bad2"].make_key())
    assert drain(caller, "stolen", range(1)) == 40
    caller.close()


def test_a_queue_that_was_deleted_is_declared_again(centres: Centres, broker: Broker) -> None:
    """Both sides notice, say so, and go on."""
    with channel_to(broker) as channel:
        for source, target in (NAMES, NAMES[::-1]):
            channel.queue_delete(letters_queue(source, target))
    define(centres["bad1"], "deleted", 100)
    eventually(has(centres["bad2"], "deleted", 50), "they speak again")
    eventually(lambda: not post_of(centres["bad1"])["troubles"], "nothing is wrong any more")


def test_who_comes_back_with_empty_disks_is_a_namesake(tmp_path: Path, broker: Broker) -> None:
    """It has no part in anything, and both sides say why, and what to do."""
    names = ("whole", "wiped")
    urls = dict.fromkeys(names, broker.url)
    with centres_in(tmp_path, names, urls, environment=PATIENT) as centres:
        whole, wiped = centres["whole"], centres["wiped"]
        define(whole, "before", 100)
        eventually(has(wiped, "before", 50), "both have their share")
        # Given that everything is gone at one
        for node in ("server1", "master0"):
            wiped.kill(node)
            wipe(wiped.directory / node)
        # When it is founded and started again
        wiped.found()
        wiped.start_primary()
        wiped.start_server(0)
        # Then both say why nothing is shared with it
        eventually(lambda: "another log" in wiped.vcap("dc", "status").stdout, "it says why")
        eventually(lambda: post_of(whole)["parked"].get("namesake"), "its letters are parked")
        assert "under another name" in whole.vcap("dc", "list").stdout
        # Nor if somebody there adds the other one, who serves on
        wiped.control("PUT", "/v1/centres/whole", {})
        assert wiped.control("GET", "/v1/caps")["caps"] == []
        caller = Caller(whole, whole.make_key())
        assert drain(caller, "before", range(1)) == 50
        caller.close()


def test_a_broker_in_trouble_is_told_by_name_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """Down at the start, refusing the login, frozen: each data centre serves its share on."""
    broker = Broker(tmp_path / "broker")
    names = ("one", "two")
    urls = dict.fromkeys(names, broker.url)
    with centres_in(tmp_path, names, urls, environment=PATIENT, members=()) as centres:
        # Given no broker yet, each is there for its own clients
        one, two = centres["one"], centres["two"]
        one.control("PUT", "/v1/caps/own", {"total": 5, "interval": "month"})
        callers = {name: Caller(each, each.make_key()) for name, each in centres.items()}
        assert drain(callers["one"], "own", range(1)) == 5
        one.control("PUT", "/v1/centres/two", {})
        assert "is it running?" in trouble(one)
        # When it is started
        with broker_in(tmp_path / "broker", broker):
            eventually(lambda: not trouble(one), "the broker is found")
            join(centres, names)
            define(one, "c", 100)
            eventually(has(two, "c", 50), "two has its share")
            # And frozen
            broker.pause()
            eventually(lambda: "frozen" in trouble(one), "one knows")
            assert callers["two"].consume(0, "c", 50).status_code == 200
            assert callers["one"].consume(0, "c", 50).status_code == 200
            broker.resume()
            eventually(lambda: not trouble(one), "the broker answers again")
            # And refuses the login
            wrong = tmp_path / "wrong.password"
            wrong.touch(mode=0o600)
            wrong.write_text("wrong")
            other = tmp_path / "three"
            other.mkdir()
            urls["three"] = broker.url
            environment = {
                **PATIENT,
                **environment_of("three", ("one", "three"), tmp_path, urls),
                "VCAP__REMOTE__PASSWORD_FILE": str(wrong),
                "VCAP__REMOTE__CENTRES__ONE__PASSWORD_FILE": str(wrong),
            }
            with deployed(other, 1, environment) as three:
                eventually(lambda: post_of(three)["troubles"], "it says what is wrong")
                assert "login is refused" in next(iter(post_of(three)["troubles"].values()))
        for each in callers.values():
            each.close()
