"""A master begins from its log: at its start, and when it is deposed in the middle of something."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.primary import PATIENCE_SECONDS, SECRET
from vcap_es.adapters.http.callers import RANDOM_BYTES, create_key
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.links.send_queue import PATH
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.storage.ballots import MemoryBallots
from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import Define
from vcap_es.components.decisions.primacy import Config, master_id, witness_id
from vcap_es.components.master.outputs import Elsewhere
from vcap_es.components.messages.encoding import encode
from vcap_es.components.messages.master import Greeting, Refusal
from vcap_es.components.messages.server import PROTOCOL
from vcap_es.events.chain import Stored
from vcap_es.events.facts import Definition
from vcap_es.events.logs.memory import MemoryLog


class SlowLog(MemoryLog):
    """A log in memory that can be made to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_free = asyncio.Event()
        self.is_free.set()

    async def copy(self, entries: Sequence[Stored], committed: int) -> None:
        """Like a disk that is busy."""
        await self.is_free.wait()
        await super().copy(entries, committed)


async def deposed(url: str, epoch: int) -> None:
    """Tell the master there, as another one, that a higher epoch than its own was promised."""
    greeting = Greeting(
        protocol=PROTOCOL, node=master_id(1, "1" * 32), slot=1, name="m1", address="", stamp=1
    )
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with connect(f"{url.replace('http', 'ws')}{PATH}", additional_headers=headers) as line:
        await line.send(encode(greeting))
        await line.send(encode(Refusal(epoch=epoch, promised=epoch + 100)))
        with suppress(ConnectionClosed):
            while True:
                await line.recv()


def test_who_asks_while_a_master_begins_anew_is_told_to_ask_again() -> None:
    """Calls are answered 503 meanwhile, the old life's loose ends fail nobody, and it goes on."""

    async def check() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: failures.append(told))
        log = SlowLog()
        node = MasterNode(log, dc="dc1", name="m0", secret=SECRET)
        async with (
            node,
            serving(control_app(node), host="127.0.0.1", port=0, websockets=True) as port,
        ):
            made = await create_key(node, role="admin", scopes=["*"], random=bytes(RANDOM_BYTES))
            assert not isinstance(made, Denied)
            headers = {"Authorization": f"Bearer {made[1]}"}
            url = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
                # Given a change that is under way
                log.is_free.clear()
                command = Define(cap="a", definition=Definition(total=1))
                change = asyncio.create_task(node.submit(command, actor="op", correlation=""))
                await asyncio.sleep(0)
                # When it is deposed
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await deposed(url, node.core.epoch)
                # Then everybody is told to ask again
                for path in ("/v1/caps", "/v1/nodes"):
                    answer = await http.get(path)
                    assert (answer.status_code, answer.json()["retry"]) == (503, True), path
                assert "begins anew" in (await http.get("/readyz?verbose")).text
                assert isinstance(await change, Elsewhere)
                # And when the disk has done what it was at, all is well
                log.is_free.set()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not (await http.get("/readyz")).is_success:  # noqa: ASYNC110  # over HTTP
                        await asyncio.sleep(0.01)
                assert (await http.get("/v1/caps")).is_success
        assert not failures

    asyncio.run(check())


def test_what_was_only_proposed_alone_is_not_taken_for_committed() -> None:
    """Who proposed to go on alone may not have been heard: the other may have decided otherwise."""

    async def check() -> None:
        # Given a log of which the last events are not known to be committed
        whole, log = MemoryLog(), MemoryLog()
        async with MasterNode(whole, dc="dc1", name="m0", secret=SECRET):
            entries = await whole.read_stored(limit=1000)
        known = len(entries) - 1
        await log.copy(entries, known)
        # And the ballot of a master that last accepted its own proposal, one of three voters
        node = master_id(0, "0" * 32)
        voters = (node, master_id(1, "1" * 32), witness_id("s1", "2" * 32))
        config = Config(2, 3, node, isr=(node,), voters=voters)
        ballots = MemoryBallots()
        ballots.keep(Ballot(node=node, start=1, promised=2, config=config, committed=known))
        # When it starts
        async with MasterNode(log, dc="dc1", name="m0", secret=SECRET, ballots=ballots) as master:
            # Then
            assert master.durable == known

    asyncio.run(check())
