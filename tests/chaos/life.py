"""The life of one deployment: faults one after the other under load, and all is checked each time.

What can be checked of real processes is checked when everything has healed and nobody calls. The
clients' side of it, that no acknowledgement turns out untrue, holds over the whole life.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from tests.chaos.causes import EARLIER_SECONDS, lines_of, told
from tests.chaos.checks import (
    Findings,
    LogWatch,
    check_books,
    check_copies,
    check_link,
    check_served,
    check_soundness,
)
from tests.chaos.cluster import Cluster, NeverHealed
from tests.chaos.faults import Fault, Network, Scene, Struck
from tests.chaos.load import BIG, Load
from tests.chaos.told import KINDS, Gap, Told
from tests.support.deployment import Deployment, Hosts, deployed

SERVERS = 3


class Machines(Hosts, Network, Protocol):
    """Where nodes run, with a network between them that can lose messages."""


SETTLING_SECONDS = 0.6
"""So long at least clients go on when all is well again."""

SETTINGS = {"VCAP__SERVER__LIMITS__REPORT_MS": "400", "VCAP__LOG_LEVEL": "debug"}
"""Servers tell what was spent more often than usual, so that the books are up to date sooner.

What nodes log tells why something took long.
"""


class Outcome(Struct, frozen=True, kw_only=True):
    """What one fault did. Times in seconds.

    `gaps` are the longest times without an acknowledgement from the fault on until both masters
    were in sync again, which they were `sync` after nothing was wrong any more. `why` has what
    nodes logged around the gaps that are longer than they should be.
    """

    fault: str
    gaps: dict[str, float]
    sync: float
    findings: Findings
    why: list[str] = []


class Story(Struct, kw_only=True):
    """What became of one life."""

    outcomes: list[Outcome]
    findings: Findings
    acknowledged: int = 0
    """Acknowledgements that were found on the log of a later leader."""
    steady: int = 0
    """Consumes at servers whose slice sufficed: all were answered yes."""
    position: int = 0
    """The last event that both logs have alike."""


def live(
    directory: Path,
    faults: Sequence[Fault],
    *,
    witnesses: int,
    seed: int,
    network: Machines,
) -> Story:
    """Let a deployment live through these faults, in this order."""
    story = Story(outcomes=[], findings=[])
    acknowledged = Told()
    with deployed(
        directory, SERVERS, SETTINGS, masters=2, witnesses=witnesses, hosts=network
    ) as deployment:
        life = _Life(deployment, acknowledged, network, random.Random(seed))
        asyncio.run(life.run(faults, story))
    story.steady = acknowledged.steady
    story.findings += check_soundness(deployment)
    logs = [deployment.log_of(slot) for slot in (0, 1)]
    story.position, differences = asyncio.run(check_copies(*logs))
    story.findings += differences
    return story


class _Life:
    def __init__(
        self, deployment: Deployment, told: Told, network: Network, rng: random.Random
    ) -> None:
        self._deployment, self._told, self._network, self._rng = deployment, told, network, rng
        self._caps = [BIG]

    async def run(self, faults: Sequence[Fault], story: Story) -> None:
        self._cluster = Cluster(self._deployment)
        self._load = Load(self._deployment, self._told, self._rng)
        self._watch = LogWatch(self._deployment, self._told)
        await self._load.start()
        try:
            for fault in faults:
                outcome = await self._suffer(fault)
                story.outcomes.append(outcome)
            story.findings += await check_books(self._cluster, self._told, self._caps)
        except (NeverHealed, TimeoutError) as error:
            story.findings.append(f"never healed: {error!r}")
        finally:
            story.acknowledged = self._watch.acknowledged
            await self._load.close()
            await self._cluster.close()

    async def _suffer(self, fault: Fault) -> Outcome:
        """Clients call, something breaks and heals, clients pause, all is checked."""
        leader = await self._cluster.in_sync()
        caps = await self._load.new_small_caps()
        self._caps += caps
        self._load.resume()
        await self._acknowledging(time.monotonic())
        await asyncio.sleep(self._rng.uniform(0.2, 0.5))
        begun = time.monotonic()
        scene = Scene(self._deployment, self._cluster, self._network, self._rng, leader)
        struck = await fault.strike(scene)
        leader = await self._cluster.in_sync()
        synced_at = time.monotonic()
        await self._acknowledging(struck.at)
        await asyncio.sleep(max(0.0, struck.at + SETTLING_SECONDS - time.monotonic()))
        await asyncio.wait_for(self._load.pause(), 30.0)
        findings = list(struck.flaws)
        findings += self._unserved(struck, begun)
        findings += await check_books(self._cluster, self._told, [*caps, BIG])
        findings += await self._watch.check(leader)
        findings += await check_link(self._deployment)
        gaps = {kind: self._told.gap(kind, struck.at, synced_at) for kind in KINDS}
        return Outcome(
            fault=fault.name,
            gaps={kind: gap.seconds for kind, gap in gaps.items()},
            why=self._why(fault, struck, gaps),
            sync=synced_at - struck.healed_at,
            findings=findings,
        )

    async def _acknowledging(self, since: float) -> None:
        async with asyncio.timeout(30.0):
            while not self._told.is_acknowledging(since):  # noqa: ASYNC110  # clients know no waiters
                await asyncio.sleep(0.005)

    def _why(self, fault: Fault, struck: Struck, gaps: Mapping[str, Gap]) -> list[str]:
        """What nodes logged around each gap that is longer than it should be."""
        found: list[str] = []
        for kind, gap in gaps.items():
            if fault.gap is not None and gap.seconds > fault.gap[1]:
                directory, until = self._deployment.directory, gap.since + gap.seconds
                lines = lines_of(directory, struck.at - EARLIER_SECONDS, until)
                began_ms = (gap.since - struck.at) * 1000
                head = f"no {kind} for {gap.seconds * 1000:.0f} ms, from {began_ms:+.0f} ms after"
                why, *rest = told(gap, struck.at, lines)
                found += [f"{head} {fault.name}: {why}", *rest]
        return found

    def _unserved(self, struck: Struck, since: float) -> Findings:
        found: Findings = []
        for server in range(SERVERS):
            if server not in struck.excused:
                found += check_served(self._told, server, since, time.monotonic())
        return found
