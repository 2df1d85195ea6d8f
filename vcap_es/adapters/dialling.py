"""Connections between masters: one kind of line, whoever made it, and the dialling of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from vcap_es.adapters.link import MESSAGE_BYTES_MAX, PATH, POLICY_VIOLATION

REDIAL_SECONDS = (0.02, 0.5)
LOOK_SECONDS = 0.1
OPEN_SECONDS = 2.0
REASON_BYTES_MAX = 120

log = structlog.get_logger()


class LineClosed(Exception):
    """The other side of a line is gone."""


class Line(Protocol):
    """One connection, however it came to be."""

    @property
    def address(self) -> str:
        """Who is at the other end, for people."""
        ...

    async def send(self, data: bytes) -> None:
        """Send one message; raises LineClosed where nobody is there."""
        ...

    async def receive(self) -> bytes:
        """The next message; raises LineClosed where there will be none."""
        ...

    async def close(self, reason: str) -> None:
        """Close it, telling the other side why, unless it is gone already."""
        ...


class Accepted:
    """A line that the other side made."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    @property
    def address(self) -> str:
        """See `Line`."""
        return str(self._socket.client)

    async def send(self, data: bytes) -> None:
        """See `Line`."""
        try:
            await self._socket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise LineClosed from error

    async def receive(self) -> bytes:
        """See `Line`."""
        try:
            return await self._socket.receive_bytes()
        except (WebSocketDisconnect, RuntimeError) as error:
            raise LineClosed from error

    async def close(self, reason: str) -> None:
        """See `Line`."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(POLICY_VIOLATION, reason[:REASON_BYTES_MAX])


class Dialled:
    """A line that we made."""

    def __init__(self, connection: ClientConnection, address: str) -> None:
        self._connection = connection
        self.address = address

    async def send(self, data: bytes) -> None:
        """See `Line`."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise LineClosed from error

    async def receive(self) -> bytes:
        """See `Line`."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise LineClosed from error

    async def close(self, reason: str) -> None:
        """See `Line`."""
        await self._connection.close(POLICY_VIOLATION, reason[:REASON_BYTES_MAX])

    @property
    def refusal(self) -> str:
        """Why the other side closed it, "" where it did not say."""
        refused = self._connection.close_code == POLICY_VIOLATION
        return self._connection.close_reason or "" if refused else ""


class Dialler:
    """Keeps a line to each address that is wanted, which may change at any time."""

    def __init__(
        self,
        secret: str,
        *,
        wanted: Callable[[], set[str]],
        serve: Callable[[Line], Awaitable[None]],
    ) -> None:
        """Give each line to `serve`, which returns when it has ended."""
        self._secret = secret
        self._wanted, self._serve = wanted, serve
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Dial for as long as this runs."""
        async with asyncio.TaskGroup() as group:
            dialled: dict[str, asyncio.Task[None]] = {}
            while True:
                wanted = self._wanted()
                for address in wanted - dialled.keys():
                    dialled[address] = group.create_task(self._keep(address))
                for address in dialled.keys() - wanted:
                    dialled.pop(address).cancel()
                await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self, address: str) -> None:
        """Dial one address again and again, less often while nobody is there."""
        delay_s = REDIAL_SECONDS[0]
        while True:
            trouble, was_linked = await self._dial(address)
            if trouble and trouble != self._told.get(address):
                log.warning("no link", master=address, reason=trouble)
            self._told[address] = trouble
            delay_s = REDIAL_SECONDS[0] if was_linked else min(2 * delay_s, REDIAL_SECONDS[1])
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads redialling, hides nothing

    async def _dial(self, address: str) -> tuple[str, bool]:
        """Speak on one line until it ends: why there was none, and whether there was one."""
        url = f"{address.replace('http', 'ws', 1)}{PATH}"
        try:
            async with connect(
                url,
                additional_headers={"Authorization": f"Bearer {self._secret}"},
                max_size=MESSAGE_BYTES_MAX,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=OPEN_SECONDS,
            ) as connection:
                line = Dialled(connection, address)
                await self._serve(line)
                return line.refusal, not line.refusal
        except (OSError, WebSocketException, TimeoutError) as error:
            return str(error) or type(error).__name__, False
