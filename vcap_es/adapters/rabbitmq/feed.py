"""The live feed: every committed fact on a topic exchange, for whoever subscribes.

`vcap.<dc>.<noun>.<kind>.<cap>` is the topic, which MQTT clients know as `vcap/<dc>/...`; the body
is the event as `/v1/log` shows it. Each connection begins with the last events again, so
that none is missed: their positions tell which were told before. Nothing about API keys is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from msgspec import Struct, json

from vcap_es.adapters.http.shapes.events import Event, event_of
from vcap_es.adapters.rabbitmq.connection import Broker, BrokerConnection
from vcap_es.adapters.rabbitmq.reconnection import Reconnection
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact, caps_of, part_of
from vcap_es.events.log import EventLog
from vcap_es.events.schemas import noun_of

UNCONFIRMED_MAX = 1_000
AGAIN = UNCONFIRMED_MAX
"""Events that are told again on each new connection: no more can have been under way."""

CHUNK = 200
NEVER_TOLD = "access"


class FeedWire(Struct, frozen=True, kw_only=True, gc=False):
    """Where the feed goes: `amq.topic` is the exchange that MQTT clients of RabbitMQ hear."""

    broker: Broker
    exchange: str


def topic_of(dc: str, fact: Fact, cap: str) -> str:
    """What a fact is told under; of one that speaks of no cap, the topic ends with its kind."""
    kind = type(fact)
    return ".".join(filter(None, ("vcap", dc, noun_of(kind), kind.__name__, cap)))


def told(event: Recorded) -> Iterator[tuple[str, Event]]:
    """Each topic of an event with what is told there; a report is told to each cap in parts."""
    fact = event.fact
    if noun_of(type(fact)) == NEVER_TOLD:
        return
    for cap in caps_of(fact) or [""]:
        yield topic_of(event.dc, fact, cap), event_of(event, part_of(fact, {cap}))


class Feed:
    """Publishes what is committed, while its master leads."""

    def __init__(
        self,
        wire: FeedWire,
        log: EventLog,
        committed_beyond: Callable[[int], Awaitable[int]],
    ) -> None:
        """Tell of `log`; `committed_beyond` waits until more than a position is committed."""
        self._wire, self._log, self._committed_beyond = wire, log, committed_beyond
        self._position: int | None = None
        self._line: Reconnection | None = None
        self._task: asyncio.Task[None] | None = None

    def lead(self) -> None:
        """Its master leads from now on."""
        self.rest()
        self._position = None
        self._line = Reconnection(f"feed at {self._wire.broker.url}", self._wire.broker, self._tell)
        self._task = asyncio.create_task(self._line.run(), name=self._line.name)

    def rest(self) -> list[asyncio.Task[None]]:
        """Its master leads no more. Gives what is not yet at its end."""
        task, self._task, self._line = self._task, None, None
        if task is None:
            return []
        task.cancel()
        return [task]

    async def _tell(self, connection: BrokerConnection, works: Callable[[], None]) -> None:
        await connection.declare_topics(self._wire.exchange)
        works()
        lost = asyncio.ensure_future(connection.lost())
        reporter = asyncio.ensure_future(self._follow(connection))
        try:
            await asyncio.wait({lost, reporter}, return_when=asyncio.FIRST_COMPLETED)
            for each in (lost, reporter):
                if each.done():
                    each.result()
        finally:
            for each in (lost, reporter):
                each.cancel()
            await asyncio.gather(lost, reporter, return_exceptions=True)

    async def _follow(self, connection: BrokerConnection) -> None:
        # What was not confirmed when the connection was lost, or another master led, comes again.
        last = await self._committed_beyond(0) if self._position is None else self._position
        self._position = max(0, last - AGAIN)
        while True:
            committed = await self._committed_beyond(self._position)
            limit = min(CHUNK, committed - self._position)
            for event in await self._log.read(self._position, limit=limit):
                for topic, each in told(event):
                    await self._publish(connection, topic, json.encode(each))
                self._position = event.position

    async def _publish(self, connection: BrokerConnection, topic: str, body: bytes) -> None:
        """Publish, and wait while too much is not confirmed."""
        room = asyncio.get_running_loop().create_future()

        def settle(_: bool) -> None:
            if not room.done():
                room.set_result(None)

        connection.publish(self._wire.exchange, topic, body, settle, is_mandatory=False)
        if connection.unconfirmed >= UNCONFIRMED_MAX:
            await room
