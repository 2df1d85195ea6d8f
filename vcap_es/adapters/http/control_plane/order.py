"""The events of all data centres in one order, each with the number that it will always have."""

import re
from typing import Annotated

from msgspec import Meta, Struct

from vcap_es.adapters.http.control_plane.routes import (
    ControlCall,
    ControlReply,
    Query,
    Route,
    next_page,
)
from vcap_es.adapters.http.shapes.events import Event, event_of
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.errors import RequestRefused
from vcap_es.events.instants import format_instant
from vcap_es.events.placements import CENTRE, CENTRES_MAX

LIMIT_MAX = 500
_CURSOR = re.compile(rf"({CENTRE}:[0-9]{{1,18}})(,{CENTRE}:[0-9]{{1,18}}){{0,{CENTRES_MAX}}}")


class OrderQuery(Query, frozen=True, kw_only=True):
    """Events after the `cursor` that the page before told."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 100


class NumberedEvent(Struct, frozen=True, kw_only=True):
    """An event of some data centre; `number` is its place in the order of all, for ever."""

    number: int
    event: Event


class OrderedEvents(Struct, frozen=True, kw_only=True):
    """A page of the order of all events: below `watermark` nothing will ever be recorded.

    Go on after `cursor`: at once where there is `more`, else when more may have been recorded.
    """

    watermark: Instant
    events: list[NumberedEvent]
    cursor: str
    more: bool


async def list_ordered(call: ControlCall) -> ControlReply:
    """The events of all data centres in one order, up to a watermark that all have passed.

    Where one cannot be reached, nobody can know what it has recorded: the answer names it.
    """
    query: OrderQuery = call.query
    after = _positions(query.after)
    with call.node.past.share(call.client.key):
        order = await call.node.order.so_far()
        page = await call.node.order.page(order, after, query.limit)
    for each in page:
        after[each.event.dc] = each.event.position
    answer = OrderedEvents(
        watermark=format_instant(order.watermark),
        events=[
            NumberedEvent(number=each.number, event=event_of(each.event, each.event.fact))
            for each in page
        ],
        cursor=_cursor(after),
        more=len(page) == query.limit,
    )
    headers = next_page(call, after=answer.cursor) if answer.more else {}
    return ControlReply(value=answer, headers=headers)


def _positions(cursor: str | None) -> dict[str, int]:
    if not cursor:
        return {}
    if not _CURSOR.fullmatch(cursor):
        raise RequestRefused("bad_request", "after is what the page before told as its cursor")
    parts = (each.partition(":") for each in cursor.split(","))
    return {dc: int(position) for dc, _, position in parts}


def _cursor(after: dict[str, int]) -> str:
    return ",".join(f"{dc}:{position}" for dc, position in sorted(after.items()))


ORDER = (
    Route(
        "GET",
        "/v1/audit/events",
        "read",
        list_ordered,
        "Read all data centres in order",
        query=OrderQuery,
        answer=OrderedEvents,
        needs_all=True,
    ),
)
