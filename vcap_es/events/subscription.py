"""Read a log from a position on, in batches, for as long as it is open."""

from typing import Self

from vcap_es.events.envelope import Recorded
from vcap_es.events.log import EventLog


class Subscription:
    """The events of `log` after the position `after`, in order, without a gap.

    Iterating gives batches of 1 to `limit` events and waits where the log ends, until there is
    more; it never ends by itself. A log that is closed or cannot be read raises what it raises.
    `position` is that of the last event given, from which another subscription may go on.
    """

    def __init__(self, log: EventLog, after: int = 0, *, limit: int = 1000) -> None:
        assert limit > 0
        self.position = after
        self._log = log
        self._limit = limit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Recorded]:
        while not (batch := await self._log.read(self.position, limit=self._limit)):
            await self._log.wait(self.position)
        self.position = batch[-1].position
        return batch
