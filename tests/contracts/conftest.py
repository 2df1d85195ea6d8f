"""The fixtures of the contract suite: a scenario runs on every adapter."""

import asyncio
from pathlib import Path

import pytest

from tests.support.adapters import KEPT, OPENERS, Opener, Run, Scenario, opened


@pytest.fixture(params=OPENERS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a scenario on an empty log of each adapter."""

    async def within(scenario: Scenario) -> None:
        async with opened(OPENERS[request.param], tmp_path) as log, asyncio.timeout(60):
            await scenario(log)

    return lambda scenario: asyncio.run(within(scenario))


@pytest.fixture(params=KEPT)
def kept(request: pytest.FixtureRequest) -> Opener:
    """Opens the log of each adapter that keeps its events."""
    return KEPT[request.param]
