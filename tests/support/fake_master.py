"""A master as a server's links see it: it says what a test wants, over a real WebSocket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from vcap_es.components.messages.encoding import AtMaster, AtServer, decode_at_master, encode
from vcap_es.components.messages.master import Greeting, Leading
from vcap_es.components.messages.server import PROTOCOL, Hello

T = TypeVar("T", bound=Struct)
HOST = "127.0.0.1"
PATIENCE_SECONDS = 20


class FakeMaster:
    """Takes links, keeps what it hears, and says nothing by itself."""

    def __init__(self, slot: int = 0) -> None:
        self.node, self.slot = f"m{slot}-{'0' * 32}", slot
        self.heard: list[AtMaster] = []
        self.port = 0
        self._links: list[ServerConnection] = []
        self._server: Server | None = None
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{HOST}:{self.port}"

    @property
    def links(self) -> int:
        """How many links are open."""
        return len(self._links)

    async def start(self) -> None:
        """Take links, at the port of the last time, if there was one."""
        self._server = await serve(self._serve, HOST, self.port, compression=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Break all links and take no more."""
        assert self._server is not None
        for link in self._links:
            link.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, link: ServerConnection) -> None:
        self._links.append(link)
        self._news.set()
        try:
            with suppress(ConnectionClosed):
                while True:
                    self.heard.append(decode_at_master(await link.recv(decode=False)))
                    self._news.set()
        finally:
            self._links.remove(link)
            self._news.set()

    # ---- what it says and hears

    async def say(self, *messages: AtServer) -> None:
        """Say this on the newest link, once the server has said hello on it."""
        await self.until(lambda: bool(self._links) and bool(self.all_of(Hello)))
        for message in messages:
            await self._links[-1].send(encode(message))

    async def greet(self) -> None:
        """Introduce itself."""
        await self.say(
            Greeting(
                protocol=PROTOCOL,
                node=self.node,
                slot=self.slot,
                name=f"m{self.slot}",
                address=self.url,
                stamp=1,
            )
        )

    async def lead(self, epoch: int) -> None:
        """Say that it leads this epoch."""
        await self.say(Leading(epoch=epoch, node=self.node))

    def all_of(self, kind: type[T]) -> list[T]:
        """Everything of one kind that was heard."""
        return [each for each in self.heard if isinstance(each, kind)]

    async def next(self, kind: type[T]) -> T:
        """The first of that kind from now on."""
        before = len(self.all_of(kind))
        await self.until(lambda: len(self.all_of(kind)) > before)
        return self.all_of(kind)[before]

    async def hears(self, kind: type[Struct], count: int = 1) -> None:
        """Wait until it has heard so many of that kind."""
        await self.until(lambda: len(self.all_of(kind)) >= count)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something has been heard, or a link made or lost, that makes it true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def fake_masters(count: int) -> AsyncIterator[list[FakeMaster]]:
    """Masters that take links."""
    async with AsyncExitStack() as stack:
        masters = [FakeMaster(slot) for slot in range(count)]
        for each in masters:
            await each.start()
            stack.push_async_callback(each.stop)
        yield masters
