"""Clients under whose calls masters and servers die; each call has an id and is said again.

Four kinds: writers change caps at the master; toppers consume of caps that are new, so that a
master must give each unit; takers share caps with few units until they are capped, and refund some;
and at each server somebody consumes steadily of a cap whose slices outlast any failover.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import httpx2

from tests.chaos.told import Told, Trouble
from tests.support.deployment import MISDIRECTED, Deployment

MASTER_SECONDS, SERVER_SECONDS = 0.4, 2.0
"""How long a client waits for an answer before it asks again, or elsewhere."""

RETRY_SECONDS = 0.005
LONG_SECONDS = 20.0
"""After so long without an answer a client says what it hears."""

BIG = "big"
BIG_TOTAL = 1_000_000_000
"""A slice is at least a 256th of it: hours of what is consumed here."""

TEMPLATE_TOTAL = 255
"""Below 256 units nothing is given ahead of need."""

SMALL_CAPS, SMALL_TOTAL = 8, 40
WRITERS = TAKERS = 3


class Load:
    """All clients. They begin paused."""

    def __init__(self, deployment: Deployment, told: Told, rng: random.Random) -> None:
        self.told = told
        self.small: list[str] = []
        """The caps that takers share now."""
        self._masters, self._servers = deployment.master_urls, deployment.server_urls
        self._rng = rng
        self._numbers = count(1)
        self._batches = count(1)
        self._open = asyncio.Event()
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx2.AsyncClient(trust_env=False, limits=limits)
        self._admin = {"Authorization": f"Bearer {deployment.admin_key}"}
        self._client = {"Authorization": f"Bearer {deployment.make_key()}"}
        self._tasks: list[asyncio.Task[None]] = []

    # ---- all of them

    async def start(self) -> None:
        """Define what is consumed, and let every client come; `resume` lets them begin."""
        await self.write("PUT", f"/v1/caps/{BIG}", {"total": BIG_TOTAL, "interval": "month"})
        terms = {"total": TEMPLATE_TOTAL, "interval": "month"}
        await self.write("PUT", "/v1/templates/new:*", terms)
        for server in range(len(self._servers)):
            await self._consume_until_told(server, BIG, 1)
        clients = [(self._write_one(), 0.03) for _ in range(WRITERS)]
        clients += [(self._top_at(server), 0.06) for server in range(len(self._servers))]
        clients += [(self._take_one, 0.04) for _ in range(TAKERS)]
        clients += [(self._steady_at(server), 0.03) for server in range(len(self._servers))]
        self._tasks = [asyncio.create_task(self._repeat(*each)) for each in clients]

    async def new_small_caps(self) -> list[str]:
        """Let takers share new caps from now on."""
        batch = next(self._batches)
        caps = [f"small{batch}.{number}" for number in range(SMALL_CAPS)]
        for cap in caps:
            terms = {"total": SMALL_TOTAL, "interval": "month"}
            await self.write("PUT", f"/v1/caps/{cap}", terms)
        self.small = caps
        return caps

    def resume(self) -> None:
        """Let clients call."""
        self._open.set()

    async def pause(self) -> None:
        """Let nobody begin a call, and wait until every call was answered."""
        self._open.clear()
        await asyncio.wait_for(self._idle.wait(), LONG_SECONDS)

    async def close(self) -> None:
        """Send all clients away."""
        for task in self._tasks:
            task.cancel()
        failed = [
            each
            for each in await asyncio.gather(*self._tasks, return_exceptions=True)
            if isinstance(each, Exception)
        ]
        await self._http.aclose()
        if failed:
            raise failed[0]

    async def _repeat(self, call: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            await self._open.wait()
            self._working += 1
            self._idle.clear()
            try:
                await call()
            finally:
                self._working -= 1
                if not self._working:
                    self._idle.set()
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.5))

    # ---- at the masters

    async def write(self, method: str, path: str, body: object) -> httpx2.Response:
        """Ask masters in turn, or who they say leads, until one has done it."""
        urls = iter(self._masters * 10_000)
        url = next(urls)
        while True:
            try:
                response = await self._http.request(
                    method, f"{url}{path}", json=body, headers=self._admin, timeout=MASTER_SECONDS
                )
            except httpx2.TransportError:
                url = next(urls)
            else:
                self.told.answers[response.status_code] += 1
                if response.is_success:
                    return response
                hint = response.json().get("primary")
                if response.status_code == MISDIRECTED and hint and hint != url:
                    url = hint
                    continue
                assert response.status_code in (MISDIRECTED, 401, 503), response.text
                url = next(urls)
            await asyncio.sleep(RETRY_SECONDS)

    def _write_one(self) -> Callable[[], Awaitable[None]]:
        cap, values = f"written{next(self._numbers)}", count(1)

        async def write_one() -> None:
            value = next(values)
            terms = {"total": 1, "interval": "month", "labels": {"value": str(value)}}
            await self.write("PUT", f"/v1/caps/{cap}", terms)
            self.told.wrote(cap, value)

        return write_one

    # ---- at the servers

    def _top_at(self, server: int) -> Callable[[], Awaitable[None]]:
        async def top() -> None:
            cap = f"new:{next(self._numbers)}"
            await self._consume_until_told(server, cap, 1)
            self.told.topped_up(cap)

        return top

    async def _take_one(self) -> None:
        cap, server = self._rng.choice(self.small), self._any_server()
        amount = self._rng.randint(1, 3)
        answer = await self._consume_until_told(server, cap, amount)
        if answer is None:
            return
        self.told.consumed[cap] += amount
        if self._rng.random() < 0.1:
            body = {"id": answer["id"]}
            refunded = await self._until_told(server, f"/v1/caps/{cap}/refund", body)
            assert refunded is not None, "a consume was told that is not known"
            self.told.consumed[cap] -= refunded["refunded"]

    def _steady_at(self, server: int) -> Callable[[], Awaitable[None]]:
        url = f"{self._servers[server]}/v1/caps/{BIG}/consume"

        async def consume() -> None:
            try:
                response = await self._http.post(
                    url, json={"amount": 1}, headers=self._client, timeout=SERVER_SECONDS
                )
            except httpx2.TransportError as error:
                self.told.unknown[BIG] += 1
                self._trouble(server, repr(error))
                return
            if response.is_success:
                self.told.consumed[BIG] += 1
                self.told.steady += 1
            else:
                self._trouble(server, response.text)

        return consume

    def _trouble(self, server: int, what: str) -> None:
        self.told.troubles.append(Trouble(time.monotonic(), server, what))

    def _any_server(self) -> int:
        return self._rng.randrange(len(self._servers))

    async def _consume_until_told(self, server: int, cap: str, amount: int) -> Any:
        answer = await self._until_told(server, f"/v1/caps/{cap}/consume", {"amount": amount})
        if answer is not None and cap == BIG:
            self.told.consumed[BIG] += amount
        return answer

    async def _until_told(self, server: int, path: str, body: object) -> Any:
        """Say it again with the same key, until that server says yes, or that it is capped."""
        headers = {**self._client, "Idempotency-Key": f"call-{next(self._numbers)}"}
        while True:
            try:
                response = await self._http.post(
                    f"{self._servers[server]}{path}",
                    json=body,
                    headers=headers,
                    timeout=SERVER_SECONDS,
                )
            except httpx2.TransportError:
                pass
            else:
                self.told.answers[response.status_code] += 1
                if response.is_success:
                    return response.json()
                code = response.json()["code"]
                if code == "capped":
                    return None
                assert code == "unavailable", response.text
            await asyncio.sleep(RETRY_SECONDS)
