"""What a probe or a browser asks of a master: health, metrics, and the page of the API."""

from pathlib import Path

from starlette.responses import HTMLResponse, Response

from vcap_es.adapters.http.control_plane.routes import ControlCall, Query, Route
from vcap_es.adapters.http.probes import live_response, metrics_response, ready_response
from vcap_es.errors import RequestRefused

_STATIC = Path(__file__).with_name("static")
_MEDIA = {".css": "text/css", ".js": "text/javascript"}
_ASSETS = {path.name: path for path in sorted(_STATIC.iterdir()) if path.suffix in _MEDIA}
"""The only files there are: a name that is not one of them leads nowhere."""

TEXT = "text/plain"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>vcap_es control plane</title>
    <link rel="stylesheet" href="/docs/swagger-ui.css">
    <link rel="icon" href="data:,">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/api-page.js"></script>
  </body>
</html>
"""


class ReadyQuery(Query, frozen=True, kw_only=True):
    """`verbose`, with any value: list the checks."""

    verbose: str | None = None


async def livez(_: ControlCall) -> Response:
    """The process runs."""
    return live_response()


async def readyz(call: ControlCall) -> Response:
    """Whether the master can serve now: 200 or 503."""
    return ready_response(call.node.ready, verbose=call.query.verbose is not None)


async def healthz(call: ControlCall) -> Response:
    """The same as /readyz, for those who type this."""
    return await readyz(call)


async def metrics(call: ControlCall) -> Response:
    """The metrics, for Prometheus."""
    return metrics_response(call.node.metrics)


async def docs(_: ControlCall) -> Response:
    """A page on which every call of this API can be tried."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": PAGE_POLICY})


async def docs_asset(call: ControlCall) -> Response:
    """A file of that page."""
    path = _ASSETS.get(call.path["file"])
    if path is None:
        raise RequestRefused("not_found", "there is no such file")
    headers = {"cache-control": "no-cache"}
    return Response(path.read_bytes(), media_type=_MEDIA[path.suffix], headers=headers)


HEALTH = (
    Route("GET", "/livez", "public", livez, "Whether the process runs", answer=str, media=TEXT),
    Route(
        "GET",
        "/readyz",
        "public",
        readyz,
        "Whether it can serve",
        ReadyQuery,
        answer=str,
        media=TEXT,
        statuses=(200, 503),
    ),
    Route(
        "GET",
        "/healthz",
        "public",
        healthz,
        "Whether it can serve",
        ReadyQuery,
        answer=str,
        media=TEXT,
        statuses=(200, 503),
    ),
    Route("GET", "/metrics", "public", metrics, "Metrics", answer=str, media=TEXT),
)

PAGES = (
    Route("GET", "/docs", "public", docs, "The page of this API", media="text/html"),
    Route("GET", "/docs/{file}", "public", docs_asset, "A file of the page", media="text/css"),
)
