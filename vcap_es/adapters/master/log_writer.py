"""A master's disk: what the core wants stored or set aside is done on the log, in order.

What waits together is written together. A full disk is waited for; every other error ends the run.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry, Histogram

from vcap_es.adapters.stalls import timed
from vcap_es.components.consensus.replica import Cut, Store
from vcap_es.components.master.identity import Moment
from vcap_es.components.master.master import Master
from vcap_es.errors import DiskFull
from vcap_es.events.log import BATCH_EVENTS_MAX, EventLog

RETRY_FULL_SECONDS = 0.5
NOTE_SECONDS = 1.0
"""Seconds after the last batch until the log is told by itself what of it was committed."""

log = structlog.get_logger()

Tell = Callable[[Callable[[Master], None]], None]
"""Tells the running core something."""


class LogWriter:
    """The one writer of a log. What was asked for by a core that is gone is told to nobody."""

    def __init__(
        self,
        events: EventLog,
        registry: CollectorRegistry,
        *,
        tell: Tell,
        moment: Callable[[], Moment],
        begin: Callable[[], Awaitable[None]],
        committed: Callable[[], int],
    ) -> None:
        """Write to `events`; `begin` builds another core from it, when that was asked for.

        `committed` is the position up to which the log is known to be committed.
        """
        self.is_full = False
        self._log, self._tell, self._moment, self._begin = events, tell, moment, begin
        self._committed = committed
        self._work: deque[Store | Cut | None] = deque()
        self._wake = asyncio.Event()
        self._life = 0
        self._append_seconds = Histogram(
            "vcap_log_append_duration_seconds",
            "How long a batch took to be durable.",
            registry=registry,
        )

    def put(self, work: Store | Cut) -> None:
        """Do this behind all that was asked for before."""
        self._work.append(work)
        self._wake.set()

    def begin_anew(self) -> None:
        """Drop what is not begun, and build another core when what is begun is done."""
        self._life += 1
        self._work.clear()
        self._work.append(None)
        self._wake.set()

    async def run(self) -> None:
        """Carry out what is asked for, for ever."""
        while True:
            while not self._work:
                await self._rest()
            first = self._work[0]
            if isinstance(first, Store):
                await self._store(self._life)
                continue
            self._work.popleft()
            if isinstance(first, Cut):
                await self._cut(first, self._life)
            else:
                await self._begin()

    async def _rest(self) -> None:
        """Wait for work; each batch tells of those before it, and nothing of the last one."""
        self._wake.clear()
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            await self.note_committed()

    async def note_committed(self) -> None:
        """Let the log know what of it is committed: whoever reads the file sees no further."""
        committed = self._committed()
        if committed > await self._log.committed():
            with suppress(DiskFull):
                await self._log.copy([], committed)

    async def _cut(self, cut: Cut, life: int) -> None:
        done = await self._log.truncate(cut.after)
        log.warning("set aside what was never acknowledged", after=cut.after, events=done.count)
        if life == self._life:
            self._tell(lambda core: core.cut(done.count, done.link, self._moment()))

    async def _store(self, life: int) -> None:
        stores = self._gather()
        entries = [entry for each in stores for entry in each.entries]
        while True:
            try:
                with self._append_seconds.time(), timed("log", events=len(entries)):
                    await self._log.copy(entries, stores[-1].committed)
                break
            except DiskFull as error:
                self._tell_full(str(error))
                await asyncio.sleep(RETRY_FULL_SECONDS)
                if life != self._life:
                    return
        self._tell_full("")
        if life == self._life:
            self._tell(self._stored(len(stores)))

    def _stored(self, stores: int) -> Callable[[Master], None]:
        def tell(core: Master) -> None:
            for _ in range(stores):
                core.stored(self._moment())

        return tell

    def _gather(self) -> list[Store]:
        """All stores at the head of the queue that fit in one batch, at least one."""
        stores: list[Store] = []
        size = 0
        while self._work and isinstance(store := self._work[0], Store):
            size += len(store.entries)
            if stores and size > BATCH_EVENTS_MAX:
                break
            stores.append(store)
            self._work.popleft()
        return stores

    def _tell_full(self, why: str) -> None:
        if bool(why) != self.is_full:
            self.is_full = bool(why)
            log.error("the disk is full" if why else "the disk has room again", why=why or None)
            self._tell(lambda core: core.disk_full(is_full=bool(why), moment=self._moment()))
