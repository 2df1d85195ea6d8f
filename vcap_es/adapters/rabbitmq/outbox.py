"""The letters that leave a data centre by one broker."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from vcap_es.adapters.rabbitmq.connection import BrokerConnection
from vcap_es.adapters.rabbitmq.letters import CONTENT_BYTES, MESSAGES_MAX, Writer
from vcap_es.adapters.rabbitmq.topology import LETTERS, Peer, letters_queue

UNCONFIRMED_MAX = 1_000
WAITING_MAX = 20_000
"""Messages to one data centre that wait for a broker; the oldest go first, and are told again."""


class OutboxCounts(Struct):
    """What became of what was to be told, as running totals."""

    messages: int = 0
    confirmed: int = 0
    lost: int = 0
    dropped: int = 0


class Reign(Struct, frozen=True):
    """Who leads writes letters in this `epoch` of the log of `cluster`.

    They are for the log that `cluster_of` gives for each data centre.
    """

    epoch: int
    cluster: str
    cluster_of: Callable[[str], str]


class Outbox:
    """Tells some data centres what its master wants them to hear. Whatever is lost stays lost."""

    def __init__(self, dc: str, peers: Sequence[Peer], reign: Reign, sent: OutboxCounts) -> None:
        """Write from `dc` to the `peers`, which read from one broker."""
        self._dc, self._sent, self._reign = dc, sent, reign
        self._writers = {
            each.name: Writer(dc, each.name, each.secrets, reign.epoch, reign.cluster)
            for each in peers
        }
        self._waiting: dict[str, deque[bytes]] = {
            each.name: deque(maxlen=WAITING_MAX) for each in peers
        }
        self._connection: BrokerConnection | None = None
        self._is_due = False

    @property
    def waiting(self) -> int:
        """How many messages wait for the broker."""
        return sum(map(len, self._waiting.values()))

    def put(self, centre: str, message: bytes) -> None:
        """Let a data centre hear an encoded message soon."""
        queue = self._waiting[centre]
        self._sent.messages += 1
        self._sent.dropped += len(queue) == WAITING_MAX
        queue.append(message)
        self._flush_soon()

    async def serve(self, connection: BrokerConnection, works: Callable[[], None]) -> None:
        """Publish on `connection` until it is lost."""
        for centre in self._writers:
            await connection.declare_queue(letters_queue(self._dc, centre), LETTERS)
        self._connection = connection
        works()
        try:
            self._flush_soon()
            await connection.lost()
        finally:
            self._connection = None

    def _flush_soon(self) -> None:
        """Publish once for all that is put in this turn of the event loop."""
        if not self._is_due and self._connection is not None:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        for centre, queue in self._waiting.items():
            while queue and self._connection is not None:
                if self._connection.is_lost or self._connection.unconfirmed >= UNCONFIRMED_MAX:
                    return  # goes on when something is confirmed, or on another connection
                self._publish(self._connection, centre, _taken(queue))

    def _publish(self, connection: BrokerConnection, centre: str, messages: list[bytes]) -> None:
        def settle(is_confirmed: bool) -> None:
            if is_confirmed:
                self._sent.confirmed += len(messages)
            else:
                self._sent.lost += len(messages)
            self._flush_soon()

        letter = self._writers[centre].write(messages, self._reign.cluster_of(centre))
        connection.publish("", letters_queue(self._dc, centre), letter, settle)


def _taken(queue: deque[bytes]) -> list[bytes]:
    """The messages of one letter, from the front of the queue."""
    messages = [queue.popleft()]
    size = len(messages[0])
    while queue and len(messages) < MESSAGES_MAX and size + len(queue[0]) <= CONTENT_BYTES:
        size += len(queue[0])
        messages.append(queue.popleft())
    return messages
