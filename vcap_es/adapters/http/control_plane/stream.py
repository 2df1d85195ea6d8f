"""The log as server-sent events: `curl -N` sees each event as soon as it is committed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from vcap_es.adapters.http.control_plane.log import KINDS, scopes_of
from vcap_es.adapters.http.control_plane.log_reading import Position
from vcap_es.adapters.http.control_plane.routes import ControlCall, Query, Route, check_scope
from vcap_es.adapters.past.messages import StreamPage
from vcap_es.errors import RequestRefused
from vcap_es.events.definitions import check_cap_id
from vcap_es.events.schemas import FACTS, noun_of

MEDIA_TYPE = "text/event-stream"
STREAMS_MAX = 100
STREAMS_PER_KEY_MAX = 25
"""The share of one key: others have room for theirs."""

QUIET_SECONDS = 10.0
"""After this many seconds without an event a comment is sent, by which a lost reader is noticed."""

NOUNS = sorted({noun_of(fact) for fact in FACTS.values()})
_streaming = asyncio.Semaphore(STREAMS_MAX)
_by_key: Counter[str] = Counter()


class StreamQuery(Query, frozen=True, kw_only=True):
    """Events after the position `after`; only of a cap, a kind of fact, a noun."""

    after: Position | None = None
    cap: str | None = None
    kind: Annotated[str, Meta(extra_json_schema={"enum": KINDS})] | None = None
    noun: Annotated[str, Meta(extra_json_schema={"enum": NOUNS})] | None = None


async def stream_events(call: ControlCall) -> Response:
    """The log, as it is committed, without an end: each event's id is its position.

    Without `after` and `Last-Event-ID` it begins with what comes next. Who was cut off goes on with
    `Last-Event-ID`, at any master, and misses nothing.
    """
    query: StreamQuery = call.query
    if query.cap is not None:
        check_scope(call.node, call.client, query.cap)
        check_cap_id(query.cap)
    for name, value, known in (("kind", query.kind, KINDS), ("noun", query.noun, NOUNS)):
        if value is not None and value not in known:
            raise RequestRefused("bad_request", f"{name} is one of {', '.join(known)}")
    if _streaming.locked():
        detail = f"{STREAMS_MAX} streams are open here, the most there may be: try another master"
        raise RequestRefused("busy", detail, retry_after_ms=5000)
    if _by_key[call.client.key] >= STREAMS_PER_KEY_MAX:
        detail = f"your key has {STREAMS_PER_KEY_MAX} streams open here, the most it may have"
        raise RequestRefused("reading_budget", detail, retry_after_ms=5000)
    after = _last_event_id(call)
    if after is None:
        after = call.node.durable if query.after is None else query.after
    events = _stream(call, query, after, scopes_of(call))
    return StreamingResponse(events, media_type=MEDIA_TYPE)


def _last_event_id(call: ControlCall) -> int | None:
    text = call.headers.get("last-event-id")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise RequestRefused("bad_request", "Last-Event-ID is the position of an event")
    return int(text)


async def _stream(
    call: ControlCall, query: StreamQuery, after: int, scopes: list[str] | None
) -> AsyncIterator[bytes]:
    async with _streaming, _counted(call.client.key):
        yield b": the log of %s after position %d\n\n" % (call.node.dc.encode(), after)
        while _is_good(call):
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await call.node.committed_beyond(after)
            except TimeoutError:
                yield b": quiet\n\n"
                continue
            asked = StreamPage(after, query.cap, query.kind, query.noun, scopes)
            part = await call.node.past.page(call.client.key, asked)
            if part.body:
                yield part.body
            after = max(after, part.next or 0)


@asynccontextmanager
async def _counted(key: str) -> AsyncIterator[None]:
    _by_key[key] += 1
    try:
        yield
    finally:
        _by_key[key] -= 1
        if not _by_key[key]:
            del _by_key[key]


def _is_good(call: ControlCall) -> bool:
    """Whether the key is still in force."""
    key = call.node.state.access.keys.get(call.client.key)
    return key is not None and (key.expires_at is None or key.expires_at > call.node.now())


STREAM = (
    Route(
        "GET",
        "/v1/events",
        "read",
        stream_events,
        "Follow the log",
        query=StreamQuery,
        answer=str,
        media=MEDIA_TYPE,
        anywhere=True,
    ),
)
