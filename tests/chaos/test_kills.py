"""Nodes are killed at random under load, and the books must be exact every time."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx2

from tests.support.deployment import Deployment, deployed, eventually

KILLS = 50
TOTAL = 3_000
CALLERS = 6
SERVERS = 3


class Load:
    """Clients that consume as fast as they are answered, and write down each yes."""

    def __init__(self, deployment: Deployment, key: str, rng: random.Random) -> None:
        self._deployment = deployment
        self._headers = {"Authorization": f"Bearer {key}"}
        self._rng = rng
        self.ranges: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        self.consumed: dict[str, int] = defaultdict(int)
        self.answers: dict[int, int] = defaultdict(int)

    async def caller(self, caps: list[str], stop: asyncio.Event) -> None:
        """One client."""
        async with httpx2.AsyncClient(headers=self._headers, timeout=5.0) as client:
            while not stop.is_set():
                url = self._rng.choice(self._deployment.server_urls)
                cap, amount = self._rng.choice(caps), self._rng.randint(1, 3)
                try:
                    path = f"{url}/v1/caps/{cap}/consume"
                    response = await client.post(path, json={"amount": amount})
                except httpx2.TransportError:
                    await asyncio.sleep(0.02)
                    continue
                self.answers[response.status_code] += 1
                if response.is_success:
                    self._write_down(cap, response.json())
                elif response.status_code != 429:
                    await asyncio.sleep(0.01)

    def _write_down(self, cap: str, answer: dict[str, object]) -> None:
        incarnation, _, rest = str(answer["id"]).partition(".")
        first, _, last = rest.rpartition(".")[2].partition("-")
        self.ranges[cap, incarnation].append((int(first), int(last)))
        self.consumed[cap] += int(str(answer["consumed"]))


@asynccontextmanager
async def under_load(load: Load, caps: list[str]) -> AsyncIterator[None]:
    """Callers at work."""
    stop = asyncio.Event()
    callers = [asyncio.create_task(load.caller(caps, stop)) for _ in range(CALLERS)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*callers)


def accounts(deployment: Deployment, cap: str) -> dict[str, dict[str, int]]:
    """What each server told of the current interval, by incarnation."""
    balances = deployment.control("GET", f"/v1/caps/{cap}/balances")
    interval = next(each for each in balances["intervals"] if not each["ended"])
    return {each["incarnation"]: each for each in interval["servers"]}


def check(deployment: Deployment, load: Load, cap: str) -> None:
    """No acked consume is lost, none is counted twice, and the total holds."""
    servers = accounts(deployment, cap)
    for (name, incarnation), ranges in load.ranges.items():
        if name != cap:
            continue
        ordered = sorted(ranges)
        for (_, last), (first, _) in pairwise(ordered):
            assert last <= first, f"two answers for the same units of {cap} at {incarnation}"
        assert servers[incarnation]["spent"] >= ordered[-1][1], "an acked consume was lost"
    spent = sum(each["spent"] - each["refunded"] for each in servers.values())
    assert load.consumed[cap] <= spent <= TOTAL


def test_fifty_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL of a server or the primary at random, fifty times: every book is exact."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with deployed(tmp_path, SERVERS) as deployment:
        # Given
        caps = [f"cap{number}" for number in range(5)]
        for cap in caps:
            deployment.control("PUT", f"/v1/caps/{cap}", {"total": TOTAL, "interval": "month"})
        load = Load(deployment, deployment.make_key(), rng)
        # When
        asyncio.run(_kill_under_load(deployment, load, caps, rng))
        # A server that stops while it has no master cannot tell what was spent there.
        eventually(
            lambda: len(deployment.control("GET", "/v1/nodes")["servers"]) == SERVERS,
            "the servers have found the primary again",
        )
        for index in range(SERVERS):
            deployment.stop_server(index)
        # Then
        for cap in caps:
            check(deployment, load, cap)
        deployment.verify()
        assert load.answers[200] > KILLS
        # And when the servers are there again, what was left can be had to the last unit.
        for index in range(SERVERS):
            deployment.start_server(index)
        for cap in caps:
            _drain(deployment, load, cap)
        deployment.verify()


async def _kill_under_load(
    deployment: Deployment, load: Load, caps: list[str], rng: random.Random
) -> None:
    async with under_load(load, caps):
        for _ in range(KILLS):
            before = load.answers[200] + load.answers[429]
            await asyncio.to_thread(
                eventually,
                lambda before=before: load.answers[200] + load.answers[429] > before + 5,
                "clients are answered",
            )
            await asyncio.sleep(rng.random() * 0.1)
            if rng.randrange(3) == 0:
                deployment.kill_primary()
                await asyncio.to_thread(deployment.start_primary)
            else:
                index = rng.randrange(SERVERS)
                deployment.kill_server(index)
                await asyncio.to_thread(deployment.start_server, index)


def _drain(deployment: Deployment, load: Load, cap: str) -> None:
    """One last caller gets all that is left, unit by unit, and then is told it is capped."""
    spent = sum(each["spent"] - each["refunded"] for each in accounts(deployment, cap).values())
    left = TOTAL - spent
    with httpx2.Client(headers=load._headers, timeout=5.0) as client:
        url = f"{deployment.server_urls[0]}/v1/caps/{cap}/consume"

        def capped() -> bool:
            nonlocal left
            response = client.post(url, json={"amount": 1})
            left -= response.is_success
            return response.status_code == 429

        eventually(lambda: any(capped() for _ in range(200)), f"{cap} is empty")
    assert left == 0
