"""A call that concerns a consume of another server is forwarded there, once."""

import httpx2
from starlette.requests import Request
from starlette.responses import Response

from vcap_es.adapters.http.client_plane.calls import ClientRequest
from vcap_es.errors import RequestRefused

FORWARD_SECONDS = 2.0


FORWARDED_BYTES_MAX = 64 * 1024


FORWARDED = "vcap-forwarded"
"""Marks a call that another server has forwarded here: it is not forwarded again."""


async def forward(call: ClientRequest, incarnation: str) -> Response:
    """Ask the server that gave the id; it checks and counts the call as its own."""
    address = call.plane.node.addresses.get(incarnation)
    if address is None or FORWARDED in call.request.headers:
        detail = "the server that gave this id is not connected now"
        raise RequestRefused("unavailable", detail, retry_after_ms=1000)
    try:
        return await _ask(call, f"{address.rstrip('/')}{_raw_path(call.request)}")
    except httpx2.HTTPError as error:
        detail = f"the server that gave this id does not answer ({type(error).__name__})"
        raise RequestRefused("unavailable", detail, retry_after_ms=1000) from error


async def _ask(call: ClientRequest, url: str) -> Response:
    http: httpx2.AsyncClient = call.request.state.http
    passed = ("authorization", "idempotency-key", "content-type")
    headers = {name: call.request.headers[name] for name in passed if name in call.request.headers}
    headers[FORWARDED] = call.plane.node.incarnation
    async with http.stream("POST", url, content=call.body, headers=headers) as answer:
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > FORWARDED_BYTES_MAX:
                raise RequestRefused("unavailable", "the other server's answer is too large")
    kept = ("content-type", "retry-after", "ratelimit", "ratelimit-policy", "vcap-server")
    fields = {name: answer.headers[name] for name in kept if name in answer.headers}
    return Response(body, answer.status_code, {"cache-control": "no-store", **fields})


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii")
