"""Health and metrics, the same at every node: `/livez`, `/readyz`, `/healthz`, `/metrics`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

Check = tuple[str, bool, str]
"""The name of a check, whether it is fine, and a word on it."""

_NOT_STORED = {"cache-control": "no-store"}


def live_response() -> Response:
    """The process runs; nothing else is asked, so that no failure elsewhere restarts it."""
    return PlainTextResponse("ok\n", headers=_NOT_STORED)


def ready_response(ready: Callable[[], list[Check]], *, verbose: bool) -> Response:
    """Whether the node can serve now: 200 or 503; `verbose` lists the checks."""
    checks = ready()
    is_ready = all(is_fine for _, is_fine, _ in checks)
    lines = [f"[{'+' if is_fine else '-'}]{name} {detail}" for name, is_fine, detail in checks]
    word = "ok" if is_ready else "not ready"
    text = "\n".join([*lines, word]) if verbose else word
    return PlainTextResponse(text + "\n", 200 if is_ready else 503, headers=_NOT_STORED)


def metrics_response(registry: CollectorRegistry) -> Response:
    """What Prometheus scrapes."""
    content_type = {"content-type": CONTENT_TYPE_PLAIN_0_0_4}
    return Response(generate_latest(registry), headers={**_NOT_STORED, **content_type})
