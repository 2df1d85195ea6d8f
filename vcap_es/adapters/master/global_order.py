"""Asks all data centres for their events in one order, and answers when others ask.

What lies below a stamp that everybody has passed is all there will ever be.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from functools import partial
from itertools import count, islice
from secrets import randbits

from msgspec import Struct

from vcap_es.adapters.rabbitmq.letters import CONTENT_BYTES
from vcap_es.components.messages.encoding import encode
from vcap_es.components.messages.order import (
    EventsRead,
    InOrder,
    PassStamp,
    ReadEvents,
    StampPassed,
)
from vcap_es.errors import RequestRefused
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import CentreChanged
from vcap_es.events.log import EventLog
from vcap_es.projections.global_order import in_order, number_after

ANSWER_SECONDS = 5.0
EVENTS_MAX = 100
"""Events in one message, at most; the rest is asked for with the next."""

REGISTERS_READ_MAX = 1_000
SERVED_MAX = 32
"""Questions of others that are answered at the same time; more are not heard."""


class OrderPart(Struct, frozen=True, gc=False):
    """A data centre's part of the order: its events after `before`, up to `below`."""

    before: int
    below: int


class Numbered(Struct, frozen=True, gc=False):
    """An event, and its number in the order of all: it will have no other."""

    number: int
    event: Recorded


class OrderCut(Struct, frozen=True, kw_only=True, gc=False):
    """The events below a stamp, the watermark: which of each data centre they are."""

    watermark: int
    parts: dict[str, OrderPart]


