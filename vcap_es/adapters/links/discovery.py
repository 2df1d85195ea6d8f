"""Joining: a node that knows the address of one live node learns where the masters are.

Every node answers `GET /v1/links` to whoever has the node secret.
"""

import asyncio
import hmac
import random
from collections.abc import Callable

import httpx2
import msgspec
import structlog
from msgspec import Struct

from vcap_es.errors import Unreachable
from vcap_es.events.clusters import ClusterName, obstacle

LINKS_PATH = "/v1/links"
CLUSTER_HEADER = "vcap-cluster"
"""Names the cluster of who asks, "" where it is of none yet."""

ASK_SECONDS = 2.0
PAUSE_SECONDS = (0.02, 0.5)
WATCH_SECONDS = 0.5
ANSWER_BYTES_MAX = 64 * 1024
SERVERS_ASKED_MAX = 8
"""Servers that are asked for masters, at most, when no master is where it was."""

log = structlog.get_logger()


class KnownMasters(Struct, frozen=True, kw_only=True):
    """Where masters take links, as URLs; `cluster` is that of the node that says so, or ""."""

    masters: list[str]
    cluster: ClusterName = ""


def is_node(authorization: str, secret: str) -> bool:
    """Whether this header is a node's, who knows the `secret`."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {secret}".encode())


async def ask_masters(
    url: str, secret: str, http: httpx2.AsyncClient, *, cluster: str
) -> list[str]:
    """Where the masters of `cluster` are, or of any where that is "", by the node at `url`.

    Raises Unreachable where it does not say, or is of another one.
    """
    headers = {"Authorization": f"Bearer {secret}", CLUSTER_HEADER: cluster}
    body = b""
    try:
        async with http.stream("GET", f"{url}{LINKS_PATH}", headers=headers) as answer:
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    raise Unreachable(f"{url}: the answer is too long for a list of masters")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise Unreachable(f"{url}: {str(error) or type(error).__name__}") from error
    if not answer.is_success:
        raise Unreachable(f"{url}: {_refusal(answer.status_code, body)}")
    try:
        found = msgspec.json.decode(body, type=KnownMasters)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{url}: this is no list of masters: {error}") from error
    if reason := obstacle(cluster, found.cluster):
        raise Unreachable(f"{url}: {reason}")
    return found.masters


class _Detail(Struct, frozen=True):
    """Of a problem, what people read."""

    detail: str


def _refusal(status: int, body: bytes) -> str:
    if status == 401:
        return "this node secret is refused there"
    try:
        return f"it answers {status}: {msgspec.json.decode(body, type=_Detail).detail}"
    except msgspec.DecodeError:
        return f"it answers {status}"


def _client() -> httpx2.AsyncClient:
    """It reads all certificates of the system: for so long, the loop must not wait."""
    return httpx2.AsyncClient(timeout=ASK_SECONDS, trust_env=False)


class Discovery:
    """Asks other nodes in turn where the masters are, for as long as none is linked."""

    def __init__(
        self,
        secret: str,
        *,
        nodes: Callable[[], list[str]],
        cluster: Callable[[], str],
        is_linked: Callable[[], bool],
        learnt: Callable[[list[str]], None],
    ) -> None:
        """Ask the `nodes`, which may change at any time, and tell what was `learnt`.

        `cluster` is that of who asks; nothing is learnt of nodes of another one.
        """
        self._secret, self._cluster = secret, cluster
        self._nodes, self._is_linked, self._learnt = nodes, is_linked, learnt
        self._told: dict[str, str] = {}
        self._turn = 0

    async def run(self) -> None:
        """Look again and again whether somebody must be asked."""
        while True:
            while not self._is_needed:  # noqa: ASYNC110  # whether it is tells nobody
                await asyncio.sleep(WATCH_SECONDS)
            async with await asyncio.to_thread(_client) as http:
                await self._ask_on(http)
            self._told.clear()

    @property
    def _is_needed(self) -> bool:
        return not self._is_linked() and bool(self._nodes())

    async def _ask_on(self, http: httpx2.AsyncClient) -> None:
        """Ask one node after the other, more and more rarely."""
        pause_s = PAUSE_SECONDS[0]
        while self._is_needed:
            nodes = self._nodes()
            await self._ask(nodes[self._turn % len(nodes)], http)
            self._turn += 1
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads what is asked, hides nothing
            pause_s = min(2 * pause_s, PAUSE_SECONDS[1])

    async def _ask(self, url: str, http: httpx2.AsyncClient) -> None:
        try:
            masters = await ask_masters(url, self._secret, http, cluster=self._cluster())
        except Unreachable as error:
            if str(error) != self._told.get(url):
                self._told[url] = str(error)
                # Nobody there yet is what a start looks like; an answer that is a no is not.
                is_absent = isinstance(error.__cause__, httpx2.TransportError)
                (log.info if is_absent else log.warning)("cannot join", reason=str(error))
            return
        if masters:
            self._learnt(masters)
