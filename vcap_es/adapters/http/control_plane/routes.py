"""The route table of the control plane, and the one way through it.

A `Route` says everything about a call: method and path, who may make it, what it takes and what it
answers. The application and the OpenAPI document are both made from the same table, so no call can
exist that does not say who may make it. `RouteDispatcher` lets a request through in one fixed
order: who calls, may they, is the cap theirs, is the request well formed; then the handler runs.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from secrets import token_hex
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta, Struct
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute

from vcap_es.adapters.http.callers import Callers, Client, Scopes
from vcap_es.adapters.http.problems import (
    not_primary,
    problem,
    problem_response,
    refused_response,
)
from vcap_es.adapters.http.request_bodies import BATCH_BYTES_MAX, parse
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.errors import InvalidDefinition, InvalidInput, LogError, RequestRefused, VcapError
from vcap_es.events.definitions import check_cap_id, check_match, refuse_unknown
from vcap_es.events.facts.access import Role
from vcap_es.events.placements import check_centre, check_placement_name

Method = Literal["GET", "PUT", "POST", "DELETE"]
Access = Literal["public", "read", "operate", "administer"]

ROLES: dict[Access, frozenset[Role]] = {
    "public": frozenset(),
    "read": frozenset({"auditor", "operator", "admin"}),
    "operate": frozenset({"operator", "admin"}),
    "administer": frozenset({"admin"}),
}
"""Which roles may make a call; a public one takes no key at all."""

REQUEST_ID = "vcap-request-id"
POSITION = "vcap-position"
"""The header that tells a log position: at which a change is durable, or up to which a copy is."""

WATERMARK = "vcap-watermark"
"""The header that tells up to when all data centres have passed: below, nothing is added."""

EPOCH = "vcap-epoch"
STALE = "vcap-stale"
"""The headers of what a master that does not lead tells from its copy."""

LIMIT_MAX = 1000
"""The most items of a page."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What every answer carries, unless it says otherwise."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOBODY = Client("", "client", Scopes(()))

T = TypeVar("T", bound=Struct)


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters behind the `?` of a call; one that is not a field is refused."""


class PageQuery(Query, frozen=True, kw_only=True):
    """Which part of a list: up to `limit` items behind the `cursor` that the page before gave."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 100
    cursor: str | None = None


class ControlCall(Struct, frozen=True, kw_only=True):
    """A request that was let through: who makes it, of which node, and what it says.

    `path` holds what stands for the names in the route's path; `query` is of the route's type.
    `left` waits until whoever calls is gone.
    """

    node: MasterNode
    client: Client
    request_id: str
    path: Mapping[str, str]
    query: Any
    headers: Mapping[str, str]
    url: str
    body: bytes
    left: Callable[[], Awaitable[None]]


class ControlReply(Struct, frozen=True, kw_only=True):
    """What a call is answered; no value is an empty body."""

    value: object = None
    status: int = 200
    headers: Mapping[str, str] = {}


Handler = Callable[[ControlCall], Awaitable[ControlReply | Response]]


class Route(Struct, frozen=True):
    """One call of the API.

    `answer` is the type of what it answers (None: nothing), `media` its media type, `statuses` the
    successes it can have, `example` a body that it takes. `needs_all`: only for a key that opens
    every cap. `conditions` are the request headers it heeds. `anywhere`: a master that does not
    lead answers as well as another. `past`: it is about what is committed, which any master tells
    as far as it knows.
    """

    method: Method
    path: str
    access: Access
    handler: Handler
    summary: str
    query: type[Query] = Query
    body: Any = None
    example: Any = None
    answer: Any = None
    media: str = "application/json"
    statuses: Sequence[int] = (200,)
    needs_all: bool = False
    conditions: Sequence[str] = ()
    anywhere: bool = False
    past: bool = False

    @property
    def name(self) -> str:
        """The name of the call, by which generated clients know it."""
        return self.handler.__name__

    @property
    def tag(self) -> str:
        """The kind of thing it is about."""
        return self.path.split("/")[2] if self.path.startswith("/v1/") else "health"


