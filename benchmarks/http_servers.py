"""The servers that `benchmarks.http` measures: a master, a volumecap server, and three ways in.

Run as a process of its own: `python -m benchmarks.http_servers FOLDER`. It writes one JSON line,
the ports and an API key, and serves until its standard input ends.
"""

import asyncio
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_bytes
from typing import Any

import uvicorn
import uvloop

from benchmarks.logs import open_log
from vcap_es import telemetry
from vcap_es.adapters.http.callers import create_key
from vcap_es.adapters.http.client_plane.app import client_app
from vcap_es.adapters.http.client_plane.fast_lane import fast_lane
from vcap_es.adapters.http.client_plane.plane import TAKERS, ClientPlane, consumed_json
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.request_bodies import AMOUNT_BODY
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.decisions.meta import Define
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.events.facts import Definition

CAP = "bench"
TOTAL = 2**62
HOST = "127.0.0.1"
SECRET = "0123456789abcdef" * 4


async def serve(folder: Path) -> None:
    """Serve one server's slices through the fast lane, as plain ASGI, and as the application."""
    async with AsyncExitStack() as stack:
        events = await stack.enter_async_context(open_log(folder / "log.sqlite"))
        master = MasterNode(events, dc="dc1", name="primary", secret=SECRET)
        await stack.enter_async_context(master)
        control = serving(control_app(master), host=HOST, port=0, websockets=True)
        master_port = await stack.enter_async_context(control)
        _, key = await create_key(master, role="client", scopes=[CAP], random=token_bytes(40))
        definition = Definition(total=TOTAL)
        await master.submit(Define(cap=CAP, definition=definition), actor="bench", correlation="")
        node = ServerNode(
            folder / "server", name="s1", masters=[f"http://{HOST}:{master_port}"], secret=SECRET
        )
        await stack.enter_async_context(node)
        await _until_it_serves(node)
        plane = ClientPlane(node)
        app = client_app(plane)
        ports = {
            "fast": await stack.enter_async_context(
                serving(app, host=HOST, port=0, speaking=fast_lane(plane))
            ),
            "application": await stack.enter_async_context(serving(app, host=HOST, port=0)),
            "asgi": await _serve_plainly(stack, plane),
        }
        print(json.dumps({"ports": ports, "key": key}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _until_it_serves(node: ServerNode) -> None:
    first = Consume(cap=CAP, minimum=1, maximum=1)

    def is_taken(answer: object) -> bool:
        return node.ready_keys and isinstance(answer, Consumed)

    while not is_taken(await node.submit(first)):  # noqa: ASYNC110  # a node tells nobody when it hears its keys
        await asyncio.sleep(0.01)


class PlainHandler:
    """What the fast lane does, as an ASGI application: the same checks, the same answer."""

    _path = re.compile(r"/v1/caps/([A-Za-z0-9._:-]{1,128})/consume")

    def __init__(self, plane: ClientPlane) -> None:
        self._plane = plane
        self._server = plane.node.incarnation.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one consume."""
        plane = self._plane
        path = self._path.fullmatch(scope["path"])
        assert path is not None
        assert scope["method"] == "POST"
        client = plane.callers.find(dict(scope["headers"]).get(b"authorization", b""))
        assert client is not None
        assert client.role in TAKERS
        assert plane.allows(client, path[1])
        body = b""
        is_more = True
        while is_more:
            message = await receive()
            body += message["body"]
            is_more = message["more_body"]
        amount = AMOUNT_BODY.fullmatch(body)
        assert amount is not None
        consumed = plane.node.consume_now(path[1], int(amount[1]))
        status, answer, fields = 503, b"", []
        if consumed is not None:
            policy, limit = plane.limit_fields(
                consumed.cap, consumed.remaining, consumed.total, consumed.resets_at
            )
            fields = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", limit.encode())]
            status, answer = 200, consumed_json(consumed).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"vcap-server", self._server),
            *fields,
            (b"content-length", b"%d" % len(answer)),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _serve_plainly(stack: AsyncExitStack, plane: ClientPlane) -> int:
    """The same handler on uvicorn as it comes."""
    config = uvicorn.Config(
        PlainHandler(plane),
        port=0,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    running = asyncio.create_task(server.main_loop())

    async def stop() -> None:
        server.should_exit = True
        await running
        await server.shutdown()

    stack.push_async_callback(stop)
    return int(server.servers[0].sockets[0].getsockname()[1])


if __name__ == "__main__":
    telemetry.configure("WARNING", node="bench", component="bench")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1])))
