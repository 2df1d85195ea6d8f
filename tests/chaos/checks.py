"""Whether the books and the logs say what clients were told. Each check gives its findings."""

import asyncio
import time
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.told import Told
from tests.support.deployment import Deployment
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import MetaChanged, MetaDefined, ToppedUp
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_reader import SqliteReader

PATIENCE_SECONDS = 20.0
CHUNK = 5_000
TERMS = ("available", "held", "spent", "expired", "unreported")

Findings = list[str]


# ---- the books


async def check_books(cluster: Cluster, told: Told, caps: list[str]) -> Findings:
    """The equation of each cap, and its spent units against what clients were told."""
    leader = await cluster.in_sync()
    found = await asyncio.gather(*(_check_cap(cluster, told, cap, leader) for cap in caps))
    return [finding for findings in found for finding in findings]


async def _check_cap(cluster: Cluster, told: Told, cap: str, leader: int) -> Findings:
    """Servers tell what was spent a while later; until then the books may lag."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        books = await cluster.balance(cap, leader)
        if books["total"] != sum(books[each] for each in TERMS):
            return [f"equation: {cap}: {books}"]
        least = told.consumed[cap]
        if least > books["total"]:
            return [f"overspend: {cap}: clients were told {least}, the books say {books}"]
        if least <= books["spent"] <= least + told.unknown[cap]:
            return []
        if time.monotonic() > deadline:
            return [f"books: {cap}: clients were told {least}, the books say {books}"]
        await asyncio.sleep(0.05)


# ---- the logs


class LogWatch:
    """Looks for every acknowledged event on the log of who leads now, as it grows."""

    def __init__(self, deployment: Deployment, told: Told) -> None:
        self._deployment, self._told = deployment, told
        self._after = 0
        self._values: dict[str, set[int]] = defaultdict(set)
        self._topped: set[str] = set()
        self._checked: dict[str, int] = defaultdict(int)
        self._checked_topped = 0
        self.acknowledged = 0

    async def check(self, leader: int) -> Findings:
        """What is new since the last time. Both masters are in sync, and nobody calls."""
        reader = await SqliteLog.open_reader(self._deployment.log_of(leader))
        try:
            while events := await reader.read(self._after, limit=CHUNK):
                for event in events:
                    self._note(event)
                self._after = events[-1].position
        finally:
            await reader.close()
        return [*self._lost_values(), *self._lost_topups()]

    def _note(self, event: Recorded) -> None:
        match event.fact:
            case (
                MetaDefined(cap=cap, definition=definition)
                | MetaChanged(cap=cap, definition=definition)
            ):
                self._values[cap].add(int(definition.labels.get("value", 0)))
            case ToppedUp(cap=cap):
                self._topped.add(cap)

    def _lost_values(self) -> Findings:
        found: Findings = []
        for cap, values in self._told.values.items():
            new = values[self._checked[cap] :]
            self._checked[cap] = len(values)
            self.acknowledged += len(new)
            found += [f"lost: {cap} = {each}" for each in new if each not in self._values[cap]]
        return found

    def _lost_topups(self) -> Findings:
        new = self._told.topped[self._checked_topped :]
        self._checked_topped += len(new)
        self.acknowledged += len(new)
        return [f"lost: the topup of {cap}" for cap in new if cap not in self._topped]


async def check_link(deployment: Deployment) -> Findings:
    """Both logs have the same link at the end of the shorter one, and so the same events."""
    readers = [await SqliteLog.open_reader(deployment.log_of(slot)) for slot in (0, 1)]
    try:
        position = min([(await each.head()).position for each in readers])
        ends = [await each.read_stored(position - 1, limit=1) for each in readers]
    finally:
        for each in readers:
            await each.close()
    if ends[0] != ends[1]:
        return [f"the logs differ at position {position}: {ends}"]
    return []


async def check_copies(first: Path, second: Path) -> tuple[int, Findings]:
    """Both logs are the same, event by event, as far as the shorter goes; how far that is."""
    readers = [await SqliteLog.open_reader(path) for path in (first, second)]
    try:
        return await _compared(*readers)
    finally:
        for each in readers:
            await each.close()


async def _compared(first: SqliteReader, second: SqliteReader) -> tuple[int, Findings]:
    position = 0
    end = min((await first.head()).position, (await second.head()).position)
    while position < end:
        limit = min(CHUNK, end - position)
        ours = await first.read_stored(position, limit=limit)
        theirs = await second.read_stored(position, limit=limit)
        for one, other in zip_longest(ours, theirs):
            if one != other:
                return position, [f"the logs differ behind position {position}: {one} {other}"]
            position = one.position
    return position, []


def check_soundness(deployment: Deployment) -> Findings:
    """Each log alone: every link of its chain, and every equation of its books."""
    found: Findings = []
    for slot in range(len(deployment.master_urls)):
        verified = deployment.vcap("verify", "--log", str(deployment.log_of(slot)))
        if verified.returncode:
            found.append(f"verify of master{slot}: {verified.stdout}{verified.stderr}")
    return found


def check_served(told: Told, server: int, since: float, until: float) -> Findings:
    """Clients of a cap whose slice sufficed were served by that server all the time."""
    return [
        f"server{each.server + 1} did not serve: {each.what}"
        for each in told.troubles
        if each.server == server and since <= each.at <= until
    ]
