"""The client plane: consume, hold, refund and look up over HTTP.

One table says what there is, who may call it, and what answers. Every call is the same five steps:
who calls, what is asked, may they, do it, say it.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from vcap_es.adapters.http.callers import Client, Scopes
from vcap_es.adapters.http.client_plane.answers import (
    json_response,
    level_response,
    outcome_response,
)
from vcap_es.adapters.http.client_plane.calls import ClientRequest, Endpoint
from vcap_es.adapters.http.client_plane.forwarding import FORWARD_SECONDS, forward
from vcap_es.adapters.http.client_plane.plane import (
    AUDITORS,
    READERS,
    TAKERS,
    ClientPlane,
)
from vcap_es.adapters.http.known_masters import links_response
from vcap_es.adapters.http.probes import live_response, metrics_response, ready_response
from vcap_es.adapters.http.problems import (
    problem,
    problem_response,
    refusal_problem,
    refused_response,
)
from vcap_es.adapters.http.request_bodies import (
    BATCH_BYTES_MAX,
    CAP_ID,
    cancel_command,
    commit_command,
    consume_command,
    consume_several_command,
    hold_command,
    refund_command,
)
from vcap_es.adapters.http.shapes.nodes import known_node
from vcap_es.adapters.links.discovery import LINKS_PATH
from vcap_es.components.messages.client import (
    Cancel,
    Command,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Outcome,
    Refused,
)
from vcap_es.errors import RequestRefused
from vcap_es.events.consume_ids import find_consume_id, find_shadow_id

CALLS_UNDER_WAY_MAX = 4096
"""Calls that one server works on at a time; one more is answered with `busy`. The last quarter of
them is for API keys that have less than a quarter, so none shuts out the others.
"""


_NOBODY = Client("", "client", Scopes([]))
"""Who calls where no key is needed; opens nothing."""

_BARE_KEY = re.compile(r"[!#-~]{1,255}")
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
_CAP = re.compile(CAP_ID)


# ---- what is asked


async def _consume(call: ClientRequest) -> Response:
    cap = call.path("cap")
    if not _CAP.fullmatch(cap):
        raise RequestRefused("not_found", "a cap's id is 1 to 128 of A-Z a-z 0-9 . _ : -")
    return await _do(call, consume_command(cap, call.body))


async def _consume_several(call: ClientRequest) -> Response:
    return await _do(call, consume_several_command(call.body))


async def _hold(call: ClientRequest) -> Response:
    return await _do(call, hold_command(call.body))


async def _commit(call: ClientRequest) -> Response:
    return await _do(call, commit_command(call.path("id"), call.body))


async def _cancel(call: ClientRequest) -> Response:
    return await _do(call, cancel_command(call.path("id"), call.body))


async def _refund(call: ClientRequest) -> Response:
    command = refund_command(call.body)
    if _place_of(command.id)[1] != call.path("cap"):
        detail = f"the id is of another cap than {call.path('cap')[:128]!r}"
        raise RequestRefused("unknown_id", detail)
    return await _do(call, command)


async def _look_up(call: ClientRequest) -> Response:
    cap = call.path("cap")
    await _check_scope(call, [cap])
    answer = await call.plane.node.lookup(cap)
    if isinstance(answer, Refused):
        return problem_response(refusal_problem(answer))
    return level_response(call.plane, answer)


async def _nodes(call: ClientRequest) -> Response:
    nodes = [known_node(each) for each in call.plane.node.nodes()]
    return json_response(msgspec.json.encode({"nodes": nodes}), {})


async def _links(call: ClientRequest) -> Response:
    return links_response(call.request, call.plane.node)


async def _live(_call: ClientRequest) -> Response:
    return live_response()


async def _ready(call: ClientRequest) -> Response:
    return ready_response(call.plane.node.ready, verbose="verbose" in call.request.query_params)


async def _metrics(call: ClientRequest) -> Response:
    return metrics_response(call.plane.node.metrics)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("consume", "POST", "/v1/caps/{cap}/consume", TAKERS, _consume),
    Endpoint("consume_several", "POST", "/v1/consume", TAKERS, _consume_several, BATCH_BYTES_MAX),
    Endpoint("hold", "POST", "/v1/holds", TAKERS, _hold),
    Endpoint("commit", "POST", "/v1/holds/{id}/commit", TAKERS, _commit),
    Endpoint("cancel", "POST", "/v1/holds/{id}/cancel", TAKERS, _cancel),
    Endpoint("refund", "POST", "/v1/caps/{cap}/refund", TAKERS, _refund),
    Endpoint("lookup", "GET", "/v1/caps/{cap}", READERS, _look_up),
    Endpoint("nodes", "GET", "/v1/nodes", AUDITORS, _nodes),
    Endpoint("links", "GET", LINKS_PATH, None, _links),
    Endpoint("livez", "GET", "/livez", None, _live),
    Endpoint("healthz", "GET", "/healthz", None, _live),
    Endpoint("readyz", "GET", "/readyz", None, _ready),
    Endpoint("metrics", "GET", "/metrics", None, _metrics),
)


# ---- may they, and do it


async def _do(call: ClientRequest, command: Command) -> Response:
    """Check the caps of `command`, do it here or where its id is from, and answer."""
    caps, incarnation = _concerns(command)
    await _check_scope(call, caps)
    node = call.plane.node
    if incarnation is not None and incarnation != node.incarnation:
        return await forward(call, incarnation)
    outcome = await node.submit(command, _idempotency(call, command), call.client.key)
    _count(call.plane, command, outcome)
    return outcome_response(call.plane, outcome)


def _concerns(command: Command) -> tuple[list[str], str | None]:
    """The caps that a command is about, and the server incarnation it is for, if it names one."""
    match command:
        case Consume(cap=cap) | Hold(cap=cap):
            return [cap], None
        case ConsumeAll(items=items) | ConsumeEach(items=items):
            return [item.cap for item in items], None
        case Commit(id=id_) | Cancel(id=id_) | Refund(id=id_):
            incarnation, cap = _place_of(id_)
            return [cap], incarnation


def _place_of(id_: str) -> tuple[str | None, str]:
    """The incarnation and the cap that an id names; no server keeps anything of a shadow yes."""
    shadow = find_shadow_id(id_)
    if shadow is not None and _CAP.fullmatch(shadow.cap):
        return None, shadow.cap
    named = find_consume_id(id_)
    if named is None or not _CAP.fullmatch(named.cap):
        raise RequestRefused("unknown_id", "this is no id of a consume or a hold")
    return named.incarnation, named.cap


async def _check_scope(call: ClientRequest, caps: list[str]) -> None:
    plane, client = call.plane, call.client
    for cap in dict.fromkeys(caps):
        if plane.allows(client, cap):
            continue
        # A cap's group is unknown here until somebody has asked for the cap.
        if client.scopes.has_groups and _CAP.fullmatch(cap) and plane.node.group_of(cap) is None:
            await plane.node.lookup(cap)
        if not plane.allows(client, cap):
            raise RequestRefused("forbidden", "this API key does not open the cap", cap=cap)


def _idempotency(call: ClientRequest, command: Command) -> Idempotency | None:
    """The caller's key for this call, which is nobody else's, and what is asked."""
    values = call.request.headers.getlist("idempotency-key")
    if not values:
        return None
    value = values[0]
    quoted = _QUOTED_KEY.fullmatch(value) if value[:1] == '"' else None
    if len(values) > 1 or not (quoted or _BARE_KEY.fullmatch(value)):
        detail = "Idempotency-Key is one text of 1 to 255 printable characters, in quotes or bare"
        raise RequestRefused("bad_request", detail)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if len(key) > 255:
        raise RequestRefused("bad_request", "Idempotency-Key is longer than 255 characters")
    caller, request = call.client.key, call.request
    asked = [caller, request.method, request.scope["path"], command]
    return Idempotency(key=f"{caller}/{key}", fingerprint=msgspec.json.encode(asked))


# ---- say it


def _count(plane: ClientPlane, command: Command, outcome: Outcome) -> None:
    counts = plane.counts
    match command, outcome:
        case Consume(), Consumed() | Refused():
            counts.result(outcome, command.maximum)
        case ConsumeAll(), Refused():
            counts.result(outcome, sum(item.maximum for item in command.items))
        case ConsumeAll(items=asked) | ConsumeEach(items=asked), (
            ConsumedAll(items=answers) | ConsumedEach(items=answers)
        ):
            counts.batch([*answers], [item.maximum for item in asked])


# ---- the application


def client_app(plane: ClientPlane) -> Starlette:
    """The application that serves the clients of one volumecap server."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(
            timeout=FORWARD_SECONDS, limits=limits, follow_redirects=False, trust_env=False
        ) as http:
            yield {"http": http}

    async def no_such(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        detail = f"{request.method} {request.url.path[:128]} is not served here: see /docs"
        return _finish(plane, "other", problem_response(problem(code, detail), error.headers))

    async def failed(_request: Request, _error: Exception) -> Response:
        members = problem("internal_error", "the server failed; its log says why")
        return _finish(plane, "other", problem_response(members))

    allocator = _Dispatcher(plane)
    app = Starlette(
        routes=[
            Route(each.path, allocator.serve(each), methods=[each.method], name=each.name)
            for each in ENDPOINTS
        ],
        exception_handlers={HTTPException: no_such, Exception: failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Dispatcher:
    """What every call goes through: who calls, in which role, with how large a body."""

    def __init__(self, plane: ClientPlane) -> None:
        self._plane = plane
        self._under_way = 0
        self._by_key: dict[str, int] = {}
        """How many of the calls under way are whose."""

    def serve(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """The handler of a row of the route table."""

        async def handle(request: Request) -> Response:
            self._under_way += 1
            try:
                response = await self._answer(endpoint, request)
            except RequestRefused as refused:
                response = refused_response(refused)
            except ClientDisconnect:
                # Nobody hears this answer; it is counted.
                response = problem_response(problem("timeout", "the body did not come"))
            finally:
                self._under_way -= 1
            return _finish(self._plane, endpoint.name, response)

        return handle

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        if endpoint.roles is None:
            return await endpoint.answer(ClientRequest(self._plane, request, _NOBODY, b""))
        self._check_room(0)
        client = self._caller(request)
        if client.role not in endpoint.roles:
            raise RequestRefused("forbidden", f"an API key of role {client.role} may not do this")
        mine = self._by_key.get(client.key, 0)
        self._check_room(mine)
        self._by_key[client.key] = mine + 1
        try:
            body = await _read(request, endpoint.body_bytes_max)
            return await endpoint.answer(ClientRequest(self._plane, request, client, body))
        finally:
            self._by_key[client.key] -= 1
            if not self._by_key[client.key]:
                del self._by_key[client.key]

    def _check_room(self, mine: int) -> None:
        """Refuse one more call of who has `mine` under way, where there is no room for it."""
        quarter = CALLS_UNDER_WAY_MAX // 4
        room = CALLS_UNDER_WAY_MAX - (quarter if mine >= max(1, quarter) else 0)
        if self._under_way > room:
            whose = f", {mine} of them with this API key" if mine else ""
            detail = f"too many calls are under way at this server{whose}"
            raise RequestRefused("busy", detail, retry_after_ms=1000)

    def _caller(self, request: Request) -> Client:
        if not self._plane.node.ready_keys:
            detail = "this server has not heard yet which API keys are good"
            raise RequestRefused("unavailable", detail, retry_after_ms=1000)
        headers = request.headers.getlist("authorization")
        client = self._plane.callers.find(headers[0].encode("latin-1")) if headers else None
        if client is None or len(headers) > 1:
            detail = "send `Authorization: Bearer <API key>` with a key that is in force"
            raise RequestRefused("unauthorized", detail)
        return client


async def _read(request: Request, bytes_max: int) -> bytes:
    """The whole body, if it is JSON and not too large."""
    headers = request.headers
    too_large = RequestRefused("body_too_large", f"a body here has at most {bytes_max} bytes")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > bytes_max:
        raise too_large
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    has_body = length != "0" or "transfer-encoding" in headers
    if has_body and (media_type != "application/json" or "content-encoding" in headers):
        detail = "send `Content-Type: application/json`, without a content encoding"
        raise RequestRefused("unsupported_media_type", detail)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            raise too_large
    return bytes(body)


def _finish(plane: ClientPlane, route: str, response: Response) -> Response:
    plane.counts.request(route, response.status_code)
    response.headers.setdefault("vcap-server", plane.node.incarnation)
    return response
