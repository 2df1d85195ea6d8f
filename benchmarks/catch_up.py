"""How fast a secondary that is far behind catches up, while the primary serves.

The primary is a process of its own, with a million events on its log; the secondary, in this one,
begins empty. Meanwhile a server asks the primary for topups, each of which the log takes as ever.
"""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.topups import HOST, SECRET, master_process, servers
from vcap_es import telemetry
from vcap_es.adapters.ballots import MemoryBallots
from vcap_es.adapters.master_node import MasterNode
from vcap_es.adapters.server_node import ServerNode
from vcap_es.components.commands import Consume
from vcap_es.components.outcomes import Consumed
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import (
    Definition,
    EpochStarted,
    Fact,
    IntervalOpened,
    MetaDefined,
    ToppedUp,
    Version,
)
from vcap_es.events.logs.sqlite import SqliteLog

EVENTS = 1_000_000
CAPS = 1000
BATCH = 10_000
NOON = 1_767_268_800_000_000
DAY = 86_400_000_000


def figures() -> list[dict[str, object]]:
    """Events a second that are copied, checked, durable and folded."""
    telemetry.configure("error", node="bench", component="bench")
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name, ExitStack() as stack:
        folder = Path(name)
        asyncio.run(_write(folder / "m1"))
        port = stack.enter_context(master_process(folder / "m1", 0))
        rate, served = uvloop.run(_catch_up(folder, port))
    return [
        {
            "figure": f"catch-up of a secondary {EVENTS:,} events behind, events a second",
            "value": f"{rate:,.0f}; meanwhile {served:,.0f} topups a second were served",
            "aim": ">= 50,000",
            "reached": rate >= 50_000,
        }
    ]


async def _write(folder: Path) -> None:
    """A past of many topups."""
    log = await SqliteLog.open(folder / "log.sqlite", synchronous="OFF")
    facts: list[Fact] = [EpochStarted(epoch=1, leader="m0")]
    for cap in range(CAPS):
        version = Version(0, 1)
        facts.append(
            MetaDefined(cap=f"c{cap}", version=version, definition=Definition(total=10**9))
        )
        facts.append(
            IntervalOpened(
                cap=f"c{cap}",
                number=0,
                start=NOON,
                end=NOON + 1000 * DAY,
                total=10**9,
                version=version,
                timezone="UTC",
                tzdata="2026a",
            )
        )
    for number in range(EVENTS - len(facts)):
        facts.append(
            ToppedUp(
                cap=f"c{number % CAPS}", number=0, incarnation="5f" * 16, moved=1 + number // CAPS
            )
        )
    for at in range(0, EVENTS, BATCH):
        part = [_draft(at + index, fact) for index, fact in enumerate(facts[at : at + BATCH])]
        await log.append(part, epoch=1)
    await log.close()


def _draft(index: int, fact: Fact) -> Draft:
    return Draft(
        event_id=index.to_bytes(16, "big"),
        recorded_at=NOON,
        dc="dc1",
        actor="m0",
        correlation="",
        fact=fact,
    )


async def _catch_up(folder: Path, port: int) -> tuple[float, float]:
    """(events a second, topups served a second) from the first event to being in sync."""
    log = await SqliteLog.open(folder / "m2" / "log.sqlite", synchronous="FULL")
    master = MasterNode(
        log,
        dc="dc1",
        name="m1",
        secret=SECRET,
        ballots=MemoryBallots(1),
        slot=1,
        peers=[f"http://{HOST}:{port}"],
    )
    async with servers(folder, port, number=1) as (server,):
        began, served = time.perf_counter(), [0]
        serving = asyncio.create_task(_serve(server, served))
        async with master:
            while master.core.node not in master.primacy().isr:  # a node tells, but has no event
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.01)
            took = time.perf_counter() - began
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    await log.close()
    return EVENTS / took, served[0] / took


async def _serve(server: ServerNode, served: list[int]) -> None:
    """Consume one after the other, each with a topup of its own."""
    while True:
        wish = Consume(cap=f"small:{served[0] // 200}", minimum=1, maximum=1)
        answer = await server.submit(wish)
        assert isinstance(answer, Consumed), answer
        served[0] += 1
