"""What auditors ask: where units are and were, why, the log itself, and whether it is sound.

What is past is read by a process of its own, up to what was committed when the call came; here its
answers are passed along, part by part, so that no reading keeps this process from serving.
"""

from collections.abc import Iterator
from functools import partial

from starlette.responses import Response

from vcap_es.adapters.http.control_plane.log_reading import (
    Limit,
    Number,
    Position,
    begun,
    past,
    told,
)
from vcap_es.adapters.http.control_plane.routes import (
    ControlCall,
    ControlReply,
    Query,
    Route,
    check_primacy,
    next_page,
)
from vcap_es.adapters.http.shapes.caps import Balances, Holder, Holders, Intervals, balances_of
from vcap_es.adapters.http.shapes.scalars import Instant
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.past.messages import (
    BalancesThen,
    IntervalsOf,
)
from vcap_es.errors import RequestRefused
from vcap_es.projections.balances import interval_balance
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta as MetaState

# ---- asking the process that reads the log


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
    at = None if query.at is None else past(call, query.at)
    return await told(call, BalancesThen(call.path["cap"], query.position, at))


def _live_balances(cap: str, state: DataCentre) -> Balances:
    return balances_of(state.metas[cap])


class IntervalsQuery(Query, frozen=True, kw_only=True):
    """Up to `limit` intervals behind the `cursor` that the page before gave."""

    limit: Limit = 100
    cursor: Number | None = None


async def cap_intervals(call: ControlCall) -> Response:
    """Every interval that the cap ever had, oldest first; closed ones are read from the log."""
    query: IntervalsQuery = call.query
    behind = -1 if query.cursor is None else query.cursor
    part, _ = await begun(call, IntervalsOf(call.path["cap"], behind, query.limit))
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


# ---- the log


# ---- the table

_CAP = "/v1/caps/{cap}"

BALANCES = (
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
)
