"""What operators do to caps.

Every change is an event: its actor is the API key's id, its correlation the request's id.
"""

from itertools import islice

import msgspec

from vcap_es.adapters.http.callers import Client
from vcap_es.adapters.http.control_plane.changes import EXAMPLE, Acknowledged, definition_in, submit
from vcap_es.adapters.http.control_plane.routes import (
    POSITION,
    WATERMARK,
    ControlCall,
    ControlReply,
    PageQuery,
    Route,
    check_scope,
    next_page,
    read_body,
)
from vcap_es.adapters.http.shapes.caps import (
    Cap,
    Caps,
    HomeRequest,
    State,
    Terms,
    cap_of,
    state_of,
    unheard_server,
)
from vcap_es.components.decisions.meta import (
    NO_VERSION,
    CapCommand,
    Define,
    MoveHome,
    Pause,
    Resume,
    Retire,
)
from vcap_es.components.primary_master.outputs import Done
from vcap_es.errors import RequestRefused
from vcap_es.events.facts import MetaDefined, Version
from vcap_es.events.instants import format_instant
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta

SCAN_MAX = 50_000
"""Caps that one page looks at; a filter that few fit gives short pages instead of a long wait."""


# ---- caps


class CapsQuery(PageQuery, frozen=True, kw_only=True):
    """Which caps: of a group, with ids that begin so, in a state."""

    group: str | None = None
    prefix: str = ""
    state: State | None = None


async def list_caps(call: ControlCall) -> ControlReply:
    """A page of the caps that the key opens."""
    query: CapsQuery = call.query
    now = call.node.now()

    def read(state: DataCentre) -> Caps:
        caps, place = list[Cap](), _place(query.cursor, state.epoch)
        # Caps are never forgotten, so a place among them is a cursor for as long as an epoch lasts.
        for meta in islice(state.metas.values(), place, place + SCAN_MAX):
            place += 1
            if _fits(meta, query, call.client):
                caps.append(cap_of(meta, now, call.node.dc))
            if len(caps) == query.limit:
                break
        more = place < len(state.metas)
        return Caps(caps=caps, next=f"{state.epoch}.{place}" if more else None)

    page = await call.node.view(read)
    return ControlReply(value=page, headers=next_page(call, cursor=page.next) if page.next else {})


def _fits(meta: Meta, query: CapsQuery, client: Client) -> bool:
    group = meta.definition.group
    return (
        meta.cap.startswith(query.prefix)
        and query.group in (None, group)
        and query.state in (None, state_of(meta))
        and client.allows(meta.cap, group)
    )


def _place(cursor: str | None, epoch: int) -> int:
    """The place that a cursor of this epoch names; another epoch may have another order."""
    if cursor is None:
        return 0
    before, _, place = cursor.partition(".")
    if before != str(epoch) or not (place.isascii() and place.isdecimal() and len(place) <= 18):
        detail = "no page begins there (any more): begin again without a cursor"
        raise RequestRefused("bad_request", detail)
    return int(place)


async def show_cap(call: ControlCall) -> ControlReply:
    """The cap, with its version as the entity tag."""
    now = call.node.now()
    cap = await call.node.view(lambda state: _found(state, call.path["cap"], now, call.node.dc))
    if cap is None:
        raise RequestRefused("unknown_cap", f"no cap {call.path['cap']}: define it first")
    return ControlReply(value=cap, headers={"etag": f'"{cap.version}"'})


def _found(state: DataCentre, name: str, now: int, dc: str) -> Cap | None:
    meta = state.metas.get(name)
    return None if meta is None else cap_of(meta, now, dc)


async def define_cap(call: ControlCall) -> ControlReply:
    """Let the cap have this definition; 201 where it did not exist or was retired."""
    name, definition = call.path["cap"], definition_in(call)
    if not call.client.allows(name, definition.group):
        detail = f"your key would not open {name} in the group {definition.group}"
        raise RequestRefused("forbidden", detail, cap=name)
    command = Define(cap=name, definition=definition, if_version=_wanted_version(call))
    return await _change_cap(call, command)


async def pause_cap(call: ControlCall) -> ControlReply:
    """Let the total in force be 0 until the cap is resumed."""
    return await _change_cap(call, Pause(cap=call.path["cap"], if_version=_wanted_version(call)))


async def resume_cap(call: ControlCall) -> ControlReply:
    """Let the total of the definition be in force again."""
    return await _change_cap(call, Resume(cap=call.path["cap"], if_version=_wanted_version(call)))


