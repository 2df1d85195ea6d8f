"""Stays connected to a broker: connects again and again, more and more rarely while it fails."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from vcap_es.adapters.rabbitmq.connection import Broker, BrokerConnection
from vcap_es.errors import BrokerLost

PAUSE_SECONDS = (0.2, 10.0)

log = structlog.get_logger()


class Reconnection:
    """One wanted connection. `trouble` says why there is none; "" while it serves."""

    def __init__(
        self,
        name: str,
        broker: Broker,
        serve: Callable[[BrokerConnection, Callable[[], None]], Awaitable[None]],
    ) -> None:
        """`serve` uses a connection until it is lost, and says when it has all that it needs."""
        self.name, self.trouble = name, "not connected yet"
        self._broker, self._serve = broker, serve
        self._pause_s, self._told = PAUSE_SECONDS[0], ""

    async def run(self) -> None:
        """Connect and serve until it is cancelled."""
        while True:
            try:
                async with BrokerConnection(self._broker) as connection:
                    await self._serve(connection, self._works)
            except BrokerLost as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001  # a line that ended in silence would stay so
                self._tell(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads who comes back, hides nothing
            self._pause_s = min(2 * self._pause_s, PAUSE_SECONDS[1])

    def _works(self) -> None:
        if self._told:
            log.info("connected again", line=self.name)
        self.trouble = self._told = ""
        self._pause_s = PAUSE_SECONDS[0]

    def _tell(self, trouble: str) -> None:
        """The same trouble is told once, however often it is met."""
        self.trouble = trouble
        if trouble != self._told:
            self._told = trouble
            log.warning("not connected", line=self.name, reason=trouble)
