"""The log itself: pages of events, one event, and whether all of it is sound."""

import asyncio
from typing import Annotated, get_args

from msgspec import Meta
from starlette.responses import Response

from vcap_es.adapters.http.control_plane.log_reading import (
    Limit,
    Position,
    begun,
    told,
)
from vcap_es.adapters.http.control_plane.routes import (
    ControlCall,
    Query,
    Route,
    check_scope,
    next_page,
)
from vcap_es.adapters.http.shapes.events import Event, Events, Verification
from vcap_es.adapters.past.messages import (
    LogPage,
    OneEvent,
    Verify,
)
from vcap_es.errors import RequestRefused
from vcap_es.events.definitions import check_cap_id
from vcap_es.events.facts import Fact

KINDS = [kind.__name__ for kind in get_args(Fact)]


class LogQuery(Query, frozen=True, kw_only=True):
    """Events after the position `after`; only of a cap, only of a kind of fact."""

    after: Position = 0
    limit: Limit = 100
    cap: str | None = None
    kind: Annotated[str, Meta(extra_json_schema={"enum": KINDS})] | None = None


async def list_events(call: ControlCall) -> Response:
    """A page of the log, oldest first, of what the key opens."""
    query: LogQuery = call.query
    if query.cap is not None:
        check_scope(call.node, call.client, query.cap)
        check_cap_id(query.cap)
    if query.kind is not None and query.kind not in KINDS:
        raise RequestRefused("bad_request", f"kind is one of {', '.join(KINDS)}")
    asked = LogPage(query.after, query.limit, query.cap, query.kind, scopes_of(call))
    part, _ = await begun(call, asked)
    headers = {} if part.next is None else next_page(call, after=part.next)
    return Response(part.body, media_type="application/json", headers=headers)


async def show_event(call: ControlCall) -> Response:
    """One event whole, with the link by which the chain covers it."""
    text = call.path["position"]
    position = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 0 < position < 2**63:
        raise RequestRefused("not_found", f"there is no event at position {text[:20]}")
    return await told(call, OneEvent(position, scopes_of(call)))


def scopes_of(call: ControlCall) -> list[str] | None:
    """What the key opens, as the reading process is told it; None: everything."""
    if call.client.scopes.are_all:
        return None
    return list(call.node.state.access.keys[call.client.key].scopes)


_verifying = asyncio.Semaphore(1)
"""One verification at a time: it reads the whole log."""


async def verify_log(call: ControlCall) -> Response:
    """Check every link of the chain and every equation of the books, from the first event on."""
    if _verifying.locked():
        raise RequestRefused("busy", "the log is being verified already", retry_after_ms=5000)
    async with _verifying:
        return await told(call, Verify())


LOG = (
    Route(
        "GET", "/v1/log", "read", list_events, "Read the log", LogQuery, past=True, answer=Events
    ),
    Route(
        "GET", "/v1/log/{position}", "read", show_event, "Show an event", past=True, answer=Event
    ),
    Route(
        "GET",
        "/v1/verify",
        "read",
        verify_log,
        "Verify the log",
        past=True,
        answer=Verification,
        needs_all=True,
    ),
)
