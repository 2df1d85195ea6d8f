"""A line between two nodes: one WebSocket, whoever made it, and speaking in both directions."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from vcap_es.adapters.links.send_queue import POLICY_VIOLATION, SendQueue

REASON_BYTES_MAX = 120

log = structlog.get_logger()


class LineClosed(Exception):
    """The other side of a line is gone."""


class LineRefused(Exception):
    """Who hears will not speak with the other side of a line; says why."""


class Link(Protocol):
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


class AcceptedLink:
    """A line that the other side made."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    @property
    def address(self) -> str:
        """See `SendQueue`."""
        return str(self._socket.client)

    async def send(self, data: bytes) -> None:
        """See `SendQueue`."""
        try:
            await self._socket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise LineClosed from error

    async def receive(self) -> bytes:
        """See `SendQueue`."""
        try:
            return await self._socket.receive_bytes()
        except (WebSocketDisconnect, RuntimeError) as error:
            raise LineClosed from error

    async def close(self, reason: str) -> None:
        """See `SendQueue`."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(POLICY_VIOLATION, reason[:REASON_BYTES_MAX])


class DialledLink:
    """A line that we made."""

    def __init__(self, connection: ClientConnection, address: str) -> None:
        self._connection = connection
        self.address, self._reason = address, ""

    async def send(self, data: bytes) -> None:
        """See `SendQueue`."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise LineClosed from error

    async def receive(self) -> bytes:
        """See `SendQueue`."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise LineClosed from error

    async def close(self, reason: str) -> None:
        """See `SendQueue`."""
        self._reason = reason
        await self._connection.close(POLICY_VIOLATION, reason[:REASON_BYTES_MAX])

    @property
    def refusal(self) -> str:
        """Why one side closed it, "" where none said."""
        refused = self._connection.close_code == POLICY_VIOLATION
        return self._reason or (self._connection.close_reason or "" if refused else "")


async def speak(line: Link, link: SendQueue, hear: Callable[[bytes], None]) -> None:
    """Send what is posted on `link`, and let what comes be heard, until the line ends.

    What is not understood ends it, telling the other side so; `hear` may raise `LineRefused`.
    """
    tasks = (
        asyncio.create_task(_receive(line, hear)),
        asyncio.create_task(_send(link)),
    )
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if link.is_overrun:
            # It may come again. Closing politely would wait for it, like everything sent.
            log.warning("a node is too slow", address=line.address)
        else:
            await tasks[0]
    finally:
        for task in tasks:
            task.cancel()


async def _receive(line: Link, hear: Callable[[bytes], None]) -> None:
    try:
        while True:
            hear(await line.receive())
    except LineClosed:
        pass  # the other side is gone: that is what the end of a line looks like
    except msgspec.DecodeError as error:
        log.warning("a node speaks what is not understood", error=str(error))
        await line.close(f"this is not understood: {error}")
    except LineRefused as refusal:
        await line.close(str(refusal))


async def _send(link: SendQueue) -> None:
    """Send what is posted, for as long as there is somebody; who receives learns of the end."""
    with suppress(LineClosed):
        await link.run()
