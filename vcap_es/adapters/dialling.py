"""Dialling: a line to each address that is wanted, made again whenever it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from vcap_es.adapters.lines import MESSAGE_BYTES_MAX, PATH, Dialled, Line

REDIAL_SECONDS = (0.02, 0.5)
LOOK_SECONDS = 0.1
OPEN_SECONDS = 2.0

log = structlog.get_logger()


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
                await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self, address: str) -> None:
        """Dial one address again and again, less often while nobody is there."""
        delay_s = REDIAL_SECONDS[0]
        while True:
            trouble, was_linked = await self._dial(address)
            if trouble and trouble != self.troubles.get(address):
                log.warning("no link", master=address, reason=trouble)
            self.troubles[address] = trouble
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
            return _why(error), False


def _why(error: Exception) -> str:
    """Why no line could be made, in words."""
    if isinstance(error, InvalidStatus) and error.response.status_code == 403:
        return "this node secret is refused there"
    return str(error) or type(error).__name__
