"""Who leads, and who is in sync: a running deployment as its operators see it."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2

from tests.support.deployment import Deployment

ASK_SECONDS = 0.4
LOOK_SECONDS = 0.02
LOST_SECONDS = 60.0
"""Who is not in sync by then never will be."""

_TOLD = re.compile(r"primacy \w+ (leads|follows \w+ in) epoch (\d+), in sync(?:: (\d))?")


class View(NamedTuple):
    """What a master in sync says of itself: `partners` of a leader are how many are in sync."""

    epoch: int
    leads: bool
    slot: int
    partners: int


class NeverHealed(Exception):
    """The deployment did not come to what it must come to."""


class Cluster:
    """Two masters and their servers."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._http = httpx2.AsyncClient(trust_env=False, timeout=ASK_SECONDS)
        self._admin = {"Authorization": f"Bearer {deployment.admin_key}"}

    async def close(self) -> None:
        """Ask no more."""
        await self._http.aclose()

    async def leader(self) -> int:
        """The slot of who leads; waits until somebody does."""
        return await self._eventually(lambda views: bool(views) and views[0].leads)

    async def in_sync(self) -> int:
        """The slot of who leads, as soon as both masters say that they are in sync."""
        return await self._eventually(_are_in_sync)

    async def _eventually(self, condition: Callable[[list[View]], bool]) -> int:
        deadline = time.monotonic() + LOST_SECONDS
        while not condition(views := await self._views()):
            if time.monotonic() > deadline:
                raise NeverHealed(f"after {LOST_SECONDS} s masters say {views}")
            await asyncio.sleep(LOOK_SECONDS)
        return views[0].slot

    async def _views(self) -> list[View]:
        """What the masters in sync say, of the highest epoch, the leader first."""
        said = await asyncio.gather(*map(self._view, range(len(self.deployment.master_urls))))
        views = sorted((each for each in said if each), reverse=True)
        return [each for each in views if each.epoch == views[0].epoch]

    async def _view(self, slot: int) -> View | None:
        url = f"{self.deployment.master_urls[slot]}/readyz?verbose"
        try:
            told = _TOLD.search((await self._http.get(url)).text)
        except httpx2.TransportError:
            return None
        return View(int(told[2]), told[1] == "leads", slot, int(told[3] or 0)) if told else None

    async def is_ready(self, url: str) -> bool:
        """Whether the node there can serve."""
        try:
            return (await self._http.get(f"{url}/readyz")).is_success
        except httpx2.TransportError:
            return False

    async def servers_ready(self) -> None:
        """Wait until every server is linked to who leads."""
        deadline = time.monotonic() + LOST_SECONDS
        while not all([await self.is_ready(url) for url in self.deployment.server_urls]):
            if time.monotonic() > deadline:
                raise NeverHealed(f"servers not ready after {LOST_SECONDS} s")
            await asyncio.sleep(LOOK_SECONDS)

    async def balance(self, cap: str, leader: int) -> dict[str, Any]:
        """The books of the cap's current interval, at this master."""
        url = f"{self.deployment.master_urls[leader]}/v1/caps/{cap}/balances"
        response = await self._http.get(url, headers=self._admin, timeout=5.0)
        assert response.is_success, response.text
        return next(each for each in response.json()["intervals"] if not each["ended"])

    async def call(self, method: str, path: str, leader: int) -> httpx2.Response:
        """A call of the control plane at this master."""
        url = f"{self.deployment.master_urls[leader]}{path}"
        return await self._http.request(method, url, headers=self._admin, timeout=5.0)


def _are_in_sync(views: list[View]) -> bool:
    return len(views) == 2 and views[0].leads and views[0].partners == 2
