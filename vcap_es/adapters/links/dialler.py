"""Dialling: a line to each address that is wanted, made again whenever it ends."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from time import monotonic
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from vcap_es.adapters.links.link import DialledLink, Link
from vcap_es.adapters.links.send_queue import MESSAGE_BYTES_MAX, PATH

REDIAL_SECONDS = (0.02, 0.5)
"""The pause before an address is dialled again: at first, and after many times."""

GONE_SECONDS = 60.0
SLOW_SECONDS = 5.0
"""After this many seconds of an address without a node, while others answer, pauses get longer."""

LOOK_SECONDS = 0.1
CONNECT_SECONDS = 0.5
"""A machine that is there answers sooner; one that does not is tried anew.

The network would try again after one second, three and seven, which is long for a witness that has
just come back into reach.
"""

OPEN_SECONDS = 2.0
"""Seconds that a busy node may take to open a link on a connection; then it is closed."""

PING_SECONDS = 5.0
"""A peer whose machine is gone is given up after twice that, as those who accept lines do."""

log = structlog.get_logger()


class Patience:
    """How long to wait before an address is dialled again. Instants are of a steady clock."""

    def __init__(self, now_s: float) -> None:
        self._pause_s, self._seen_s = REDIAL_SECONDS[0], now_s

    def pause_s(self, begun_s: float, now_s: float, *, was_linked: bool, has_others: bool) -> float:
        """After dialling since `begun_s`; `has_others` while other addresses are linked.

        A line that did not last is no reason to hurry.
        """
        if was_linked:
            self._seen_s = now_s
        if was_linked and now_s - begun_s > REDIAL_SECONDS[1]:
            self._pause_s = REDIAL_SECONDS[0]
        else:
            is_gone = has_others and now_s - self._seen_s > GONE_SECONDS
            longest_s = SLOW_SECONDS if is_gone else REDIAL_SECONDS[1]
            self._pause_s = min(2 * self._pause_s, longest_s)
        return self._pause_s


class Dialler:
    """Keeps a line to each address that is wanted, which may change at any time."""

    def __init__(
        self,
        secret: str,
        *,
        wanted: Callable[[], set[str]],
        serve: Callable[[Link], Awaitable[None]],
    ) -> None:
        """Give each line to `serve`, which returns when it has ended."""
        self._secret = secret
        self._wanted, self._serve = wanted, serve
        self._open = 0
        self.troubles: dict[str, str] = {}

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
                    self.troubles.pop(address, None)
                await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self, address: str) -> None:
        """Dial one address again and again, less often while nobody is there."""
        patience = Patience(monotonic())
        while True:
            begun_s = monotonic()
            trouble, is_absent = await self._dial(address)
            if trouble and trouble != self.troubles.get(address):
                tell = log.info if is_absent else log.warning
                tell("no link", master=address, reason=trouble)
            self.troubles[address] = trouble
            pause_s = patience.pause_s(
                begun_s, monotonic(), was_linked=not trouble, has_others=self._open > 0
            )
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads redialling, hides nothing
            while address not in self._wanted():  # noqa: ASYNC110  # what is wanted is asked for, and tells nobody
                await asyncio.sleep(LOOK_SECONDS)

    async def _dial(self, address: str) -> tuple[str, bool]:
        """Speak on one line until it ends: why there was none, and whether nobody was there.

        The reason is "" where there was one.
        """
        url = f"{address.replace('http', 'ws', 1)}{PATH}"
        try:
            connection = await _connection_to(address)
            async with connect(
                url,
                sock=connection,
                additional_headers={"Authorization": f"Bearer {self._secret}"},
                max_size=MESSAGE_BYTES_MAX,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=OPEN_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
            ) as opened:
                line = DialledLink(opened, address)
                await self._speak(line)
                return line.refusal, False
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            # A ValueError: what another node gave for its address is none.
            return _why(error), isinstance(error, OSError)

    async def _speak(self, line: Link) -> None:
        self._open += 1
        try:
            await self._serve(line)
        finally:
            self._open -= 1


async def _connection_to(url: str) -> socket.socket:
    """A connection to the node at `url`. Raises OSError where nobody answers soon."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url} names no host")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    failed: OSError = OSError(f"{parts.hostname} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        parts.hostname, port, type=socket.SOCK_STREAM
    ):
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(made, address)
        except OSError as error:  # a TimeoutError is one
            made.close()
            failed = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failed


def _why(error: Exception) -> str:
    """Why no line could be made, in words."""
    if isinstance(error, InvalidStatus) and error.response.status_code == 403:
        return "this node secret is refused there"
    return str(error) or type(error).__name__
