"""`GET /v1/links`, the same at every node: where the masters are, for nodes that want to join.

Whoever asks must know the node secret; an API key is not enough.
"""

from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from vcap_es.adapters.http.problems import problem, problem_response
from vcap_es.adapters.links.discovery import CLUSTER_HEADER, KnownMasters
from vcap_es.events.clusters import ClusterName, obstacle


class Joinable(Protocol):
    """What is needed of a node."""

    def is_node(self, authorization: str) -> bool:
        """Whether this header is another node's, who knows the secret of the nodes."""

    @property
    def cluster(self) -> str:
        """The cluster that it belongs to, "" where that is none yet."""

    def known_masters(self) -> list[str]:
        """The addresses at which masters may be."""


def links_response(request: Request, node: Joinable) -> Response:
    """Where masters take links, 401 for who is no node, or 409 for a node of another cluster."""
    if not node.is_node(request.headers.get("authorization", "")):
        detail = "send Authorization: Bearer <node secret>: this is for the nodes among themselves"
        return problem_response(problem("unauthorized", detail))
    theirs, own = request.headers.get(CLUSTER_HEADER, ""), node.cluster
    try:
        msgspec.convert(theirs, ClusterName)
    except msgspec.ValidationError:
        return problem_response(problem("invalid", f"{CLUSTER_HEADER}: this names no cluster"))
    if reason := obstacle(own, theirs):
        return problem_response(problem("other_cluster", reason))
    body = msgspec.json.encode(KnownMasters(masters=node.known_masters(), cluster=own))
    headers = {"cache-control": "no-store"}
    return Response(body, headers=headers, media_type="application/json")
