"""Reading history beside serving: topups while four auditors read all of a cap's life.

The master is a process of its own with its reader beside it, on SQLite with synchronous=FULL, and
a log on which one cap has many events; the auditors are another process, as nice as the reader,
since elsewhere they are other machines. Quiet and loud rounds alternate, so that what else the
machine does falls on both.

`python -m benchmarks.history serve FOLDER` is the master, `... audit PORT KEY...` the auditors.
"""

import asyncio
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from secrets import token_bytes
from statistics import quantiles
from tempfile import TemporaryDirectory
from threading import Thread

import uvloop

from benchmarks.logs import open_log
from benchmarks.rows import Row, sized
from benchmarks.topups import HOST, SECRET, TOTAL, servers
from vcap_es import telemetry
from vcap_es.adapters.http.callers import RANDOM_BYTES, create_key
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.decisions.meta import DefineTemplate
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import (
    Definition,
    EpochStarted,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaDefined,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    Version,
)
from vcap_es.events.instants import format_instant
from vcap_es.events.log import BATCH_EVENTS_MAX
from vcap_es.settings import ReadingSettings

EVENTS = sized(1_000_000, tiny=4_000)
AUDITORS = 4
DAYS = 4
"""The events fall into so many intervals: each is long, as that of a busy cap is."""

INCARNATIONS = 8
SERVERS = 4
ROUNDS = 4
ROUND_SECONDS = sized(5.0, tiny=0.3)
PACE_SECONDS = 0.01
"""Each server asks for a topup so often: the master is busy, and never behind."""

ASKED = 20
DAY_US = 86_400_000_000
BEGIN_US = 1_700_000_000_000_000 // DAY_US * DAY_US
STEP_US = 1_000_000

EXPLAIN_MS, BALANCE_MS, P99_RATIO = 200, 1000, 2.0
GROWTH_MIB, WAL_MIB = 32, 80

EXPLAIN, BALANCE = "explain one consume of any age, most", "balances at any instant, most"
BUSY = f"p99 of a topup, {AUDITORS} auditors reading all / quiet"
GROWTH = "memory that the master and its reader grew by while all was read"
WAL = "longest WAL"
AIMS = {
    EXPLAIN: f"<= {EXPLAIN_MS}",
    BALANCE: f"<= {BALANCE_MS}",
    BUSY: f"<= {P99_RATIO:.0f}",
    GROWTH: f"<= {GROWTH_MIB}",
    WAL: f"<= {WAL_MIB}",
}


def figures() -> list[Row]:
    """Latencies of topups, quiet and while all is read; of questions; memory, and the WAL."""
    telemetry.configure("error", node="bench", component="bench")
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name, ExitStack() as stack:
        folder = Path(name)
        head, ids = asyncio.run(_write_log(folder / "m1" / "log.sqlite", EVENTS))
        began = time.perf_counter()
        port, keys, master = stack.enter_context(_master(folder / "m1"))
        _await_index(port, head)
        took = time.perf_counter() - began
        figure = f"index of {EVENTS:,} events of one cap, once, in the background"
        indexed = Row(figure, f"{took:.1f}", "s")
        return [indexed, *_asked(port, keys[0], ids), *_beside(folder, port, keys, master)]


# ---- questions


