"""Questions about the past, asked of the process that reads the log; long answers are streamed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from vcap_es.adapters.http.control_plane.routes import (
    LIMIT_MAX,
    ControlCall,
)
from vcap_es.adapters.past.messages import (
    AnyQuestion,
    ReadingPart,
)
from vcap_es.adapters.past.reader import Reading
from vcap_es.errors import InvalidInput, RequestRefused
from vcap_es.events.instants import parse_instant

PART_SECONDS = 60.0
"""Who has not taken a part of an answer by then gets no more: others wait for their turn."""


NDJSON = "application/x-ndjson"


Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]


Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


async def told(
    call: ControlCall, question: AnyQuestion, media: str = "application/json", **headers: str
) -> Response:
    """The answer to a question about the past: whole, or as a stream of its parts."""
    part, reading = await begun(call, question)
    if reading is None:
        return Response(part.body, media_type=media, headers=headers)
    return PartsResponse(reading, part, media_type=media, headers=headers)


async def begun(call: ControlCall, question: AnyQuestion) -> tuple[ReadingPart, Reading | None]:
    """The first part of an answer, and the reading where there is more of it.

    Who leaves before is not answered, and nothing is read for them any more.
    """
    reading = call.node.past.ask(call.client.key, question)
    first = asyncio.ensure_future(reading.part())
    gone = asyncio.ensure_future(call.left())
    try:
        await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            raise RequestRefused("timeout", "the client left before the answer")
        part = first.result()
        if not part.is_last:
            return part, reading
    except BaseException:
        reading.close()
        raise
    finally:
        for each in (first, gone):
            each.cancel()
        await asyncio.gather(first, gone, return_exceptions=True)
    reading.close()
    return part, None


class PartsResponse(StreamingResponse):
    """An answer that is sent part by part, as fast as it is taken and no faster."""

    def __init__(self, reading: Reading, first: ReadingPart, **kwargs: Any) -> None:
        super().__init__(_bodies(reading, first), **kwargs)
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; whoever leaves, or takes too long over a part, ends the reading."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(PART_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            self._reading.close()


async def _bodies(reading: Reading, part: ReadingPart) -> AsyncIterator[bytes]:
    yield part.body
    while not part.is_last:
        part = await reading.part()
        yield part.body


def past(call: ControlCall, text: str) -> int:
    """The instant that `text` says, which is not to come; raises RequestRefused where it is."""
    at = parse_instant(text)
    if at > call.node.now():
        raise InvalidInput(f"at, {text}, is not over yet: what was then is not known")
    return at