async def retire_cap(call: ControlCall) -> ControlReply:
    """End the cap and its open intervals."""
    return await _change_cap(call, Retire(cap=call.path["cap"], if_version=_wanted_version(call)))


async def move_cap(call: ControlCall) -> ControlReply:
    """Let another data centre decide the cap, from its first interval that is not open yet."""
    to = read_body(call, HomeRequest).home
    command = MoveHome(cap=call.path["cap"], to=to, if_version=_wanted_version(call))
    return await _change_cap(call, command)


async def _change_cap(call: ControlCall, command: CapCommand) -> ControlReply:
    # From here to the decision nothing waits, so the scope checked is that of the cap changed.
    check_scope(call.node, call.client, command.cap)
    done = await submit(call, command)
    shown = await show_cap(call)
    is_new = any(isinstance(each, MetaDefined) for each in done.facts)
    headers = {**shown.headers, POSITION: str(done.position), **await _permanence(call, done)}
    assert isinstance(shown.value, Cap)
    unheard = [unheard_server(each) for each in done.unheard]
    value = msgspec.structs.replace(shown.value, unheard=unheard)
    return ControlReply(value=value, status=201 if is_new else 200, headers=headers)


async def _permanence(call: ControlCall, done: Done) -> dict[str, str]:
    """Where it was asked for: wait until every data centre has passed what was done."""
    query = call.query
    if not isinstance(query, Acknowledged) or query.ack != "permanent":
        return {}
    try:
        order = await call.node.order.up_to(call.node.stamp() + 1)
    except RequestRefused as refused:
        detail = f"it is done, at position {done.position}, and not permanent yet: {refused}"
        raise RequestRefused("not_permanent", detail) from refused
    return {WATERMARK: format_instant(order.watermark)}


def _wanted_version(call: ControlCall) -> Version | None:
    """The version that the request's conditions ask for; None: whichever there is."""
    meta = call.node.state.metas.get(call.path["cap"])
    if_match, if_none_match = call.headers.get("if-match"), call.headers.get("if-none-match")
    if if_match is not None and if_none_match is not None:
        raise RequestRefused("bad_request", "give If-Match or If-None-Match, not both")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise RequestRefused("bad_request", "If-None-Match can only be *: define, not change")
        return NO_VERSION
    if if_match is None:
        return None
    return _any_version(meta) if if_match.strip() == "*" else _version_in(if_match.strip())


def _any_version(meta: Meta | None) -> Version:
    if meta is None:
        raise RequestRefused("version_conflict", "If-Match is *, and there is no such cap")
    return meta.version


def _version_in(tag: str) -> Version:
    generation, _, number = tag.removeprefix('"').removesuffix('"').partition(".")
    is_tag = len(tag) >= 2 and tag[0] == tag[-1] == '"'
    for part in (generation, number):
        is_tag = is_tag and part.isascii() and part.isdecimal() and len(part) <= 18
    if not is_tag:
        detail = 'If-Match is one version as ETag told it, such as "0.3", or *'
        raise RequestRefused("bad_request", detail)
    return Version(int(generation), int(number))


# ---- templates


# ---- API keys


# ---- the table

_CAP = "/v1/caps/{cap}"


CAPS = (
    Route("GET", "/v1/caps", "read", list_caps, "List caps", query=CapsQuery, answer=Caps),
    Route("GET", _CAP, "read", show_cap, "Show a cap", answer=Cap),
    Route(
        "PUT",
        _CAP,
        "operate",
        define_cap,
        "Define or change a cap",
        query=Acknowledged,
        body=Terms,
        example=EXAMPLE,
        answer=Cap,
        statuses=(200, 201),
        conditions=("If-Match", "If-None-Match"),
    ),
    Route(
        "DELETE",
        _CAP,
        "operate",
        retire_cap,
        "Retire a cap",
        query=Acknowledged,
        answer=Cap,
        conditions=("If-Match",),
    ),
    Route(
        "POST",
        f"{_CAP}/pause",
        "operate",
        pause_cap,
        "Pause a cap",
        query=Acknowledged,
        answer=Cap,
        conditions=("If-Match",),
    ),
    Route(
        "POST",
        f"{_CAP}/resume",
        "operate",
        resume_cap,
        "Resume a cap",
        query=Acknowledged,
        answer=Cap,
        conditions=("If-Match",),
    ),
    Route(
        "POST",
        f"{_CAP}/move",
        "operate",
        move_cap,
        "Move a cap to another home",
        query=Acknowledged,
        body=HomeRequest,
        answer=Cap,
        conditions=("If-Match",),
    ),
)