class GlobalOrder:
    """The one order of all events, as one data centre tells it."""

    def __init__(
        self,
        dc: str,
        log: EventLog,
        *,
        pass_stamp: Callable[[int], Awaitable[str]],
        members: Callable[[], Collection[str]],
        committed: Callable[[], int],
        send: Callable[[str, InOrder], bool],
    ) -> None:
        """`pass_stamp` waits until later events are stamped so, or says why that cannot be.

        `members` are the data centres that have a part, and `committed` is the position up to which
        the log is; `send` tells one of them, if a way leads
        there.
        """
        self._dc, self._log = dc, log
        self._pass_stamp, self._members, self._send = pass_stamp, members, send
        self._committed = committed
        self._numbers = count(randbits(48))
        self._asked: dict[int, tuple[str, asyncio.Future[StampPassed | EventsRead]]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._joined: int | None = None
        self._registers_after = 0

    # ---- asking

    async def up_to(self, stamp: int) -> OrderCut:
        """The order below `stamp`. Raises RequestRefused naming who cannot be reached."""
        parts = await self._parts(stamp)
        own = {dc: OrderPart(each.before, each.below) for dc, each in parts.items()}
        return OrderCut(watermark=stamp, parts=own)

    async def _parts(self, stamp: int) -> dict[str, StampPassed]:
        """What all say who have a part, as far as any of them knows of others."""
        parts: dict[str, StampPassed] = {}
        wanted = {self._dc, *self._members()}
        while missing := sorted(wanted - parts.keys()):
            answers = await asyncio.gather(*(self._part(each, stamp) for each in missing))
            for dc, answer in zip(missing, answers, strict=True):
                if answer.why:
                    raise RequestRefused("centre_unreachable", f"{dc}: {answer.why}")
                parts[dc] = answer
                wanted |= {*answer.members}
        return parts

    async def so_far(self) -> OrderCut:
        """The order as far as everybody has come: nobody records anything for this."""
        parts = await self._parts(0)
        return await self.up_to(min(each.passed for each in parts.values()))

    async def page(self, order: OrderCut, after: Mapping[str, int], limit: int) -> list[Numbered]:
        """Up to `limit` events of the order, after these positions of each data centre."""
        before = {dc: part.before for dc, part in order.parts.items()}
        begin = {dc: max(after.get(dc, 0), before[dc]) for dc in order.parts}
        logs = await asyncio.gather(
            *(
                self._read(dc, begin[dc], min(limit, part.below - begin[dc]))
                for dc, part in order.parts.items()
            )
        )
        number = number_after(begin, before)
        events = islice(in_order(logs), limit)
        return [Numbered(number + index, each) for index, each in enumerate(events, 1)]

    async def _part(self, dc: str, stamp: int) -> StampPassed:
        if dc == self._dc:
            return await self._own_part(0, stamp)
        answer = await self._ask(dc, partial(_stamp_passed, stamp))
        assert isinstance(answer, StampPassed)
        return answer

    async def _read(self, dc: str, after: int, limit: int) -> list[Recorded]:
        if dc == self._dc:
            return await self._log.read(after, limit=limit) if limit > 0 else []
        events: list[Recorded] = []
        while len(events) < limit:
            position = events[-1].position if events else after
            some = min(EVENTS_MAX, limit - len(events))
            answer = await self._ask(dc, partial(_events_after, position, some))
            assert isinstance(answer, EventsRead)
            if not answer.events:
                detail = f"{dc}: its log ends before what it has told of: ask again"
                raise RequestRefused("centre_unreachable", detail)
            events += answer.events
        return events

    async def _ask(self, dc: str, question: Callable[[int], InOrder]) -> StampPassed | EventsRead:
        number = next(self._numbers)
        future: asyncio.Future[StampPassed | EventsRead]
        future = asyncio.get_running_loop().create_future()
        self._asked[number] = (dc, future)
        try:
            if not self._send(dc, question(number)):
                raise RequestRefused("centre_unreachable", f"{dc}: no way leads there from here")
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            detail = f"{dc} did not answer within {ANSWER_SECONDS:.0f} s: ask again"
            raise RequestRefused("centre_unreachable", detail) from None
        finally:
            del self._asked[number]

    # ---- answering

    def heard(self, centre: str, message: InOrder) -> None:
        """Another data centre asks, or answers."""
        match message:
            case StampPassed(number=number) | EventsRead(number=number):
                asked = self._asked.get(number)
                if asked is not None and asked[0] == centre and not asked[1].done():
                    asked[1].set_result(message)
            case PassStamp(number=number, stamp=stamp):
                self._serve(self._tell_part(centre, number, stamp))
            case ReadEvents():
                self._serve(self._tell_events(centre, message))

    def _serve(self, answering: Coroutine[None, None, None]) -> None:
        if len(self._serving) >= SERVED_MAX:
            answering.close()
            return
        task = asyncio.create_task(answering)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _tell_part(self, centre: str, number: int, stamp: int) -> None:
        if self._dc in self._members():
            part = await self._own_part(number, stamp)
        else:
            part = StampPassed(number=number, why="it does not know yet that it takes part")
        self._send(centre, part)

    async def _tell_events(self, centre: str, asked: ReadEvents) -> None:
        limit = max(1, min(asked.limit, EVENTS_MAX))
        events: list[Recorded] = []
        size = 0
        for event in await self._log.read(max(0, asked.after), limit=limit):
            size += len(encode(event))
            if events and size > CONTENT_BYTES:
                break
            events.append(event)
        self._send(centre, EventsRead(number=asked.number, events=events))

    async def _own_part(self, number: int, stamp: int) -> StampPassed:
        if why := await self._pass_stamp(stamp):
            return StampPassed(number=number, why=why)
        return StampPassed(
            number=number,
            passed=await self._passed(),
            before=await self._joined_after(),
            below=await self._position_below(stamp),
            members=sorted(self._members()),
        )

    async def _passed(self) -> int:
        """The stamp of the last event that is committed: none will have a smaller one."""
        last = await self._log.read(self._committed() - 1, limit=1)
        return last[0].recorded_at

    async def _joined_after(self) -> int:
        """The last position from before this data centre had a part; 0 where it began the order.

        Who adds the first other one begins it; who was added has a part from when it heard so.
        """
        while self._joined is None:
            committed = self._committed()
            registers = await self._log.read(
                self._registers_after, kind=CentreChanged.__name__, limit=REGISTERS_READ_MAX
            )
            for event in registers:
                fact = event.fact
                if isinstance(fact, CentreChanged) and fact.centre == self._dc:
                    joined = 0 if fact.stamp.origin == self._dc else event.position - 1
                    if event.position > committed:
                        return joined  # it may have to go yet
                    self._joined = joined
                    return joined
            # What was looked through and is committed need not be looked through again.
            is_end = len(registers) < REGISTERS_READ_MAX
            self._registers_after = committed if is_end else registers[-1].position
            if is_end:
                return 0
        return self._joined

    async def _position_below(self, stamp: int) -> int:
        """The last position with a smaller stamp: stamps never fall along the log."""
        low, high = 0, (await self._log.head()).position
        while low < high:
            middle = (low + high + 1) // 2
            (event,) = await self._log.read(middle - 1, limit=1)
            if event.recorded_at < stamp:
                low = middle
            else:
                high = middle - 1
        return low


def _stamp_passed(stamp: int, number: int) -> InOrder:
    return PassStamp(number=number, stamp=stamp)


def _events_after(position: int, limit: int, number: int) -> InOrder:
    return ReadEvents(number=number, after=position, limit=limit)
