"""Topups per second through the real link, each durable before its consume is answered.

Each master is a process of its own, on SQLite with synchronous=FULL; the servers share another.
Every consume needs a topup of its own: caps are too small for slices ahead of need. First with a
lone master, then of caps that another data centre has a share of, then with a secondary that has
each of them durably as well before it is answered.

`python -m benchmarks.topups FOLDER SLOT PLACEMENT [PRIMARY]` is a master: it writes its port and
serves until its standard input ends; with the address of a primary it is its secondary, and writes
when it is in sync.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from secrets import token_hex
from statistics import quantiles
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.logs import open_log
from benchmarks.rows import Row, sized
from vcap_es import telemetry
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.storage.ballots import MemoryBallots
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.decisions.centre import AddCentre
from vcap_es.components.decisions.meta import DefineTemplate
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.facts import Definition
from vcap_es.events.logs.sqlite import SqliteLog

SERVERS = 4
CALLERS = sized((1, 16, 64), tiny=(1, 8))
"""Callers at each server; each asks for a unit, and for the next when it has it."""

SECONDS = sized(3.0, tiny=0.3)
TOTAL = 255
"""Below 256 units, nothing is granted ahead of need."""

UNITS, SHARED = 200, "weighted dc1=99 dc2=1"
"""So many are taken of each cap: there is always plenty, also where another has a share."""

HOST, SECRET = "127.0.0.1", "0123456789abcdef" * 4


SETTINGS = ("of shared caps", "with a secondary")
AIMS = {
    f"alone / {how}, {SERVERS} servers x {callers} callers": "<= 2"
    for how in SETTINGS
    for callers in CALLERS
}


def figures() -> list[Row]:
    """Topups a second and their latencies, alone and in sync, with few callers and with many."""
    telemetry.configure("error", node="bench", component="bench")
    alone, in_sync = _seen(is_in_sync=False), _seen(is_in_sync=True)
    others = dict(zip(SETTINGS, (_seen(is_in_sync=False, placement=SHARED), in_sync), strict=True))
    rows = [row for each in alone.items() for row in _rows("alone", *each)]
    for how, seen in others.items():
        rows += [row for each in seen.items() for row in _rows(how, *each)]
    for how, seen in others.items():
        rows += [_cost(how, each, alone[each], seen[each]) for each in CALLERS]
    return rows


def _seen(*, is_in_sync: bool, placement: str = "local") -> dict[int, list[float]]:
    """The latencies of all topups, by callers at each server."""
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(master_process(folder / "m1", 0, placement))
        if is_in_sync:
            primary = f"http://{HOST}:{port}"
            stack.enter_context(master_process(folder / "m2", 1, placement, primary))
        seen = uvloop.run(_measure(folder, port))
        stack.close()
        expected = sum(map(len, seen.values()))
        for each in ("m1", "m2")[: 1 + is_in_sync]:
            topups = asyncio.run(_topups(folder / each))
            assert topups >= expected, "every consume had a topup of its own, on every master"
    return seen


def _rows(how: str, callers: int, latencies: list[float]) -> list[Row]:
    cuts = quantiles(latencies, n=100)
    figure = f"topups {how}, {SERVERS} servers x {callers} callers"
    return [
        Row(figure, f"{len(latencies) / SECONDS:,.0f}", "topups/s"),
        Row(f"{figure}, p50", f"{cuts[49] * 1e3:.1f}", "ms"),
        Row(f"{figure}, p99", f"{cuts[98] * 1e3:.1f}", "ms"),
    ]


def _cost(how: str, callers: int, alone: list[float], with_others: list[float]) -> Row:
    ratio = len(alone) / len(with_others)
    figure = f"alone / {how}, {SERVERS} servers x {callers} callers"
    return Row(figure, f"{ratio:.2f}", "times", AIMS[figure], ratio <= 2)


async def _measure(folder: Path, port: int) -> dict[int, list[float]]:
    async with servers(folder, port) as nodes:
        names = count()
        return {callers: await _run(nodes, callers, names) for callers in CALLERS}


async def _run(nodes: list[ServerNode], callers: int, names: Iterator[int]) -> list[float]:
    latencies: list[float] = []
    until = time.perf_counter() + SECONDS

    async def call(node: ServerNode) -> None:
        while True:
            wish = Consume(cap=f"small:{next(names)}", minimum=1, maximum=1)
            for _ in range(UNITS):
                began = time.perf_counter()
                if began > until:
                    return
                answer = await node.submit(wish)
                assert isinstance(answer, Consumed), answer
                latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(call(node) for node in nodes for _ in range(callers)))
    return latencies


@asynccontextmanager
async def servers(
    folder: Path, port: int, number: int = SERVERS
) -> AsyncIterator[list[ServerNode]]:
    """So many servers of the master at `port`."""
    limits = Limits(max_wait_ms=10_000, horizon_ms=0)
    async with AsyncExitStack() as stack:
        nodes = []
        for each in range(number):
            node = ServerNode(
                folder / f"server{each}",
                name=f"s{each}",
                masters=[f"http://{HOST}:{port}"],
                secret=SECRET,
                limits=limits,
            )
            nodes.append(await stack.enter_async_context(node))
        yield nodes


async def _topups(folder: Path) -> int:
    """How many topups are on the log."""
    reader = await SqliteLog.open_reader(folder / "log.sqlite")
    try:
        found = after = 0
        while batch := await reader.read(after, limit=10_000, kind="ToppedUp"):
            found, after = found + len(batch), batch[-1].position
        return found
    finally:
        await reader.close()


@contextmanager
def master_process(
    folder: Path, slot: int, placement: str = "local", *primary: str
) -> Iterator[int]:
    """A master in a process of its own, and its port."""
    command = [sys.executable, "-m", "benchmarks.topups", str(folder), str(slot)]
    command += [placement, *primary]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the master did not start")
            yield int(line)
        finally:
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Let a process end that serves until its standard input does; kill it where it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _serve(folder: Path, slot: int, placement: str, *primary: str) -> None:
    telemetry.configure("error", node=f"m{slot}", component="master")
    async with open_log(folder / "log.sqlite") as log:
        master = MasterNode(
            log,
            dc="dc1",
            name=f"m{slot}",
            secret=SECRET,
            ballots=MemoryBallots(slot, cluster="" if primary else token_hex(16)),
            slot=slot,
            peers=primary,
        )
        control = serving(control_app(master), host=HOST, port=0, websockets=True)
        async with master, control as port:
            await _prepare(master, placement, follows=bool(primary))
            print(port, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _prepare(master: MasterNode, placement: str, *, follows: bool) -> None:
    """Define what is consumed, or be in sync with whom that was done at."""
    if follows:
        while master.core.node not in master.primacy().isr:  # noqa: ASYNC110  # a node tells, but has no event
            await asyncio.sleep(0.01)
        return
    if placement != "local":
        await master.submit(AddCentre(centre="dc2"), actor="bench", correlation="")
    definition = Definition(total=TOTAL, placement=placement)
    template = DefineTemplate(match="small:*", definition=definition)
    await master.submit(template, actor="bench", correlation="")


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
