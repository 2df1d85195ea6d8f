"""How fast a secondary that is far behind catches up, while the primary serves.

The primary is a process of its own, with a million events on its log; the secondary, in this one,
begins empty. Meanwhile a server asks the primary for topups, each of which the log takes as ever.
A secondary that stands still is a failure, told after a while that follows from how much there is.

`python -m benchmarks.catch_up EVENTS` is a catch-up of so many.
"""

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.logs import open_log
from benchmarks.rows import Row, sized
from benchmarks.topups import HOST, SECRET, master_process, servers
from vcap_es import telemetry
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.storage.ballots import MemoryBallots
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
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

EVENTS = sized(1_000_000, tiny=3_000)
CAPS = sized(1000, tiny=100)
BATCH = 10_000
PATIENCE_SECONDS, EVENTS_PER_SECOND_MIN = 20, 10_000
"""A catch-up that takes longer than at this rate, and some time to begin, has failed."""

NOON = 1_767_268_800_000_000
DAY = 86_400_000_000


AIMS = {"events copied": ">= 50,000"}


def figures(events: int = EVENTS) -> list[Row]:
    """Events a second that are copied, checked, durable and folded, of so many."""
    telemetry.configure("error", node="bench", component="bench")
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as name, ExitStack() as stack:
        folder = Path(name)
        asyncio.run(_write(folder / "m1", events))
        port = stack.enter_context(master_process(folder / "m1", 0))
        rate, served = uvloop.run(_catch_up(folder, port, events))
    ((figure, aim),) = AIMS.items()
    return [
        Row("a secondary behind by", f"{events:,}", "events"),
        Row(figure, f"{rate:,.0f}", "events/s", aim, rate >= 50_000),
        Row("topups served meanwhile", f"{served:,.0f}", "topups/s"),
    ]


async def _write(folder: Path, events: int) -> None:
    """A past of many topups."""
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
    for number in range(events - len(facts)):
        facts.append(
            ToppedUp(
                cap=f"c{number % CAPS}", number=0, incarnation="5f" * 16, moved=1 + number // CAPS
            )
        )
    async with open_log(folder / "log.sqlite", "OFF") as log:
        for at in range(0, events, BATCH):
            part = [_draft(at + index, fact) for index, fact in enumerate(facts[at : at + BATCH])]
            await log.append(part, epoch=1)


def _draft(index: int, fact: Fact) -> Draft:
    return Draft(
        event_id=index.to_bytes(16, "big"),
        recorded_at=NOON,
        dc="dc1",
        actor="m0",
        correlation="",
        fact=fact,
    )


async def _catch_up(folder: Path, port: int, events: int) -> tuple[float, float]:
    """(events a second, topups served a second) from the first event to being in sync."""
    async with (
        open_log(folder / "m2" / "log.sqlite") as log,
        servers(folder, port, number=1) as (server,),
    ):
        master = MasterNode(
            log,
            dc="dc1",
            name="m1",
            secret=SECRET,
            ballots=MemoryBallots(1),
            slot=1,
            peers=[f"http://{HOST}:{port}"],
        )
        began, served = time.perf_counter(), [0]
        serving = asyncio.create_task(_serve(server, served))
        try:
            async with master:
                await _in_sync(master, log, serving, events)
            took = time.perf_counter() - began
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    return events / took, served[0] / took


async def _in_sync(
    master: MasterNode, log: SqliteLog, serving: "asyncio.Task[None]", events: int
) -> None:
    """Wait until the secondary is in sync; raises where it is not in time."""
    deadline = time.perf_counter() + PATIENCE_SECONDS + events / EVENTS_PER_SECOND_MIN
    while master.core.node not in master.primacy().isr:
        assert not serving.done(), serving.exception()
        if time.perf_counter() > deadline:
            position = (await log.head()).position
            raise TimeoutError(
                f"the secondary is not in sync in time: it stands at {position:,} of {events:,}"
            )
        await asyncio.sleep(0.01)


async def _serve(server: ServerNode, served: list[int]) -> None:
    """Consume one after the other, each with a topup of its own."""
    while True:
        wish = Consume(cap=f"small:{served[0] // 200}", minimum=1, maximum=1)
        answer = await server.submit(wish)
        assert isinstance(answer, Consumed), answer
        served[0] += 1


if __name__ == "__main__":
    for row in figures(int(sys.argv[1])):
        print(row.figure, row.value, row.unit)
