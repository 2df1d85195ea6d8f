"""The link between a master and a server: MessagePack messages over one WebSocket.

A message posted is sent in order or not at all; when the connection is gone, that is news.
"""

import asyncio
from collections.abc import Awaitable, Callable

from vcap_es.components.messages.encoding import AtMaster, AtServer, encode

QUEUE_MAX = 10_000
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
PATH = "/v1/link"
POLICY_VIOLATION = 1008
"""The WebSocket close code of a master that refuses a server; the reason says why."""


class SendQueue:
    """The sending side of a connection, fed by plain code that does not wait."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """`send` carries one message, and waits while the other side is slow."""
        self._send = send
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MAX)
        self._running: asyncio.Task[None] | None = None
        self.is_overrun = False

    def post(self, message: AtMaster | AtServer) -> None:
        """Send a message soon. A peer too slow for a whole queue is given up."""
        self._put(encode(message))

    def finish(self) -> None:
        """Let `run` return when everything posted before is sent."""
        self._put(None)

    def _put(self, data: bytes | None) -> None:
        try:
            self._queue.put_nowait(data)
        except asyncio.QueueFull:
            self.is_overrun = True
            if self._running is not None:
                self._running.cancel()  # it may wait in a send that never ends

    async def run(self) -> None:
        """Send what is posted, until `finish`, an overrun, or an error of the connection."""
        self._running = asyncio.current_task()
        try:
            while not self.is_overrun and (data := await self._queue.get()) is not None:
                await self._send(data)
        except asyncio.CancelledError:
            if not self.is_overrun:
                raise
        finally:
            self._running = None
