"""A log in memory: what correct means, in a page. Nothing outlives the process."""

from asyncio import Event
from collections.abc import Sequence

from vcap_es.errors import LogClosed
from vcap_es.events.chain import Stored, record
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.facts import caps_of
from vcap_es.events.log import (
    Head,
    Truncated,
    check_batch,
    check_copy,
    check_epoch,
    check_ids,
    check_truncation,
    head_of,
)
from vcap_es.events.sealing import recorded


class MemoryLog:
    """An `EventLog` for tests, simulations and dry runs."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._facts: list[bytes] = []
        self._by_id: dict[bytes, Recorded] = {}
        self._diverged: list[Stored] = []
        self._head = Head()
        self._fence = 0
        self._committed = 0
        self._appended = Event()
        self._closed = False

    async def append(self, batch: Sequence[Draft], epoch: int) -> list[Recorded]:
        """See `EventLog`."""
        self._check_open()
        check_batch(batch)
        check_epoch(epoch, self._fence)
        facts = [encode(draft.fact) for draft in batch]
        answer = [
            self._by_id.get(draft.event_id) or self._record(draft, fact, epoch)
            for draft, fact in zip(batch, facts, strict=True)
        ]
        self._wake()
        return answer

    def _record(self, draft: Draft, fact: bytes, epoch: int) -> Recorded:
        head = self._head
        event = record(draft, fact, position=head.position + 1, epoch=epoch, previous=head.link)
        self._put(event, fact)
        return event

    def _put(self, event: Recorded, fact: bytes) -> None:
        self._events.append(event)
        self._facts.append(fact)
        self._by_id[event.event_id] = event
        self._head = head_of(event)
        self._fence = max(self._fence, event.epoch)

    async def copy(self, entries: Sequence[Stored], committed: int) -> None:
        """See `EventLog`."""
        self._check_open()
        check_copy(entries, self._head)
        check_ids(entries, self._by_id.__contains__)
        events = [recorded(entry) for entry in entries]
        for event, entry in zip(events, entries, strict=True):
            self._put(event, entry.fact)
        self._committed = max(self._committed, min(committed, self._head.position))
        self._wake()

    async def truncate(self, after: int) -> Truncated:
        """See `EventLog`."""
        self._check_open()
        check_truncation(after, self._committed, self._head.position)
        aside = await self.read_stored(after, limit=len(self._events))
        self._diverged += aside
        for entry in aside:
            del self._by_id[entry.event_id]
        del self._events[after:], self._facts[after:]
        last = self._events[-1] if self._events else None
        self._head = head_of(last)
        return Truncated(count=len(aside), link=aside[-1].link if aside else b"")

    async def read_diverged(self, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`."""
        self._check_open()
        return self._diverged[:limit]

    async def committed(self) -> int:
        """See `EventLog`."""
        self._check_open()
        return self._committed

    async def history(self) -> list[tuple[int, int]]:
        """See `EventLog`."""
        self._check_open()
        return list({event.epoch: event.position for event in self._events}.items())

    async def read(
        self, after: int = 0, *, limit: int = 1000, cap: str | None = None, kind: str | None = None
    ) -> list[Recorded]:
        """See `EventLog`."""
        self._check_open()
        found: list[Recorded] = []
        for event in self._events[max(after, 0) :]:
            if len(found) == limit:
                break
            if (cap is None or cap in caps_of(event.fact)) and (
                kind is None or kind == type(event.fact).__name__
            ):
                found.append(event)
        return found

    async def read_stored(self, after: int = 0, *, limit: int = 1000) -> list[Stored]:
        """See `EventLog`."""
        return [
            Stored(
                position=event.position,
                epoch=event.epoch,
                event_id=event.event_id,
                recorded_at=event.recorded_at,
                dc=event.dc,
                actor=event.actor,
                correlation=event.correlation,
                fact=self._facts[event.position - 1],
                link=event.link,
            )
            for event in await self.read(after, limit=limit)
        ]

    async def head(self) -> Head:
        """See `EventLog`."""
        self._check_open()
        return self._head

    async def wait(self, after: int) -> None:
        """See `EventLog`."""
        self._check_open()
        while self._head.position <= after:
            await self._appended.wait()
            self._check_open()

    async def close(self) -> None:
        """See `EventLog`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # A pulse: everyone who waits now is woken, and looks for itself.
        self._appended.set()
        self._appended.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosed("this log was closed; open it again to use it")
