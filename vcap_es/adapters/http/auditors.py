"""What auditors ask: where units are and were, why, the log itself, and whether it is sound.

What is past is read from the log, chunk by chunk up to where it ended when the call came, so an
answer takes bounded memory however long the log is, and never changes while it is given.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, get_args

import msgspec
from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from vcap_es.adapters.http.keys import Client
from vcap_es.adapters.http.resources import (
    AccountStatement,
    Balances,
    Event,
    Events,
    Explanation,
    Holder,
    Holders,
    Instant,
    IntervalBooks,
    Intervals,
    Problematic,
    Verification,
    Why,
    books_of,
    event_of,
    line_of,
    state_of,
    terms_of,
)
from vcap_es.adapters.http.routes import (
    LIMIT_MAX,
    Call,
    Query,
    Reply,
    Route,
    check_scope,
    next_page,
)
from vcap_es.adapters.master_node import MasterNode
from vcap_es.errors import InvalidInput, LogDamaged, RequestRefused
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.definitions import check_cap_id
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact, caps_of, part_of
from vcap_es.events.instants import parse_instant
from vcap_es.events.log import EventLog
from vcap_es.projections.balances import interval_balance
from vcap_es.projections.consumes import ConsumeExplanation, explain_consume
from vcap_es.projections.explanations import Reason, explain
from vcap_es.projections.history import History, Statement
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta as MetaState
from vcap_es.projections.verification import Verification as Books

CHUNK = 1000
EXPLAINED_MAX = 100_000
"""Events that one explanation takes into memory; a longer life is read as a statement."""

KINDS = [kind.__name__ for kind in get_args(Fact)]
NDJSON = "application/x-ndjson"

Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


# ---- reading the log


async def read_events(
    log: EventLog, *, cap: str | None = None, until: int
) -> AsyncIterator[Recorded]:
    """The events (of `cap`) up to the position `until`, oldest first, one chunk in memory."""
    after = 0
    while chunk := await log.read(after, limit=CHUNK, cap=cap):
        for event in chunk:
            if event.position > until:
                return
            yield event
        after = chunk[-1].position


async def _head(call: Call) -> int:
    return (await call.node.log.head()).position


def _meta(call: Call) -> MetaState:
    meta = call.node.state.metas.get(call.path["cap"])
    if meta is None:
        raise RequestRefused("unknown_cap", f"no cap {call.path['cap']}: define it first")
    return meta


# ---- one cap, now and as it was


class MomentQuery(Query, frozen=True, kw_only=True):
    """As it was at the instant `at`, or after the event at `position`; now without both."""

    at: Instant | None = None
    position: Position | None = None


async def cap_balances(call: Call) -> Reply:
    """Where the units of every interval not closed are, down to each server; now or as it was."""
    query: MomentQuery = call.query
    if query.at is not None and query.position is not None:
        raise RequestRefused("bad_request", "give `at` or `position`, not both")
    if query.at is None and query.position is None:
        _meta(call)
        return Reply(value=await call.node.view(partial(_live_balances, call.path["cap"])))
    history, position = await _as_it_was(call, query)
    meta = history.state.metas.get(call.path["cap"])
    if meta is None:
        raise RequestRefused("unknown_cap", f"there was no cap {call.path['cap']} by then")
    return Reply(value=_balances(meta, position))


def _live_balances(cap: str, state: DataCentre) -> Balances:
    return _balances(state.metas[cap], None)


def _balances(meta: MetaState, position: int | None) -> Balances:
    return Balances(
        id=meta.cap,
        state=state_of(meta),
        version=str(meta.version),
        definition=terms_of(meta.definition),
        position=position,
        intervals=[books_of(interval_balance(each)) for each in meta.intervals],
    )


async def _as_it_was(call: Call, query: MomentQuery) -> tuple[History, int]:
    """The state of the cap then, and the position of its last event up to then."""
    cap, head = call.path["cap"], await _head(call)
    at = None if query.at is None else _past(call, query.at)
    until = head if query.position is None else query.position
    if until > head:
        raise InvalidInput(f"position {until} is not written yet: the log ends at {head}")
    history, last = History(cap), 0
    async for event in read_events(call.node.log, cap=cap, until=until):
        if at is not None and event.recorded_at > at:
            break
        history.evolve(event.fact)
        history.closed.clear()
        last = event.position
    return history, last


def _past(call: Call, text: str) -> int:
    at = parse_instant(text)
    if at > call.node.now():
        raise InvalidInput(f"at, {text}, is not over yet: what was then is not known")
    return at


class IntervalsQuery(Query, frozen=True, kw_only=True):
    """Up to `limit` intervals behind the `cursor` that the page before gave."""

    limit: Limit = 100
    cursor: Number | None = None


async def cap_intervals(call: Call) -> Reply:
    """Every interval that the cap ever had, oldest first; closed ones are read from the log."""
    query: IntervalsQuery = call.query
    meta, behind = _meta(call), -1 if query.cursor is None else query.cursor
    found: list[IntervalBooks] = []

    def keep(intervals: list[Interval]) -> None:
        found.extend(books_of(interval_balance(each)) for each in intervals if each.number > behind)
        # Intervals close in nearly their order; one more than the page tells that there is another.
        found.sort(key=lambda each: each.number)
        del found[query.limit + 1 :]

    history = History(meta.cap)
    async for event in read_events(call.node.log, cap=meta.cap, until=await _head(call)):
        history.evolve(event.fact)
        keep(history.closed.pop(meta.cap, []))
    keep(history.intervals(meta.cap))
    more = len(found) > query.limit
    page = found[: query.limit]
    cursor = str(page[-1].number) if more else None
    answer = Intervals(id=meta.cap, intervals=page, next=cursor)
    return Reply(value=answer, headers=next_page(call, cursor=cursor) if cursor else {})


async def cap_holders(call: Call) -> Reply:
    """Which server incarnation has what of the intervals that are not closed, the most first."""
    cap = _meta(call).cap
    holders = await call.node.view(lambda state: list(_holders(call.node, state.metas[cap])))
    holders.sort(key=lambda each: (-each.held, each.number, each.incarnation))
    return Reply(value=Holders(id=cap, holders=holders))


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


async def cap_statement(call: Call) -> Response:
    """Every movement of the cap with the balance after it, double-entry; streamed."""
    meta, number = _meta(call), call.query.interval
    if number is not None and number >= meta.next_number:
        raise RequestRefused("not_found", f"{meta.cap} has had no interval {number}")
    lines = _statement(call.node.log, meta.cap, number, await _head(call))
    return StreamingResponse(lines, media_type="application/json")


async def _statement(
    log: EventLog, cap: str, number: int | None, until: int
) -> AsyncIterator[bytes]:
    statement, comma = Statement(cap), b""
    yield b'{"id":' + msgspec.json.encode(cap) + b',"lines":['
    async for event in read_events(log, cap=cap, until=until):
        for line in statement.feed(event):
            if number in (None, line.number):
                yield comma + msgspec.json.encode(line_of(line))
                comma = b",\n"
        statement.history.closed.clear()
    yield b"]}\n"


class ExplainQuery(Query, frozen=True, kw_only=True):
    """Every unit as it was at the instant `at` (now by default), or the consume `id`."""

    at: Instant | None = None
    id: Annotated[str, Meta(max_length=512)] | None = None


async def cap_explain(call: Call) -> Reply:
    """Where every unit of an interval went and by which events, or what became of one consume."""
    query: ExplainQuery = call.query
    cap = _meta(call).cap
    if query.at is not None and query.id is not None:
        raise RequestRefused("bad_request", "give `at` or `id`, not both")
    if query.id is not None and parse_consume_id(query.id).cap != cap:
        raise InvalidInput(f"{query.id} is a consume of another cap: ask there")
    at = call.node.now() if query.at is None else _past(call, query.at)
    events = await _life(call, cap)
    names = {node: seen.name for node, seen in call.node.state.nodes.items()}
    # Plain arithmetic over values that never change: it may take its time beside the loop.
    if query.id is not None:
        told = await asyncio.to_thread(explain_consume, events, query.id, names)
        return Reply(value=_consume_explanation(cap, told))
    reasons = await asyncio.to_thread(explain, events, cap, at=at, names=names)
    return Reply(value=_explanation(cap, reasons))


async def _life(call: Call, cap: str) -> list[Recorded]:
    events: list[Recorded] = []
    async for event in read_events(call.node.log, cap=cap, until=await _head(call)):
        events.append(event)
        if len(events) > EXPLAINED_MAX:
            detail = f"{cap} has more than {EXPLAINED_MAX} events: read its statement instead"
            raise InvalidInput(detail)
    return events


def _explanation(cap: str, reasons: list[Reason]) -> Explanation:
    why = [
        Why(
            place=each.place,
            server=each.server,
            amount=each.amount,
            text=each.text,
            events=each.events,
            positions=each.positions,
        )
        for each in reasons
    ]
    return Explanation(id=cap, text="\n".join(each.text for each in reasons), reasons=why)


def _consume_explanation(cap: str, told: ConsumeExplanation) -> Explanation:
    return Explanation(id=cap, text="\n".join(told.sentences), reasons=[], status=told.status)


async def cap_history(call: Call) -> Response:
    """Every event of the cap as JSON lines, to keep or to feed to other tools; streamed."""
    cap = _meta(call).cap
    lines = _history(call, cap, await _head(call))
    name = cap.replace(":", "_")
    headers = {"content-disposition": f'attachment; filename="{name}.jsonl"'}
    return StreamingResponse(lines, media_type=NDJSON, headers=headers)


async def _history(call: Call, cap: str, until: int) -> AsyncIterator[bytes]:
    async for event in read_events(call.node.log, cap=cap, until=until):
        shown = visible(call.node, call.client, event, cap)
        if shown is not None:
            yield msgspec.json.encode(shown) + b"\n"


# ---- the log


class LogQuery(Query, frozen=True, kw_only=True):
    """Events behind the position `after`; only of a cap, only of a kind of fact."""

    after: Position = 0
    limit: Limit = 100
    cap: str | None = None
    kind: Annotated[str, Meta(extra_json_schema={"enum": KINDS})] | None = None


async def list_events(call: Call) -> Reply:
    """A page of the log, oldest first, of what the key opens."""
    query: LogQuery = call.query
    if query.cap is not None:
        check_scope(call.node, call.client, query.cap)
        check_cap_id(query.cap)
    if query.kind is not None and query.kind not in KINDS:
        raise RequestRefused("bad_request", f"kind is one of {', '.join(KINDS)}")
    head = await _head(call)
    read = await call.node.log.read(query.after, limit=query.limit, cap=query.cap, kind=query.kind)
    shown = [visible(call.node, call.client, event, query.cap) for event in read]
    more = len(read) == query.limit and read[-1].position < head
    after = read[-1].position if more else None
    page = Events(events=[each for each in shown if each], head=max(head, _last(read)), next=after)
    return Reply(value=page, headers=next_page(call, after=after) if more else {})


def _last(read: list[Recorded]) -> int:
    return read[-1].position if read else 0


async def show_event(call: Call) -> Reply:
    """One event whole, with the link by which the chain covers it."""
    text = call.path["position"]
    position = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    read = await call.node.log.read(position - 1, limit=1) if 0 < position < 2**63 else []
    shown = None
    if read and read[0].position == position:
        shown = visible(call.node, call.client, read[0])
    if shown is None:
        raise RequestRefused("not_found", f"no event at position {text[:20]} that your key opens")
    return Reply(value=shown)


def visible(
    node: MasterNode, client: Client, event: Recorded, cap: str | None = None
) -> Event | None:
    """The event as far as the key opens it; None where it opens nothing of it.

    A fact that speaks of no cap is of the whole data centre: it takes a key that opens all.
    """
    fact = event.fact
    if cap is None and client.scopes.are_all:
        return event_of(event, fact)
    open_caps = {
        each for each in caps_of(fact) if cap in (None, each) and _opens(node, client, each)
    }
    if not open_caps:
        return None
    return event_of(event, part_of(fact, open_caps))


def _opens(node: MasterNode, client: Client, cap: str) -> bool:
    meta = node.state.metas.get(cap)
    return client.allows(cap, meta.definition.group if meta else None)


async def _verified(log: EventLog, until: int) -> Books:
    """The chain and the books of a log up to `until`, chunk by chunk, off the event loop."""
    books, after = Books(), 0
    while after < until and not books.is_over:
        limit = min(CHUNK, until - after)
        stored = await log.read_stored(after, limit=limit)
        if not stored:
            books.broken(f"the log ends before position {until}, which was written")
            break
        await asyncio.to_thread(books.feed_links, stored)
        try:
            events = await log.read(after, limit=limit)
        except LogDamaged as damage:
            books.broken(str(damage))
            break
        await asyncio.to_thread(books.feed_books, events)
        after = stored[-1].position
    return books


def _verdict(books: Books) -> Verification:
    flaws = [
        Problematic(position=each.position, rule=each.rule, detail=each.detail)
        for each in books.flaws()
    ]
    return Verification(
        sound=not flaws, position=books.position, link=books.link.hex(), findings=flaws
    )


_verifying = asyncio.Semaphore(1)
"""One verification at a time: it reads the whole log."""


async def verify_log(call: Call) -> Reply:
    """Check every link of the chain and every equation of the books, from the first event on."""
    if _verifying.locked():
        raise RequestRefused("busy", "the log is being verified already", retry_after_ms=5000)
    async with _verifying:
        books = await _verified(call.node.log, await _head(call))
        verdict = await asyncio.to_thread(_verdict, books)
    return Reply(value=verdict)


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
        answer=Balances,
    ),
    Route(
        "GET",
        f"{_CAP}/intervals",
        "read",
        cap_intervals,
        "All intervals",
        IntervalsQuery,
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
        answer=AccountStatement,
    ),
    Route(
        "GET",
        f"{_CAP}/explain",
        "read",
        cap_explain,
        "Where every unit went, and why",
        ExplainQuery,
        answer=Explanation,
    ),
    Route(
        "GET",
        f"{_CAP}/history",
        "read",
        cap_history,
        "All events, to download",
        answer=Event,
        media=NDJSON,
    ),
    Route("GET", "/v1/log", "read", list_events, "Read the log", LogQuery, answer=Events),
    Route("GET", "/v1/log/{position}", "read", show_event, "Show an event", answer=Event),
    Route(
        "GET",
        "/v1/verify",
        "read",
        verify_log,
        "Verify the log",
        answer=Verification,
        needs_all=True,
    ),
)
