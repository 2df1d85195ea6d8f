"""The letters that come to a data centre.

Each is acknowledged last: when what follows from it is durable. What cannot be opened is parked,
with the reason, and acknowledged when it is.
"""

import time
from collections.abc import Callable, Sequence

import structlog
from msgspec import Struct

from vcap_es.adapters.rabbitmq.connection import BrokerConnection
from vcap_es.adapters.rabbitmq.letters import Letter, Reader
from vcap_es.adapters.rabbitmq.topology import LETTERS, PARKED, Peer, letters_queue, parked_queue
from vcap_es.components.messages.centre import Reception, Sender
from vcap_es.errors import LetterRefused

UNACKNOWLEDGED_MAX = 200
NAMESAKE_SECONDS, NAMESAKES_MAX = 60.0, 100
"""Of each rejected sender one letter is parked every NAMESAKE_SECONDS; at most NAMESAKES_MAX
senders are remembered.
"""

Hear = Callable[[int, Letter], Reception]
"""Takes a delivery; if it is heard or met, `acknowledge` is called when it may be forgotten."""

log = structlog.get_logger()


class Received(Struct):
    """What became of what has come, as running totals."""

    letters: int = 0
    messages: int = 0
    parked: dict[str, int] = {}


class Inbox:
    """Reads the letters from some data centres."""

    def __init__(
        self, dc: str, peers: Sequence[Peer], hear: Hear, received: Received, *, after: int = 0
    ) -> None:
        """Read what the `peers` write to `dc`; `hear` takes it in. Numbers go on from `after`."""
        self._dc, self._hear, self._received = dc, hear, received
        self._sources = [each.name for each in peers]
        self._reader = Reader(dc, {each.name: each.secrets for each in peers})
        self._connection: BrokerConnection | None = None
        self._first = self._last = after
        self._turned_away: dict[Sender, float] = {}

    async def serve(self, connection: BrokerConnection, works: Callable[[], None]) -> None:
        """Read from `connection` until it is lost."""
        await connection.declare_queue(parked_queue(self._dc), PARKED)
        for source in self._sources:
            await connection.declare_queue(letters_queue(source, self._dc), LETTERS)
        # Deliveries are numbered on, so that none of an earlier connection is taken for one here.
        self._connection, self._first = connection, self._last
        try:
            for source in self._sources:
                queue = letters_queue(source, self._dc)
                await connection.consume(
                    queue, self._deliver, unacknowledged_max=UNACKNOWLEDGED_MAX
                )
            works()
            await connection.lost()
        finally:
            self._connection = None

    @property
    def last(self) -> int:
        """The number of the last delivery."""
        return self._last

    def acknowledge(self, delivery: int) -> None:
        """What was heard as `delivery` is durable here."""
        if self._connection is not None and delivery > self._first:
            self._connection.acknowledge(delivery - self._first)

    def _deliver(self, tag: int, body: bytes, is_redelivered: bool) -> None:
        if self._connection is None:
            return  # it is being closed: the broker delivers it again
        self._last = self._first + tag
        self._received.letters += 1
        try:
            letter = self._reader.open(body, is_redelivered=is_redelivered)
        except LetterRefused as refusal:
            self._park(self._connection, tag, body, refusal)
            return
        hearing = self._hear(self._last, letter)
        if hearing == "namesake":
            self._turn_away(self._connection, tag, body, letter.sender)
        elif hearing == "nobody":
            self._connection.give_back(tag)
        else:
            self._received.messages += len(letter.messages)

    def _turn_away(
        self, connection: BrokerConnection, tag: int, body: bytes, sender: Sender
    ) -> None:
        """One letter of a namesake is parked now and then; it may write for days."""
        now, last = time.monotonic(), self._turned_away.get(sender)
        if last is not None and now - last < NAMESAKE_SECONDS:
            connection.acknowledge(tag)
            return
        if len(self._turned_away) >= NAMESAKES_MAX:
            self._turned_away.clear()
        self._turned_away[sender] = now
        way = f"from one log of {sender.centre}, for one of {self._dc}: not those known"
        self._park(connection, tag, body, LetterRefused("namesake", way))

    def _park(
        self, connection: BrokerConnection, tag: int, body: bytes, refusal: LetterRefused
    ) -> None:
        parked = self._received.parked
        parked[refusal.reason] = parked.get(refusal.reason, 0) + 1
        log.warning("a letter was parked", reason=str(refusal), bytes=len(body))

        def settle(is_parked: bool) -> None:
            if is_parked:
                connection.acknowledge(tag)
            else:
                connection.give_back(tag)  # else it would count as unacknowledged for ever

        headers = {"reason": str(refusal)}
        connection.publish("", parked_queue(self._dc), body, settle, headers=headers)
