"""The life of a cap: its statement, why its units are where they are, and its events."""

from typing import Annotated

from msgspec import Meta
from starlette.responses import Response

from vcap_es.adapters.http.control_plane.log_reading import NDJSON, Number, past, told
from vcap_es.adapters.http.control_plane.routes import (
    ControlCall,
    Query,
    Route,
)
from vcap_es.adapters.http.shapes.events import Event
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.adapters.http.shapes.statements import AccountStatement, Explanation
from vcap_es.adapters.past.messages import (
    ConsumeOf,
    EventsOf,
    ReasonsOf,
    StatementOf,
)
from vcap_es.errors import InvalidInput, RequestRefused
from vcap_es.events.consume_ids import parse_consume_id


class StatementQuery(Query, frozen=True, kw_only=True):
    """Only the lines of this interval."""

    interval: Number | None = None


async def cap_statement(call: ControlCall) -> Response:
    """Every movement of the cap with the balance after it, double-entry; streamed."""
    return await told(call, StatementOf(call.path["cap"], call.query.interval))


class ExplainQuery(Query, frozen=True, kw_only=True):
    """Every unit as it was at the instant `at` (now by default), or the consume `id`."""

    at: Instant | None = None
    id: Annotated[str, Meta(max_length=512)] | None = None


async def cap_explain(call: ControlCall) -> Response:
    """Where every unit of an interval went and by which events, or what became of one consume."""
    query: ExplainQuery = call.query
    cap = call.path["cap"]
    if query.at is not None and query.id is not None:
        raise RequestRefused("bad_request", "give `at` or `id`, not both")
    if query.id is None:
        at = call.node.now() if query.at is None else past(call, query.at)
        return await told(call, ReasonsOf(cap, at))
    if parse_consume_id(query.id).cap != cap:
        raise InvalidInput(f"{query.id} is a consume of another cap: ask there")
    return await told(call, ConsumeOf(cap, query.id))


async def cap_history(call: ControlCall) -> Response:
    """Every event of the cap as JSON lines, to keep or to feed to other tools; streamed."""
    cap = call.path["cap"]
    name = f'attachment; filename="{cap.replace(":", "_")}.jsonl"'
    return await told(call, EventsOf(cap), NDJSON, **{"content-disposition": name})


_CAP = "/v1/caps/{cap}"

STATEMENTS = (
    Route(
        "GET",
        f"{_CAP}/statement",
        "read",
        cap_statement,
        "Statement of account",
        StatementQuery,
        past=True,
        answer=AccountStatement,
    ),
    Route(
        "GET",
        f"{_CAP}/explain",
        "read",
        cap_explain,
        "Where every unit went, and why",
        ExplainQuery,
        past=True,
        answer=Explanation,
    ),
    Route(
        "GET",
        f"{_CAP}/history",
        "read",
        cap_history,
        "All events, to download",
        past=True,
        answer=Event,
        media=NDJSON,
    ),
)
