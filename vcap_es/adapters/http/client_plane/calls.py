"""A call of a client as it was read, and the rows of the route table."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from vcap_es.adapters.http.callers import Client
from vcap_es.adapters.http.client_plane.plane import (
    ClientPlane,
)
from vcap_es.adapters.http.request_bodies import (
    BODY_BYTES_MAX,
)
from vcap_es.events.facts.access import Role


class ClientRequest(NamedTuple):
    """A request that was read: by whom, with which body."""

    plane: ClientPlane
    request: Request
    client: Client
    body: bytes

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


class Endpoint(NamedTuple):
    """A row of the route table. `roles` may call it; where it is None, no key is needed."""

    name: str
    method: str
    path: str
    roles: frozenset[Role] | None
    answer: Callable[[ClientRequest], Awaitable[Response]]
    body_bytes_max: int = BODY_BYTES_MAX
