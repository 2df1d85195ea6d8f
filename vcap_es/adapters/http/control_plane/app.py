"""The control plane of a master: every route there is, and the application of them.

`python -m vcap_es.adapters.http.control_plane.app` prints the OpenAPI document: redirect it to
`docs/openapi.json` whenever a route changes.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute
from starlette.routing import WebSocketRoute

from vcap_es.adapters.http.control_plane import openapi
from vcap_es.adapters.http.control_plane.api_keys import API_KEYS
from vcap_es.adapters.http.control_plane.balances import BALANCES
from vcap_es.adapters.http.control_plane.caps import CAPS
from vcap_es.adapters.http.control_plane.centres import CENTRES
from vcap_es.adapters.http.control_plane.docs_page import HEALTH, PAGES
from vcap_es.adapters.http.control_plane.log import LOG
from vcap_es.adapters.http.control_plane.order import ORDER
from vcap_es.adapters.http.control_plane.placements import PLACEMENTS
from vcap_es.adapters.http.control_plane.primacy import PRIMACY
from vcap_es.adapters.http.control_plane.restore import RESTORE
from vcap_es.adapters.http.control_plane.routes import ControlCall, Route, RouteDispatcher
from vcap_es.adapters.http.control_plane.statements import STATEMENTS
from vcap_es.adapters.http.control_plane.stream import STREAM
from vcap_es.adapters.http.control_plane.templates import TEMPLATES
from vcap_es.adapters.http.known_masters import links_response
from vcap_es.adapters.links.discovery import LINKS_PATH
from vcap_es.adapters.links.send_queue import PATH as LINK_PATH
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.master.metrics import MasterMetrics


async def openapi_json(_: ControlCall) -> Response:
    """This document."""
    return Response(DOCUMENT, media_type="application/json")


API: tuple[Route, ...] = (
    *CAPS,
    *TEMPLATES,
    *API_KEYS,
    *CENTRES,
    *PLACEMENTS,
    *BALANCES,
    *STATEMENTS,
    *LOG,
    *STREAM,
    *ORDER,
    *PRIMACY,
    *RESTORE,
    *HEALTH,
    Route("GET", "/openapi.json", "public", openapi_json, "This document", answer=dict),
)
"""What programs call."""

ROUTES = (*API, *PAGES)
"""The whole control plane, besides the link of the nodes, which knows them by their secret."""

DOCUMENT = openapi.encoded(API)


def control_app(node: MasterNode) -> Starlette:
    """The control plane of `node`; made once for each node, which may start later."""
    plane = RouteDispatcher(node, ROUTES)
    node.metrics.register(MasterMetrics(node))

    async def links(request: Request) -> Response:
        return links_response(request, node)

    among_nodes = [
        WebSocketRoute(LINK_PATH, node.serve_link),
        PathRoute(LINKS_PATH, links, methods=["GET"]),
    ]
    return Starlette(
        routes=[*plane.path_routes(), *among_nodes],
        lifespan=_lifespan(node),
        exception_handlers={HTTPException: plane.fault, Exception: plane.fault},
    )


def _lifespan(node: MasterNode) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Whoever is served here may ask for the past: its reader is there before they do."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        node.past.begin()
        yield

    return lifespan


if __name__ == "__main__":
    sys.stdout.buffer.write(DOCUMENT)