class RouteDispatcher:
    """Lets requests through to the routes of one node."""

    def __init__(self, node: MasterNode, routes: Iterable[Route]) -> None:
        """Serve `routes` for `node`, whose state says which keys are in force."""
        self._node = node
        self._callers = Callers(lambda: node.state.access.keys, node.now)
        self._requests = Counter(
            "vcap_http_requests", "Requests answered.", ("route", "status"), registry=node.metrics
        )
        self._paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = self._paths.setdefault(route.path, {})
            assert route.method not in methods, f"{route.method} {route.path} is there twice"
            methods[route.method] = route

    def path_routes(self) -> list[PathRoute]:
        """The routes as the application takes them, one a path."""
        return [
            PathRoute(path, self._endpoint(path, methods), methods=list(methods))
            for path, methods in self._paths.items()
        ]

    def _endpoint(
        self, path: str, methods: dict[str, Route]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            route = methods["GET" if request.method == "HEAD" else request.method]
            request_id = request_id_of(request)
            response = await self._respond(route, request, request_id)
            return self._finish(response, path, request_id)

        return endpoint

    async def fault(self, request: Request, error: Exception) -> Response:
        """Answer what no route took: an unknown path, a wrong method, a failure of ours."""
        status, headers = 500, dict[str, str]()
        if isinstance(error, HTTPException):
            status, headers = error.status_code, dict(error.headers or {})
        code, detail = _FAULTS.get(status, _FAULTS[500])
        response = problem_response(problem(code, detail), headers)
        return self._finish(response, "none", request_id_of(request))

    def _finish(self, response: Response, path: str, request_id: str) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers[REQUEST_ID] = request_id
        self._requests.labels(path, str(response.status_code)).inc()
        return response

    async def _respond(self, route: Route, request: Request, request_id: str) -> Response:
        try:
            call = await self._let_through(route, request, request_id)
            labels = self._labels(route)
            answer = await route.handler(call)
        except RequestRefused as refused:
            return refused_response(refused)
        except (InvalidInput, InvalidDefinition) as error:
            return problem_response(problem("invalid", str(error)))
        except LogError as error:
            return problem_response(problem("unavailable", str(error), retry_after_ms=1000))
        response = answer if isinstance(answer, Response) else _encoded(answer, route.media)
        response.headers.update(labels)
        return response

    def _labels(self, route: Route) -> dict[str, str]:
        """How old an answer from a copy may be: it has everything up to that position."""
        leads = self._node.role == "primary" and self._node.primacy().is_active
        if route.access == "public" or route.anywhere or leads:
            return {}
        return {
            POSITION: str(self._node.durable),
            EPOCH: str(self._node.state.epoch),
            STALE: "1",
        }

    async def _let_through(self, route: Route, request: Request, request_id: str) -> ControlCall:
        client = _NOBODY if route.access == "public" else self._client(route, request)
        path = {name: str(value) for name, value in request.path_params.items()}
        if route.needs_all and not client.scopes.are_all:
            detail = f"{route.path} is about all caps: it needs a key with the scope *"
            raise RequestRefused("forbidden", detail)
        body = await _body(route, request)
        _check_path(self._node, client, path)
        if route.access != "public" and not route.anywhere and not route.past:
            check_primacy(self._node, changes=route.method != "GET")
        return ControlCall(
            node=self._node,
            client=client,
            request_id=request_id,
            path=path,
            query=_query(route.query, request),
            headers=request.headers,
            url=request.url.path,
            body=body,
            left=partial(_left, request),
        )

    def _client(self, route: Route, request: Request) -> Client:
        header = request.headers.get("authorization", "").encode("latin-1")
        client = self._callers.find(header)
        if client is None:
            detail = "send Authorization: Bearer <API key>, with a key that is in force"
            raise RequestRefused("unauthorized", detail)
        roles = ROLES[route.access]
        if client.role not in roles:
            detail = f"this needs the role {' or '.join(sorted(roles))}; yours is {client.role}"
            raise RequestRefused("forbidden", detail)
        return client


_FAULTS = {
    404: ("not_found", "there is nothing at this path: /docs shows the calls there are"),
    405: ("method_not_allowed", "this path does not take this method: see the header Allow"),
    500: ("internal_error", "this failed here and was logged: try again, and tell the operators"),
}


def request_id_of(request: Request) -> str:
    """The request's own id, if it brought a usable one; else a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(16)


def check_scope(node: MasterNode, client: Client, cap: str) -> None:
    """Raise RequestRefused unless the key opens `cap`, by its id or by the group it has now."""
    meta = node.state.metas.get(cap)
    if not client.allows(cap, meta.definition.group if meta else None):
        # The same words whether or not it exists: a key learns nothing of what is not its own.
        raise RequestRefused("forbidden", f"your key does not open the cap {cap}", cap=cap)


def next_page(call: ControlCall, **behind: object) -> dict[str, str]:
    """The header that links to the next page, the one `behind` what this page ended with."""
    kept = {name: getattr(call.query, name) for name in call.query.__struct_fields__}
    given = {name: each for name, each in {**kept, **behind}.items() if each is not None}
    return {"link": f'<{quote(call.url)}?{urlencode(given)}>; rel="next"'}


def read_body(call: ControlCall, shape: type[T]) -> T:
    """The body as a value of the struct `shape`; a key that is not known is refused by its name."""
    given = parse(call.body, _FIELDS)
    refuse_unknown(given, shape.__struct_fields__, "the body")
    return parse(call.body, msgspec.json.Decoder(shape))


async def _body(route: Route, request: Request) -> bytes:
    """The whole body, never more than `BATCH_BYTES_MAX` of it in memory."""
    chunks, size = list[bytes](), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > BATCH_BYTES_MAX:
                detail = f"a body has at most {BATCH_BYTES_MAX} bytes"
                raise RequestRefused("body_too_large", detail)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise RequestRefused("bad_request", "the body ended too early") from error
    if size and route.body is None:
        raise RequestRefused("bad_request", "this call takes no body")
    if route.body is not None:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise RequestRefused("unsupported_media_type", "send Content-Type: application/json")
    return b"".join(chunks)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_path(node: MasterNode, client: Client, path: Mapping[str, str]) -> None:
    """What stands in the path is in the key's scope, and can be what it stands for."""
    if "cap" in path:
        check_scope(node, client, path["cap"])
        check_cap_id(path["cap"])
    if "match" in path:
        if not client.scopes.cover(path["match"]):
            detail = f"your key does not open all caps that {path['match']} matches"
            raise RequestRefused("forbidden", detail)
        check_match(path["match"])
    if "centre" in path:
        check_centre(path["centre"])
    if "placement" in path:
        check_placement_name(path["placement"])


def check_primacy(node: MasterNode, *, changes: bool) -> None:
    """A master that does not lead changes nothing; one that nobody follows tells nothing either.

    What it decided and could not commit is in its state, and may have to be taken back.
    """
    leads = node.role == "primary"
    if leads and node.primacy().is_active:
        return
    if leads or changes:
        leader = None if leads else node.core.leader
        raise not_primary(*(leader.name, leader.address) if leader else ("", ""))


def _query(shape: type[Query], request: Request) -> Query:
    given: dict[str, object] = {}
    integers = _integer_fields(shape)
    for name, text in request.query_params.multi_items():
        if name in given:
            raise RequestRefused("bad_request", f"the parameter {name[:80]!r} is there twice")
        given[name] = int(text) if name in integers and _INTEGER.fullmatch(text) else text
    try:
        refuse_unknown(given, shape.__struct_fields__, "the query")
        return msgspec.convert(given, shape)
    except (VcapError, msgspec.ValidationError) as error:
        raise RequestRefused("bad_request", str(error)) from error


@cache
def _integer_fields(shape: type[Query]) -> frozenset[str]:
    hints = get_type_hints(shape)
    return frozenset(name for name, hint in hints.items() if hint is int or int in get_args(hint))


def _encoded(reply: ControlReply, media: str) -> Response:
    if reply.value is None:
        return Response(None, reply.status, headers=dict(reply.headers))
    content = msgspec.json.encode(reply.value)
    return Response(content, reply.status, headers=dict(reply.headers), media_type=media)
