"""uvicorn as a part of a node: no signal handlers, no output, a bounded end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ssl import SSLContext
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vcap_es.adapters.http.bounded_protocol import (
    BoundedConfig,
    BoundedProtocol,
    ConnectionLimiter,
    ProtocolBounds,
)

BACKLOG = 2048
STOP_SECONDS = 5
PING_SECONDS = 5.0
"""A peer whose machine is gone is given up after twice this; until then its successor waits."""

Speaking = Callable[[dict[str, Any]], BoundedConfig]
"""Makes the configuration of a protocol out of uvicorn's settings."""


def bounded(settings: dict[str, Any]) -> BoundedConfig:
    """HTTP with bounds on what a stranger can make it do."""
    return BoundedConfig(http=BoundedProtocol, **settings)


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    speaking: Speaking = bounded,
    websockets: bool = False,
    bounds: ProtocolBounds | None = None,
    tls: SSLContext | None = None,
    stop_seconds: int = STOP_SECONDS,
) -> AsyncIterator[int]:
    """Serve `app` at `host` and `port` inside the context; gives the port that was bound (of 0).

    `speaking` makes the configuration of its protocol. At the end, requests under way get
    `stop_seconds` to finish. Raises OSError where it cannot bind.
    """
    doorkeeper = ConnectionLimiter(bounds or ProtocolBounds())
    settings: dict[str, Any] = {
        "app": app,
        "ws_per_message_deflate": False,
        "ws": "websockets-sansio" if websockets else "none",
        "ws_ping_interval": PING_SECONDS,
        "ws_ping_timeout": PING_SECONDS,
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "backlog": BACKLOG,
        "timeout_graceful_shutdown": stop_seconds,
        "ssl_context_factory": None if tls is None else lambda *_: tls,
    }
    config = speaking(settings)
    config.doorkeeper = doorkeeper
    listening = _bind(host, port)
    server = _EmbeddedServer(config)
    bound_port = listening.getsockname()[1]
    running = asyncio.create_task(server.serve([listening]), name=f"HTTP at {host}:{bound_port}")
    try:
        await server.listens(running)
        yield bound_port
    finally:
        server.stop()
        try:
            await running
        finally:
            listening.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    bound.setblocking(False)
    # Connections inherit it. asyncio sets it only on sockets that were made with IPPROTO_TCP, and
    # a body written after its head would wait 40 ms for the other side's acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


class _EmbeddedServer(Server):
    """uvicorn's server, told to stop by its owner and by no signal."""

    def __init__(self, config: BoundedConfig) -> None:
        super().__init__(config)
        self._is_listening = asyncio.Event()
        self._is_stopping = asyncio.Event()

    async def listens(self, running: asyncio.Task[None]) -> None:
        """Wait until connections are taken; raises what ended `running` before that."""
        listening = asyncio.create_task(self._is_listening.wait())
        await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if running.done():
            running.result()

    def stop(self) -> None:
        """Take no more connections, and end when those that are open had their chance."""
        self.should_exit = True
        self._is_stopping.set()

    async def main_loop(self) -> None:
        """Keep the date of the answers right, until it stops."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), timeout=1)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise RuntimeError("the application did not start: its log says why") from error
        self._is_listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.transport.abort()