def _asked(port: int, key: str, ids: list[str]) -> list[Row]:
    explained = [_seconds(port, key, f"explain?id={each}") for each in ids]
    life_us = DAYS * DAY_US
    instants = [format_instant(BEGIN_US + life_us * each // ASKED + 1) for each in range(ASKED)]
    balances = [_seconds(port, key, f"balances?at={each}") for each in instants]
    return [
        _row(EXPLAIN, explained, EXPLAIN_MS),
        _row(BALANCE, balances, BALANCE_MS),
    ]


def _seconds(port: int, key: str, question: str) -> float:
    began = time.perf_counter()
    _get(port, key, f"/v1/caps/old/{question}")
    return time.perf_counter() - began


def _get(port: int, key: str, path: str) -> int:
    """Ask, and read the answer as it comes; gives its length."""
    connection = http.client.HTTPConnection(HOST, port, timeout=600)
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    answer, size = connection.getresponse(), 0
    assert answer.status == 200, (answer.status, answer.read())
    while chunk := answer.read(2**16):
        size += len(chunk)
    connection.close()
    return size


def _row(figure: str, seconds: list[float], aim_ms: int) -> Row:
    most = max(seconds) * 1e3
    return Row(figure, f"{most:.0f}", "ms", AIMS[figure], most <= aim_ms)


def _await_index(port: int, position: int) -> None:
    while _metric(port, "vcap_past_indexed_position") < position:
        time.sleep(0.1)


def _metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


# ---- serving meanwhile


def _beside(folder: Path, port: int, keys: list[str], master: int) -> list[Row]:
    seen = _Seen(folder, master)
    quiet, loud = uvloop.run(_rounds(folder, port, keys, ROUND_SECONDS, seen))
    still, busy = quantiles(quiet, n=100)[98], quantiles(loud, n=100)[98]
    growth, wal = seen.growth_mib(), seen.wal / 2**20
    return [
        Row(f"p99 of a topup, quiet, of {len(quiet):,}", f"{still * 1e3:.1f}", "ms"),
        Row(f"p99 of a topup, loud, of {len(loud):,}", f"{busy * 1e3:.1f}", "ms"),
        Row(BUSY, f"{busy / still:.2f}", "times", AIMS[BUSY], busy <= P99_RATIO * still),
        Row(GROWTH, f"{growth:.0f}", "MiB", AIMS[GROWTH], growth <= GROWTH_MIB),
        Row(WAL, f"{wal:.0f}", "MiB", AIMS[WAL], wal <= WAL_MIB),
    ]


class _Seen:
    """What the master and its reader take, looked at again and again."""

    def __init__(self, folder: Path, master: int) -> None:
        self._wal, self._master = folder / "m1" / "log.sqlite-wal", master
        self._first: list[int] = []
        self._most: list[int] = []
        self.wal = 0

    def look(self) -> None:
        """Look once."""
        now = [_rss(each) for each in (self._master, *_children(self._master))]
        if len(self._first) != len(now):
            self._first, self._most = now, now
        self._most = [max(pair) for pair in zip(self._most, now, strict=True)]
        with suppress(FileNotFoundError):
            self.wal = max(self.wal, self._wal.stat().st_size)

    def growth_mib(self) -> float:
        """What they grew by since the first look."""
        return (sum(self._most) - sum(self._first)) / 2**20


def _rss(process: int) -> int:
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _children(process: int) -> list[int]:
    told = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return list(map(int, told.split()))


async def _rounds(
    folder: Path, port: int, keys: list[str], seconds: float, seen: _Seen
) -> tuple[list[float], list[float]]:
    quiet, loud = list[float](), list[float]()
    names = count()
    async with servers(folder, port, SERVERS) as nodes:
        await _round(nodes, names, min(seconds, 1.0), seen)
        for _ in range(ROUNDS):
            quiet += await _round(nodes, names, seconds, seen)
            with _auditing(port, keys):
                seen.look()
                loud += await _round(nodes, names, seconds, seen)
    return quiet, loud


async def _round(
    nodes: list[ServerNode], names: Iterator[int], seconds: float, seen: _Seen
) -> list[float]:
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def call(node: ServerNode, wait: Random) -> None:
        wish = Consume(cap=f"small:{next(names)}", minimum=1, maximum=1)
        for taken in count(1):
            began = time.perf_counter()
            if began > until:
                return
            answer = await node.submit(wish)
            assert isinstance(answer, Consumed), answer
            latencies.append(time.perf_counter() - began)
            if taken % (TOTAL // 2) == 0:
                wish = Consume(cap=f"small:{next(names)}", minimum=1, maximum=1)
            await asyncio.sleep(PACE_SECONDS * 2 * wait.random())

    async def look() -> None:
        while time.perf_counter() < until:
            seen.look()
            await asyncio.sleep(0.25)

    await asyncio.gather(*(call(node, Random(each)) for each, node in enumerate(nodes)), look())
    return latencies


@contextmanager
def _auditing(port: int, keys: list[str]) -> Iterator[None]:
    """Auditors read all of the cap's life, again and again, until the context ends."""
    command = [sys.executable, "-m", "benchmarks.history", "audit", str(port), *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            yield
        finally:
            process.kill()


def _audit(port: int, keys: list[str]) -> None:
    os.nice(19)
    paths = ["/v1/caps/old/statement", "/v1/caps/old/history"]

    def read(key: str, path: str) -> None:
        while True:
            _get(port, key, path)

    for number, key in enumerate(keys):
        Thread(target=read, args=(key, paths[number % len(paths)]), daemon=True).start()
    while _metric(port, "vcap_past_readings") < len(keys):
        time.sleep(0.05)
    print("reading", flush=True)
    time.sleep(3600)


# ---- the master


@contextmanager
def _master(folder: Path) -> Iterator[tuple[int, list[str], int]]:
    """A master on the log in `folder`: its port, the keys of auditors, and its process."""
    command = [sys.executable, "-m", "benchmarks.history", "serve", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port, *keys = process.stdout.readline().split()
            yield int(port), keys, process.pid
        finally:
            process.stdin.close()
            process.wait(60)


async def _serve(folder: Path) -> None:
    telemetry.configure("error", node="m0", component="master")
    plenty = ReadingSettings(cpu_seconds_per_key=86_400)
    async with (
        open_log(folder / "log.sqlite") as log,
        MasterNode(log, dc="dc1", name="m0", secret=SECRET, reading=plenty) as master,
        serving(control_app(master), host=HOST, port=0, websockets=True) as port,
    ):
        template = DefineTemplate(match="small:*", definition=Definition(total=TOTAL))
        await master.submit(template, actor="bench", correlation="")
        keys = [
            (
                await create_key(
                    master, role="auditor", scopes=["*"], random=token_bytes(RANDOM_BYTES)
                )
            )[1]
            for _ in range(AUDITORS)
        ]
        print(port, *keys, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# ---- the log


async def _write_log(path: Path, events: int) -> tuple[int, list[str]]:
    """Write the long life of the cap `old`; gives its end, and consumes from all over it."""
    drafts: list[Draft] = []
    ids: list[str] = []
    async with open_log(path, "OFF") as log:
        for position, (at, fact) in enumerate(_life(events), 1):
            drafts.append(_draft(position, at, fact))
            if isinstance(fact, SpendReported) and position % (events // ASKED) < INCARNATIONS:
                (entry,) = fact.entries
                span = f"{entry.spent - 2}-{entry.spent - 1}"
                ids.append(f"{fact.incarnation}.{entry.number}.old.{span}")
            if len(drafts) == BATCH_EVENTS_MAX:
                await log.append(drafts, epoch=1)
                drafts = []
        await log.append(drafts, epoch=1)
        head = await log.head()
    return head.position, ids[:: max(1, len(ids) // ASKED)]


def _draft(position: int, at: int, fact: Fact) -> Draft:
    return Draft(
        event_id=position.to_bytes(16, "big"),
        recorded_at=at,
        dc="dc1",
        actor="bench",
        correlation="",
        fact=fact,
    )


def _life(events: int) -> Iterator[tuple[int, Fact]]:
    """About so many facts of the cap, with the instants at which they were recorded."""
    version = Version(0, 1)
    total = 10 * events
    yield BEGIN_US, EpochStarted(epoch=1, leader="m0")
    definition = Definition(total=total)
    yield BEGIN_US, MetaDefined(cap="old", version=version, definition=definition)
    for number in range(DAYS):
        start = BEGIN_US + number * DAY_US
        yield (
            start,
            IntervalOpened(
                cap="old",
                number=number,
                start=start,
                end=start + DAY_US,
                total=total,
                version=version,
                timezone="UTC",
                tzdata="2026a",
            ),
        )
        yield from _day(number, start, events // DAYS)
        end = start + DAY_US
        yield end, IntervalEnded(cap="old", number=number)
        yield end, IntervalClosed(cap="old", number=number, unreported=0)


def _day(number: int, start: int, events: int) -> Iterator[tuple[int, Fact]]:
    """Topups, reports of all but a little of them, and what is given back at the end."""
    moved = dict.fromkeys((f"server{each:04x}" for each in range(INCARNATIONS)), 0)
    rounds = (events - INCARNATIONS) // (2 * INCARNATIONS)
    step = DAY_US // (rounds + 2)
    for each in range(1, rounds + 1):
        for server in moved:
            moved[server] += 10
            fact = ToppedUp(cap="old", number=number, incarnation=server, moved=moved[server])
            yield start + each * step, fact
        for server, units in moved.items():
            yield start + each * step, _report(server, number, units - 3)
    for server in moved:
        back = Returned(cap="old", number=number, incarnation=server, returned=3)
        yield start + (rounds + 1) * step, back


def _report(server: str, number: int, spent: int) -> SpendReported:
    entry = Spend(cap="old", number=number, spent=spent, refunded=0, refused=0, final=False)
    return SpendReported(incarnation=server, entries=[entry])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(_serve(Path(sys.argv[2])))
    else:
        _audit(int(sys.argv[2]), sys.argv[3:])
