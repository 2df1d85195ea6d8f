"""API keys: who may call what. Their secrets are told once, and never kept."""

from secrets import token_bytes

import msgspec

from vcap_es.adapters.http.callers import Client, new_key
from vcap_es.adapters.http.control_plane.changes import submit
from vcap_es.adapters.http.control_plane.routes import (
    POSITION,
    ControlCall,
    ControlReply,
    PageQuery,
    Route,
    next_page,
    read_body,
)
from vcap_es.adapters.http.shapes.api_keys import KeyRequest, Keys, MadeKey, key_of
from vcap_es.components.decisions.access import CreateKey, RevokeKey
from vcap_es.errors import InvalidInput, RequestRefused
from vcap_es.events.facts import ApiKeyCreated
from vcap_es.events.instants import format_instant, parse_instant
from vcap_es.projections.states.data_centre import DataCentre


async def list_keys(call: ControlCall) -> ControlReply:
    """A page of the keys that open nothing which the caller's key does not."""
    query: PageQuery = call.query

    def read(state: DataCentre) -> Keys:
        behind = query.cursor or ""
        own = [each for each in state.access.keys.values() if _is_below(call.client, each)]
        rest = sorted((each for each in own if each.key > behind), key=lambda each: each.key)
        page = [key_of(each) for each in rest[: query.limit]]
        return Keys(keys=page, next=page[-1].id if len(rest) > len(page) else None)

    found = await call.node.view(read)
    return ControlReply(
        value=found, headers=next_page(call, cursor=found.next) if found.next else {}
    )


def _is_below(client: Client, key: ApiKeyCreated) -> bool:
    return all(map(client.scopes.cover, key.scopes))


async def make_key(call: ControlCall) -> ControlReply:
    """Make a key; its secret is told in this answer and never again."""
    wanted = read_body(call, KeyRequest)
    for scope in wanted.scopes:
        if not call.client.scopes.cover(scope):
            detail = f"your key does not open all of {scope}, so it cannot give that away"
            raise RequestRefused("forbidden", detail)
    expires_at = _expiry(wanted.expires_at, call.node.now())
    given = None if wanted.id is msgspec.UNSET else wanted.id
    made = new_key(token_bytes(40), given)
    command = CreateKey(
        key=made.key,
        digest=made.digest,
        role=wanted.role,
        scopes=wanted.scopes,
        expires_at=expires_at,
    )
    done = await submit(call, command)
    answer = MadeKey(
        id=made.key,
        role=wanted.role,
        scopes=wanted.scopes,
        expires_at=None if expires_at is None else format_instant(expires_at),
        secret=made.text,
    )
    headers = {"location": f"/v1/keys/{made.key}", POSITION: str(done.position)}
    return ControlReply(value=answer, status=201, headers=headers)


def _expiry(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    expires_at = parse_instant(text)
    if expires_at <= now:
        raise InvalidInput(f"expires_at, {text}, is over: give a later instant")
    return expires_at


async def revoke_key(call: ControlCall) -> ControlReply:
    """Let a key open nothing any more, at every connected server within about a second."""
    found = call.node.state.access.keys.get(call.path["key"])
    if found is not None and not _is_below(call.client, found):
        raise RequestRefused("forbidden", "that key opens what yours does not")
    done = await submit(call, RevokeKey(key=call.path["key"]))
    return ControlReply(status=204, headers={POSITION: str(done.position)})


API_KEYS = (
    Route(
        "GET", "/v1/keys", "administer", list_keys, "List API keys", query=PageQuery, answer=Keys
    ),
    Route(
        "POST",
        "/v1/keys",
        "administer",
        make_key,
        "Make an API key",
        body=KeyRequest,
        answer=MadeKey,
        statuses=(201,),
    ),
    Route(
        "DELETE",
        "/v1/keys/{key}",
        "administer",
        revoke_key,
        "Revoke an API key",
        statuses=(204,),
    ),
)
