"""Topups per second through the real link, each durable before its consume is answered.

The master is a process of its own, on SQLite with synchronous=FULL; its servers share another.
Every consume needs a topup of its own: caps are too small for slices ahead of need.

`python -m benchmarks.topups FOLDER` is the master: it writes its port and serves until its standard
input ends.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import uvloop

from vcap_es import telemetry
from vcap_es.adapters.http.control import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master_node import MasterNode
from vcap_es.adapters.server_node import ServerNode
from vcap_es.components.commands import Consume
from vcap_es.components.decisions.meta import DefineTemplate
from vcap_es.components.limits import Limits
from vcap_es.components.outcomes import Consumed
from vcap_es.events.facts import Definition
from vcap_es.events.logs.sqlite import SqliteLog

SERVERS = 4
CALLERS = (1, 16, 64)
"""Callers at each server; each asks for a unit, and for the next when it has it."""

SECONDS = 3.0
TOTAL = 255
"""Below 256 units, nothing is granted ahead of need."""

HOST, SECRET = "127.0.0.1", "0123456789abcdef" * 4


def figures() -> list[dict[str, object]]:
    """Topups a second and their latencies, with few callers and with many."""
    telemetry.configure("error", node="bench", component="bench")
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        with _master(folder) as port:
            seen = uvloop.run(_measure(folder, port))
        topups = asyncio.run(_topups(folder))
    assert topups >= sum(map(len, seen.values())), "every consume had a topup of its own"
    return [_row(callers, latencies) for callers, latencies in seen.items()]


def _row(callers: int, latencies: list[float]) -> dict[str, object]:
    cuts = quantiles(latencies, n=100)
    rate = f"{len(latencies) / SECONDS:,.0f}"
    return {
        "figure": f"topups a second, {SERVERS} servers x {callers} callers",
        "value": f"{rate}, p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms",
    }


async def _measure(folder: Path, port: int) -> dict[int, list[float]]:
    async with _servers(folder, port) as nodes:
        names = count()
        return {callers: await _run(nodes, callers, names) for callers in CALLERS}


async def _run(nodes: list[ServerNode], callers: int, names: Iterator[int]) -> list[float]:
    latencies: list[float] = []
    until = time.perf_counter() + SECONDS

    async def call(node: ServerNode) -> None:
        while True:
            wish = Consume(cap=f"small:{next(names)}", minimum=1, maximum=1)
            for _ in range(TOTAL):
                began = time.perf_counter()
                if began > until:
                    return
                answer = await node.submit(wish)
                assert isinstance(answer, Consumed), answer
                latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(call(node) for node in nodes for _ in range(callers)))
    return latencies


@asynccontextmanager
async def _servers(folder: Path, port: int) -> AsyncIterator[list[ServerNode]]:
    limits = Limits(max_wait_ms=10_000, horizon_ms=0)
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(SERVERS):
            node = ServerNode(
                folder / f"server{number}",
                name=f"s{number}",
                master_url=f"ws://{HOST}:{port}",
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
def _master(folder: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.topups", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


async def _serve(folder: Path) -> None:
    telemetry.configure("error", node="primary", component="primary_master")
    log = await SqliteLog.open(folder / "log.sqlite", synchronous="FULL")
    master = MasterNode(log, dc="dc1", name="primary", secret=SECRET)
    async with master, serving(control_app(master), host=HOST, port=0, websockets=True) as port:
        template = DefineTemplate(match="small:*", definition=Definition(total=TOTAL))
        await master.submit(template, actor="bench", correlation="")
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await log.close()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
