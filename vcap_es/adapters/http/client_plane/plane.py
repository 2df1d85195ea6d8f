"""What the two ways into the client plane share: the node, the callers, the counts, the answers.

The fast lane answers a simple consume by itself and the application answers everything; both take
these parts from here, so that nobody can tell from an answer which of them gave it.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from vcap_es.adapters.http.callers import Callers, Client
from vcap_es.adapters.http.problems import rate_limit, rate_limit_policy
from vcap_es.clock import now_us
from vcap_es.components.messages.client import Command, Idempotency
from vcap_es.components.messages.outcomes import Consumed, Level, Outcome, Refused
from vcap_es.components.messages.server import NodeAddress
from vcap_es.events.facts import ApiKeyCreated
from vcap_es.events.facts.access import Role
from vcap_es.events.instants import format_instant

TAKERS: frozenset[Role] = frozenset({"client"})
"""Who may consume, hold and refund."""

READERS: frozenset[Role] = frozenset({"client", "auditor", "operator", "admin"})
"""Who may look."""

AUDITORS: frozenset[Role] = READERS - TAKERS
"""Who may see the nodes."""


class ServingNode(Protocol):
    """What the client plane needs of a volumecap server.

    `keys` is replaced by another mapping when a key is made or revoked, and never changed itself.
    """

    incarnation: str
    keys: dict[str, ApiKeyCreated]
    ready_keys: bool
    metrics: CollectorRegistry

    @property
    def addresses(self) -> dict[str, str]:
        """The client planes of the other servers: incarnation -> URL."""

    def consume_now(self, cap: str, amount: int) -> Consumed | None:
        """Take `amount` units of `cap` if the slice suffices; None: `submit` it instead."""

    async def submit(
        self, command: Command, idempotency: Idempotency | None = None, owner: str = ""
    ) -> Outcome:
        """Do what a client asks, within a bounded time, for the API key `owner`."""

    async def lookup(self, cap: str) -> Level | Refused:
        """What is left of `cap`."""

    def group_of(self, cap: str) -> str | None:
        """The group of `cap`, as far as it is known here."""

    def nodes(self) -> list[NodeAddress]:
        """The nodes of the data centre, as far as is known here."""

    def is_node(self, authorization: str) -> bool:
        """Whether this header is another node's, who knows the secret of the nodes."""

    @property
    def cluster(self) -> str:
        """The cluster that it belongs to, "" where that is none yet."""

    def known_masters(self) -> list[str]:
        """The addresses at which masters may be."""

    def ready(self) -> list[tuple[str, bool, str]]:
        """Whether it can serve now: each check, its verdict, and a word on it."""


class Counts(Collector):
    """What happened at the client plane, as plain integers: a consume costs two additions."""

    def __init__(self) -> None:
        self.fast = 0
        """Consumes that the fast lane answered."""
        self.units = 0
        """Units consumed."""
        self.results: dict[str, int] = {}
        self.refused_units: dict[str, int] = {}
        self.requests: dict[tuple[str, int], int] = {}

    def result(self, outcome: Consumed | Refused, asked: int) -> None:
        """A consume of up to `asked` units was answered."""
        if isinstance(outcome, Consumed):
            self.units += outcome.consumed
            result = "consumed" if outcome.shadow is None else "shadow"
        else:
            result = outcome.code
            self.refused_units[result] = self.refused_units.get(result, 0) + asked
        self.results[result] = self.results.get(result, 0) + 1

    def batch(self, outcomes: list[Consumed | Refused], asked: list[int]) -> None:
        """Several consumes were answered at once; nearly all are plain yeses."""
        taken = [each.consumed for each in outcomes if type(each) is Consumed and not each.shadow]
        self.units += sum(taken)
        self.results["consumed"] = self.results.get("consumed", 0) + len(taken)
        if len(taken) < len(outcomes):
            for outcome, units in zip(outcomes, asked, strict=True):
                if isinstance(outcome, Refused) or outcome.shadow:
                    self.result(outcome, units)

    def request(self, route: str, status: int) -> None:
        """A request was answered by the application."""
        self.requests[route, status] = self.requests.get((route, status), 0) + 1

    def collect(self) -> Iterable[Metric]:
        """The counts as Prometheus reads them."""
        results, requests = dict(self.results), dict(self.requests)
        results["consumed"] = results.get("consumed", 0) + self.fast
        requests["consume", 200] = requests.get(("consume", 200), 0) + self.fast
        consumes = CounterMetricFamily(
            "vcap_consumes", "Consumes answered, by their result.", labels=["result"]
        )
        for result, count in results.items():
            consumes.add_metric([result], count)
        refused = CounterMetricFamily(
            "vcap_refused_units", "Units refused, by the reason.", labels=["reason"]
        )
        for reason, count in self.refused_units.items():
            refused.add_metric([reason], count)
        answered = CounterMetricFamily(
            "vcap_http_requests", "Requests answered.", labels=["route", "status"]
        )
        for (route, status), count in requests.items():
            answered.add_metric([route, str(status)], count)
        units = CounterMetricFamily("vcap_consumed_units", "Units consumed.", value=self.units)
        return [consumes, units, refused, answered]


class ClientPlane:
    """One server's client plane: the parts that the fast lane and the application share."""

    def __init__(self, node: ServingNode, now: Callable[[], int] = now_us) -> None:
        """Serve clients of `node`; `now` is the wall clock in microseconds UTC."""
        self.node = node
        self.now = now
        self.callers = Callers(lambda: node.keys, now)
        self.counts = Counts()
        node.metrics.register(self.counts)

    def allows(self, client: Client, cap: str) -> bool:
        """Whether the key of `client` opens `cap`, as far as the cap is known here."""
        group = self.node.group_of(cap) if client.scopes.has_groups else None
        return client.allows(cap, group)

    def opened_for_good_by(self, authorization: bytes) -> object:
        """The keyring in force, if only another one can change what this key opens; else None."""
        client = self.callers.find(authorization)
        if client is None or client.scopes.has_groups:
            return None
        keys = self.node.keys
        return keys if keys[client.key].expires_at is None else None

    def seconds_until(self, at: int) -> int:
        """Whole seconds until the instant `at`, rounded up."""
        return -((self.now() - at) // 1_000_000)

    def limit_fields(self, cap: str, remaining: int, total: int, resets_at: int) -> tuple[str, str]:
        """The values of `RateLimit-Policy` and `RateLimit` for one cap."""
        reset_s = self.seconds_until(resets_at)
        return rate_limit_policy(cap, total), rate_limit(cap, remaining, reset_s)


def consumed_json(consumed: Consumed) -> str:
    """The body that answers a consume. Ids hold no character that JSON would escape."""
    shadow = f',"shadow":"{consumed.shadow}"' if consumed.shadow else ""
    return (
        f'{{"id":"{consumed.id}","cap":"{consumed.cap}","consumed":{consumed.consumed},'
        f'"remaining":{consumed.remaining},"total":{consumed.total},'
        f'"resets_at":"{shown_instant(consumed.resets_at)}"{shadow}}}'
    )


@lru_cache(4096)
def shown_instant(instant: int) -> str:
    """An instant as people read it. The ends of intervals are few, and told at every consume."""
    return format_instant(instant)
