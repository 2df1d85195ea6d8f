"""Five servers, one cap, random callers until nobody gets any more: exact, and nothing stranded."""

import asyncio
from pathlib import Path
from random import Random

import httpx2

from tests.support.deployment import PATIENT, Deployment, deployed
from tests.support.people import Caller, define, drain, settled

SERVERS, CALLERS, TOTAL = 5, 12, 10_000


def test_the_last_unit_is_served_and_not_one_more(tmp_path: Path) -> None:
    """10,000 units asked for at random servers in random amounts: consumed are 10,000."""
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    with deployed(tmp_path, SERVERS, PATIENT) as deployment:
        # Given
        define(deployment, "all", TOTAL)
        key = deployment.make_key()
        # When
        consumed = asyncio.run(_consume_all(deployment, key, seed))
        # Then: each caller was refused a single unit, and no unit was left anywhere.
        assert consumed == TOTAL
        caller = Caller(deployment, key)
        assert drain(caller, "all", range(SERVERS)) == 0
        caller.close()
        found = settled(deployment, "all", spent=TOTAL)
        assert (found["available"], found["held"]) == (0, 0)
        deployment.verify()


async def _consume_all(deployment: Deployment, key: str, seed: int) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=10.0) as client:
        callers = [_caller(client, deployment, Random(seed + each)) for each in range(CALLERS)]
        return sum(await asyncio.gather(*callers))


async def _caller(client: httpx2.AsyncClient, deployment: Deployment, random: Random) -> int:
    """Ask for less and less where it is refused, until a single unit is; gives what it got."""
    consumed, most = 0, 40
    while True:
        amount = random.randint(1, most)
        url = f"{random.choice(deployment.server_urls)}/v1/caps/all/consume"
        answer = await client.post(url, json={"amount": amount})
        if answer.status_code == 200:
            consumed += answer.json()["consumed"]
        elif answer.status_code == 429 and amount == 1:
            return consumed
        else:
            assert answer.status_code == 429, answer.text
            most = amount
