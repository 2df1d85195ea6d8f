"""The post between data centres, for a master that leads: letters over RabbitMQ.

What is lost on the way is told again by the core, so nothing is kept here for long.
"""

import asyncio

from vcap_es.adapters.rabbitmq.connection import Broker
from vcap_es.adapters.rabbitmq.inbox import Hear, Inbox, Received
from vcap_es.adapters.rabbitmq.outbox import Outbox, OutboxCounts, Reign
from vcap_es.adapters.rabbitmq.reconnection import Reconnection
from vcap_es.adapters.rabbitmq.topology import Topology
from vcap_es.components.messages.encoding import InLetters, encode


class Transport:
    """Writes and reads letters while its master leads."""

    def __init__(self, dc: str, wires: Topology, hear: Hear) -> None:
        """The post of data centre `dc`; `hear` takes what the others say."""
        self.dc, self.wires = dc, wires
        self.sent, self.received = OutboxCounts(), Received()
        self._hear = hear
        self._inbox: Inbox | None = None
        self._delivered = 0
        self._outboxes: dict[str, Outbox] = {}
        self._lines: list[Reconnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def troubles(self) -> dict[str, str]:
        """The lines that do not work while they should, and why."""
        return {each.name: each.trouble for each in self._lines if each.trouble}

    @property
    def peers(self) -> set[str]:
        """The data centres to which a way leads."""
        return {each.name for each in self.wires.peers}

    def trouble_to(self, centre: str) -> str:
        """Why a data centre cannot be told anything now; "" where it can."""
        broker = next(each.broker for each in self.wires.peers if each.name == centre)
        return self.troubles.get(_outbox_at(broker), "")

    @property
    def waiting(self) -> int:
        """How many messages wait for a broker."""
        return sum(each.waiting for each in set(self._outboxes.values()))

    def lead(self, reign: Reign) -> None:
        """Its master leads from now on: connect, and stay connected."""
        self.rest()
        own, peers = self.wires.broker, self.wires.peers
        self._inbox = Inbox(self.dc, peers, self._hear, self.received, after=self._delivered)
        self._lines = [Reconnection(f"inbox at {own.url}", own, self._inbox.serve)]
        for broker in dict.fromkeys(each.broker for each in peers):
            readers = [each for each in peers if each.broker == broker]
            outbox = Outbox(self.dc, readers, reign, self.sent)
            self._outboxes |= {each.name: outbox for each in readers}
            self._lines.append(Reconnection(_outbox_at(broker), broker, outbox.serve))
        self._tasks = [asyncio.create_task(each.run(), name=each.name) for each in self._lines]

    def rest(self) -> list[asyncio.Task[None]]:
        """Its master leads no more: close every connection; what is not acknowledged comes again.

        Gives what is not yet at its end.
        """
        tasks, self._tasks = self._tasks, []
        for each in tasks:
            each.cancel()
        if self._inbox is not None:
            self._delivered = self._inbox.last
        self._inbox = None
        self._outboxes, self._lines = {}, []
        return tasks

    def send(self, centre: str, message: InLetters) -> bool:
        """Let another data centre hear this, which may be lost; whether a way leads there."""
        outbox = self._outboxes.get(centre)
        if outbox is not None:
            outbox.put(centre, encode(message))
        return outbox is not None

    def acknowledge(self, delivery: int) -> None:
        """What was heard as `delivery` is durable here."""
        if self._inbox is not None:
            self._inbox.acknowledge(delivery)


def _outbox_at(broker: Broker) -> str:
    return f"outbox at {broker.url}"
