"""A real primary master behind its real control plane, and real servers linked to it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from vcap_es.adapters.http.callers import RANDOM_BYTES, create_key
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import Fact
from vcap_es.events.facts.access import Role
from vcap_es.events.logs.sqlite import SqliteLog

SECRET = "0123456789abcdef" * 4
PATIENCE_SECONDS = 20.0
PATIENT = Limits(max_wait_ms=20_000)
"""A busy machine makes an answer late, never a test red."""

ROLES: tuple[Role, ...] = ("client", "auditor", "operator", "admin")


class Primary:
    """A running primary, with a key of each role that opens every cap."""

    def __init__(self, node: MasterNode, port: int) -> None:
        self.node, self.port = node, port
        self.url = f"http://127.0.0.1:{port}"
        self.keys: dict[str, str] = {}
        self.servers: list[ServerNode] = []
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=PATIENCE_SECONDS)
        self._made = 0

    async def make_key(self, role: Role, *scopes: str) -> str:
        """The text of a new key."""
        self._made += 1
        made = await create_key(
            self.node,
            role=role,
            scopes=list(scopes),
            random=self._made.to_bytes(RANDOM_BYTES, "little"),
        )
        assert not isinstance(made, Denied)
        return made[1]

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = "admin",
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """The answer to a call with the key of that role, with that key's text, or with none."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
            return await self.http.request(method, path, content=body, headers=sent)
        return await self.http.request(method, path, json=body, headers=sent)

    async def get(self, path: str, key: str = "auditor") -> Any:
        """The JSON that a call gives, which must succeed."""
        answer = await self.call("GET", path, key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def define(self, cap: str, **terms: object) -> Any:
        """The cap, defined by an operator, a day of 100 units unless `terms` say otherwise."""
        answer = await self.call("PUT", f"/v1/caps/{cap}", {"total": 100, **terms}, key="operator")
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def eventually(self, path: str, holds: Callable[[Any], bool]) -> Any:
        """The JSON at `path` as soon as it is so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(found := await self.get(path)):  # noqa: ASYNC110  # asks over HTTP
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def primary(
    directory: Path, servers: Sequence[str] = (), past: Sequence[Fact] = ()
) -> AsyncIterator[Primary]:
    """A primary with a log in `directory`, and servers of these names linked to it.

    The facts of the `past` are on the log before it starts.
    """
    async with AsyncExitStack() as stack:
        log = await SqliteLog.open(directory / "log.sqlite", synchronous="OFF")
        stack.push_async_callback(log.close)
        await log.append([_draft(index, fact) for index, fact in enumerate(past)], epoch=1)
        node = await stack.enter_async_context(MasterNode(log, dc="dc1", name="m1", secret=SECRET))
        port = await stack.enter_async_context(
            serving(control_app(node), host="127.0.0.1", port=0, websockets=True)
        )
        running = Primary(node, port)
        stack.push_async_callback(running.http.aclose)
        for role in ROLES:
            running.keys[role] = await running.make_key(role, "*")
        for name in servers:
            server = ServerNode(
                directory / name,
                name=name,
                masters=[f"http://127.0.0.1:{port}"],
                secret=SECRET,
                limits=PATIENT,
                synchronous=False,
            )
            running.servers.append(await stack.enter_async_context(server))
        if servers:
            await running.eventually("/v1/nodes", lambda each: len(each["servers"]) == len(servers))
        yield running


def _draft(index: int, fact: Fact) -> Draft:
    return Draft(
        event_id=b"past" + index.to_bytes(12, "big"),
        recorded_at=index,
        dc="dc1",
        actor="m1",
        correlation="",
        fact=fact,
    )


def with_primary(
    directory: Path,
    test: Callable[[Primary], Awaitable[None]],
    servers: Sequence[str] = (),
    past: Sequence[Fact] = (),
) -> None:
    """Run `test` against a primary that runs in the same event loop."""

    async def run() -> None:
        async with primary(directory, servers, past) as running:
            await test(running)

    asyncio.run(run())


@contextmanager
def primary_in_a_thread(directory: Path) -> Iterator[Primary]:
    """A primary for tools that wait in plain code."""
    started, end = threading.Event(), asyncio.Event()
    found: list[Primary] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with primary(directory) as running:
            await running.define("shop:a")
            found.append(running)
            loops.append(asyncio.get_running_loop())
            started.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS), "the primary did not start"
        yield found[0]
    finally:
        if loops:
            loops[0].call_soon_threadsafe(end.set)
        thread.join()
