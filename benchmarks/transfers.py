"""Transfers between two data centres: through one broker, and with 80 ms between the two.

Everything is real: a RabbitMQ, two masters on SQLite with synchronous=FULL, servers, HTTP. First,
many small caps of which all clients are at one data centre, so that nearly every consume needs a
transfer of its own. Then one large cap, likewise, while every byte takes 40 ms to the broker and
40 ms from there: how many consumes had to wait for the other data centre.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import httpx2
from pika import BlockingConnection, ConnectionParameters

from benchmarks.rows import Row, sized
from compose.broker import Broker
from tests.support.centres import Centres, centres_in
from tests.support.deployment import eventually
from tests.support.remote_topology import Wire
from vcap_es.adapters.rabbitmq.topology import letters_queue

NAMES = ("dc1", "dc2")
SMALL_CAPS, SMALL_TOTAL = sized(1_500, tiny=20), 16
BATCH, CALLERS = sized(250, tiny=10), 4
HOT_TOTAL, HOT_CALLERS = sized(8_000, tiny=200), 8
DELAY_SECONDS = 0.04
WAITS_SECONDS = 0.15
"""A transfer takes 160 ms at least there and back; nothing else takes so long."""

NEARLY_USED = 0.9
ENVIRONMENT = {
    "VCAP__SERVER__LIMITS__MAX_WAIT_MS": "20000",
    "VCAP__LOG_LEVEL": "warning",
}


AIMS = {
    "transfers, all durable on both sides": ">= 1,000",
    "80 ms between two data centres: consumes that wait for the other one": "< 1",
    "... consumed of it": f"{HOT_TOTAL:,}",
    "... stranded": "0",
}


def figures() -> list[Row]:
    """Transfers a second with the backlog that they leave, and consumes that wait for one."""
    return [*_sustained(), *_hot()]


def _row(figure: str, value: str, unit: str, *, reached: bool) -> Row:
    return Row(figure, value, unit, AIMS[figure], reached)


@contextmanager
def _two_centres(delay_s: float) -> Iterator[tuple[Centres, Broker]]:
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name:
        directory = Path(name)
        broker = Broker(directory / "broker")
        broker.start()
        wires = {each: Wire(broker.port, delay_s=delay_s) for each in NAMES}
        urls = dict.fromkeys(NAMES, broker.url)
        if delay_s:
            urls = {each: f"amqp://guest@127.0.0.1:{wires[each].port}/%2F" for each in NAMES}
        try:
            # Each speaks with the broker by its own wire, also of what the other one reads.
            with centres_in(directory, NAMES, urls, environment=ENVIRONMENT) as centres:
                yield centres, broker
        finally:
            for each in wires.values():
                each.close()
            broker.stop()


# ---- many transfers


def _sustained() -> list[dict[str, object]]:
    with _two_centres(0.0) as (centres, broker):
        asyncio.run(_define_all(centres))
        eventually(lambda: _kinds(centres)["TransferSettled"] >= 2 * SMALL_CAPS, "shared", 120.0)
        before, begun = _kinds(centres)["TransferSent"], time.perf_counter()
        consumed, backlogs = asyncio.run(_consume_all(centres, broker))
        seconds = time.perf_counter() - begun
        sent = _kinds(centres)["TransferSent"] - before
        waiting = centres["dc2"].control("GET", "/v1/centres")["post"]["waiting"]
        eventually(lambda: _is_settled(centres), "all is settled")
    rate = sent / seconds
    assert consumed == SMALL_CAPS * SMALL_TOTAL, f"{consumed} consumed"
    return [
        Row("transfers in all", f"{sent:,}", "transfers"),
        _row(
            "transfers, all durable on both sides",
            f"{rate:,.0f}",
            "transfers/s",
            reached=rate >= 1_000,
        ),
        Row("letters that waited at the broker meanwhile, at most", str(max(backlogs)), "letters"),
        Row("messages left behind", str(waiting), "messages"),
    ]


async def _define_all(centres: Centres) -> None:
    home = centres["dc1"]
    headers = {"Authorization": f"Bearer {home.admin_key}"}
    body = {"total": SMALL_TOTAL, "interval": "month", "placement": "even"}
    room = asyncio.Semaphore(32)
    async with httpx2.AsyncClient(headers=headers, timeout=60.0) as http:

        async def define(number: int) -> None:
            async with room:
                answer = await http.put(f"{home.primary_url}/v1/caps/c{number}", json=body)
                answer.raise_for_status()

        await asyncio.gather(*map(define, range(SMALL_CAPS)))


async def _consume_all(centres: Centres, broker: Broker) -> tuple[int, list[int]]:
    hot = centres["dc2"]
    headers = {"Authorization": f"Bearer {hot.make_key()}"}
    backlogs = [0]

    async def watch() -> None:
        while True:
            backlogs.append(await asyncio.to_thread(_backlog, broker))
            await asyncio.sleep(0.5)

    async with httpx2.AsyncClient(headers=headers, timeout=60.0) as http:
        watching = asyncio.create_task(watch())

        async def consume(first: int) -> int:
            """All units of a batch of caps, one of each at a time."""
            caps, consumed = [f"c{number}" for number in range(first, first + BATCH)], 0
            for _ in range(SMALL_TOTAL):
                items = [{"cap": cap, "amount": 1} for cap in caps]
                body = {"items": items, "atomic": False}
                answer = await http.post(f"{hot.server_urls[0]}/v1/consume", json=body)
                answer.raise_for_status()
                consumed += sum("consumed" in each for each in answer.json()["items"])
            return consumed

        room = asyncio.Semaphore(CALLERS)

        async def in_turn(first: int) -> int:
            async with room:
                return await consume(first)

        counts = await asyncio.gather(*map(in_turn, range(0, SMALL_CAPS, BATCH)))
        watching.cancel()
    return sum(counts), backlogs


def _backlog(broker: Broker) -> int:
    connection = BlockingConnection(ConnectionParameters("127.0.0.1", broker.port))
    channel = connection.channel()
    counts = [
        channel.queue_declare(letters_queue(*way), passive=True).method.message_count
        for way in (NAMES, NAMES[::-1])
    ]
    connection.close()
    return sum(counts)


def _kinds(centres: Centres) -> dict[str, int]:
    """How many events of each kind the home's log has."""
    log = sqlite3.connect(f"file:{centres['dc1'].log}?mode=ro", uri=True)
    try:
        counts = dict(log.execute("SELECT kind, count(*) FROM events GROUP BY kind"))
    finally:
        log.close()
    return {"TransferSent": 0, "TransferSettled": 0, **counts}


