"""A consume inside the caller's process, against PyPI `limits` in memory.

Ours is exact over all processes that share the cap, and its debit is in the journal's shared
memory when the call returns; theirs is a counter of one process. Both take turns in one run. What
else the machine does only adds time, so the figures are those of the best turn of each.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from limits import RateLimitItem, RateLimitItemPerDay
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from benchmarks.logs import open_log
from benchmarks.rows import Row, sized
from vcap_es import telemetry
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.client import Consumed, EmbeddedVolumecap
from vcap_es.components.decisions.meta import Define
from vcap_es.events.facts import Definition

CALLS = sized(20_000, tiny=1_000)
ROUNDS = sized(40, tiny=2)
NS_MAX = 500
TIMES_FASTER_MIN = 5

CAP, TOTAL = "campaign:4711", 2**62
HOST, SECRET = "127.0.0.1", "0123456789abcdef" * 4


AIMS = {
    "embedded consume": f"<= {NS_MAX}",
    "embedded consume against `limits`": f">= {TIMES_FASTER_MIN}",
}


def figures() -> list[Row]:
    """Nanoseconds a call of each, and how they compare."""
    telemetry.configure("warning", node="bench", component="bench")
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as folder:
        ours, peer = uvloop.run(_measure(Path(folder)))
    faster = peer / ours
    ours_figure, faster_figure = AIMS
    return [
        Row(ours_figure, f"{ours:.0f}", "ns a call", AIMS[ours_figure], ours <= NS_MAX),
        Row("`limits` in memory, fixed window", f"{peer:.0f}", "ns a call"),
        Row(
            faster_figure,
            f"{faster:.1f}",
            "times faster",
            AIMS[faster_figure],
            faster >= TIMES_FASTER_MIN,
        ),
    ]


async def _measure(folder: Path) -> tuple[float, float]:
    async with open_log(folder / "log.sqlite") as log:
        master = MasterNode(log, dc="dc1", name="primary", secret=SECRET)
        control = serving(control_app(master), host=HOST, port=0, websockets=True)
        async with master, control as port:
            definition = Define(cap=CAP, definition=Definition(total=TOTAL))
            await master.submit(definition, actor="bench", correlation="")
            masters = [f"http://{HOST}:{port}"]
            async with EmbeddedVolumecap(
                folder / "embedded", masters=masters, secret=SECRET
            ) as caps:
                while not isinstance(await caps.consume(CAP), Consumed):  # noqa: ASYNC110  # it links soon
                    await asyncio.sleep(0.01)
                return _take_turns(caps)


def _take_turns(caps: EmbeddedVolumecap) -> tuple[float, float]:
    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerDay(TOTAL)
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(_ns_of_ours(caps.try_consume))
        peer.append(_ns_of_peer(limiter.hit, item))
    assert caps.try_consume(CAP), "the slice never ran low"
    return min(ours), min(peer)


def _ns_of_ours(take: Callable[[str], object]) -> float:
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        take(CAP)
    return (time.perf_counter_ns() - began) / CALLS


def _ns_of_peer(hit: Callable[[RateLimitItem, str], object], item: RateLimitItem) -> float:
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        hit(item, CAP)
    return (time.perf_counter_ns() - began) / CALLS
