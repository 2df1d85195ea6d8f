"""What auditors ask: where units are and were, why, the log itself, and whether it is sound.

What is past is read by a process of its own, up to what was committed when the call came; here its
answers are passed along, part by part, so that no reading keeps this process from serving.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, get_args

from msgspec import Meta
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from vcap_es.adapters.http.control_plane.routes import (
    LIMIT_MAX,
    ControlCall,
    ControlReply,
    Query,
    Route,
    check_primacy,
    check_scope,
    next_page,
)
from vcap_es.adapters.http.shapes.caps import Balances, Holder, Holders, Intervals, balances_of
from vcap_es.adapters.http.shapes.events import Event, Events, Verification
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.adapters.http.shapes.statements import AccountStatement, Explanation
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.past.messages import (
    AnyQuestion,
    BalancesThen,
    ConsumeOf,
    EventsOf,
    IntervalsOf,
    LogPage,
    OneEvent,
    ReadingPart,
    ReasonsOf,
    StatementOf,
    Verify,
)
from vcap_es.adapters.past.reader import Reading
from vcap_es.errors import InvalidInput, RequestRefused
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.definitions import check_cap_id
from vcap_es.events.facts import Fact
from vcap_es.events.instants import parse_instant
from vcap_es.projections.balances import interval_balance
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta as MetaState

PART_SECONDS = 60.0
"""Who has not taken a part of an answer by then gets no more: others wait for their turn."""

KINDS = [kind.__name__ for kind in get_args(Fact)]
NDJSON = "application/x-ndjson"

Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


# ---- asking the process that reads the log


async def _told(
    call: ControlCall, question: AnyQuestion, media: str = "application/json", **headers: str
) -> Response:
    """The answer to a question about the past: whole, or as a stream of its parts."""
    part, reading = await _begun(call, question)
    if reading is None:
        return Response(part.body, media_type=media, headers=headers)
    return PartsResponse(reading, part, media_type=media, headers=headers)


async def _begun(call: ControlCall, question: AnyQuestion) -> tuple[ReadingPart, Reading | None]:
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


def _meta(call: ControlCall) -> MetaState:
    meta = call.node.state.metas.get(call.path["cap"])
    if meta is None:
        raise RequestRefused("unknown_cap", f"no cap {call.path['cap']}: define it first")
    return meta


# ---- one cap, now and as it was


class MomentQuery(Query, frozen=True, kw_only=True):
    """As it was at the instant `at`, or after the event at `position`; now without both."""

    at: Instant | None = None
    position: Position | None = None


async def cap_balances(call: ControlCall) -> ControlReply | Response:
    """Where the units of every interval not closed are, down to each server; now or as it was."""
    query: MomentQuery = call.query
    if query.at is not None and query.position is not None:
        raise RequestRefused("bad_request", "give `at` or `position`, not both")
    if query.at is None and query.position is None:
        check_primacy(call.node, changes=False)
        _meta(call)
        return ControlReply(value=await call.node.view(partial(_live_balances, call.path["cap"])))
    at = None if query.at is None else _past(call, query.at)
    return await _told(call, BalancesThen(call.path["cap"], query.position, at))


def _live_balances(cap: str, state: DataCentre) -> Balances:
    return balances_of(state.metas[cap])


def _past(call: ControlCall, text: str) -> int:
    at = parse_instant(text)
    if at > call.node.now():
        raise InvalidInput(f"at, {text}, is not over yet: what was then is not known")
    return at


class IntervalsQuery(Query, frozen=True, kw_only=True):
    """Up to `limit` intervals behind the `cursor` that the page before gave."""

    limit: Limit = 100
    cursor: Number | None = None


async def cap_intervals(call: ControlCall) -> Response:
    """Every interval that the cap ever had, oldest first; closed ones are read from the log."""
    query: IntervalsQuery = call.query
    behind = -1 if query.cursor is None else query.cursor
    part, _ = await _begun(call, IntervalsOf(call.path["cap"], behind, query.limit))
    headers = {} if part.next is None else next_page(call, cursor=str(part.next))
    return Response(part.body, media_type="application/json", headers=headers)


async def cap_holders(call: ControlCall) -> ControlReply:
    """Which server incarnation has what of the intervals that are not closed, the most first."""
    cap = _meta(call).cap
    holders = await call.node.view(lambda state: list(_holders(call.node, state.metas[cap])))
    holders.sort(key=lambda each: (-each.held, each.number, each.incarnation))
    return ControlReply(value=Holders(id=cap, holders=holders))


def _holders(node: MasterNode, meta: MetaState) -> Iterator[Holder]:
    for interval in meta.intervals:
        for each in interval_balance(interval).servers:
            server = node.servers.get(each.incarnation)
            yield Holder(
                number=interval.number,
                incarnation=each.incarnation,
                name=None if server is None else server.name,
                connected=server is not None,
                moved=each.moved,
                returned=each.returned,
                spent=each.spent,
                refunded=each.refunded,
                refused=each.refused,
                held=each.held,
                final=each.final,
            )


class StatementQuery(Query, frozen=True, kw_only=True):
    """Only the lines of this interval."""

    interval: Number | None = None


async def cap_statement(call: ControlCall) -> Response:
    """Every movement of the cap with the balance after it, double-entry; streamed."""
    return await _told(call, StatementOf(call.path["cap"], call.query.interval))


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
        at = call.node.now() if query.at is None else _past(call, query.at)
        return await _told(call, ReasonsOf(cap, at))
    if parse_consume_id(query.id).cap != cap:
        raise InvalidInput(f"{query.id} is a consume of another cap: ask there")
    return await _told(call, ConsumeOf(cap, query.id))


async def cap_history(call: ControlCall) -> Response:
    """Every event of the cap as JSON lines, to keep or to feed to other tools; streamed."""
    cap = call.path["cap"]
    name = f'attachment; filename="{cap.replace(":", "_")}.jsonl"'
    return await _told(call, EventsOf(cap), NDJSON, **{"content-disposition": name})


# ---- the log


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
    part, _ = await _begun(call, asked)
    headers = {} if part.next is None else next_page(call, after=part.next)
    return Response(part.body, media_type="application/json", headers=headers)


async def show_event(call: ControlCall) -> Response:
    """One event whole, with the link by which the chain covers it."""
    text = call.path["position"]
    position = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 0 < position < 2**63:
        raise RequestRefused("not_found", f"there is no event at position {text[:20]}")
    return await _told(call, OneEvent(position, scopes_of(call)))


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
        return await _told(call, Verify())


# ---- the table

_CAP = "/v1/caps/{cap}"

AUDITORS = (
    Route(
        "GET",
        f"{_CAP}/balances",
        "read",
        cap_balances,
        "Balances, now or as they were",
        MomentQuery,
        past=True,
        answer=Balances,
    ),
    Route(
        "GET",
        f"{_CAP}/intervals",
        "read",
        cap_intervals,
        "All intervals",
        IntervalsQuery,
        past=True,
        answer=Intervals,
    ),
    Route("GET", f"{_CAP}/holders", "read", cap_holders, "Who holds what", answer=Holders),
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