def _is_settled(centres: Centres) -> bool:
    found = centres["dc1"].control("GET", "/v1/centres")["centres"]
    return not any(each["in_transit"] for each in found)


# ---- one hot data centre, far away


def _hot() -> list[dict[str, object]]:
    with _two_centres(DELAY_SECONDS) as (centres, _):
        body = {"total": HOT_TOTAL, "interval": "month", "placement": "even"}
        centres["dc1"].control("PUT", "/v1/caps/hot", body)
        eventually(lambda: _knows(centres, "hot"), "it is known")
        begun = time.perf_counter()
        waits, refused = asyncio.run(_consume_hot(centres))
        seconds = time.perf_counter() - begun
        books = [each.control("GET", "/v1/caps/hot")["current"] for _, each in centres.items()]
    before_the_end = waits[: int(NEARLY_USED * HOT_TOTAL)]
    waited = sum(each >= WAITS_SECONDS for each in before_the_end)
    share = 100 * waited / len(before_the_end)
    cuts = quantiles(waits, n=1000)
    stranded = sum(each["available"] + each["held"] for each in books)
    return [
        _row(
            "80 ms between two data centres: consumes that wait for the other one",
            f"{share:.2f}",
            f"% of the first {len(before_the_end):,}",
            reached=share < 1.0,
        ),
        _row("... consumed of it", f"{len(waits):,}", "units", reached=len(waits) == HOT_TOTAL),
        Row("... all of it took", f"{seconds:.1f}", "s"),
        Row("... refused before that", str(refused), "units"),
        _row("... stranded", str(stranded), "units", reached=stranded == 0),
        *(
            Row(f"... a consume, {name}", f"{1e3 * cuts[at]:.1f}", "ms")
            for name, at in (("p50", 499), ("p99", 989), ("p99.9", 998))
        ),
    ]


def _knows(centres: Centres, cap: str) -> bool:
    caps = centres["dc2"].control("GET", "/v1/caps")["caps"]
    return any(each["id"] == cap and each["current"] for each in caps)


async def _consume_hot(centres: Centres) -> tuple[list[float], int]:
    """How long each consume took, in order; and the refusals before the last unit was consumed."""
    hot = centres["dc2"]
    headers = {"Authorization": f"Bearer {hot.make_key()}"}
    waits: list[float] = []
    refused = 0
    async with httpx2.AsyncClient(headers=headers, timeout=60.0) as http:

        async def consume() -> None:
            nonlocal refused
            while len(waits) < HOT_TOTAL:
                begun = time.perf_counter()
                url = f"{hot.server_urls[0]}/v1/caps/hot/consume"
                answer = await http.post(url, json={"amount": 1})
                if answer.status_code == 200:
                    waits.append(time.perf_counter() - begun)
                elif len(waits) < HOT_TOTAL - HOT_CALLERS:
                    refused += 1

        await asyncio.gather(*(consume() for _ in range(HOT_CALLERS)))
    return waits, refused
