"""What Prometheus is told of a server's links, read from the live state when it asks."""

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vcap_es.adapters.storage.ballots import Ballots
from vcap_es.adapters.volumecap_server.master_links import MasterLinks


class ServerMetrics(Collector):
    """The links of one server to its masters, and what it has promised as a witness."""

    def __init__(self, links: MasterLinks, ballots: Ballots | None) -> None:
        self._links, self._ballots = links, ballots

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        links, ballots = self._links, self._ballots
        yield _gauge("vcap_masters_linked", "Linked masters.", len(links.masters))
        yield _gauge(
            "vcap_primary_linked", "Whether the master that leads is linked.", int(links.is_linked)
        )
        yield _gauge("vcap_primary_epoch", "Highest epoch that a linked master led.", links.epoch)
        yield CounterMetricFamily(
            "vcap_primary_switches", "How often another epoch was followed.", value=links.switches
        )
        yield _gauge("vcap_witness", "Whether this server votes.", int(ballots is not None))
        if ballots is not None:
            promised = ballots.ballot.promised
            yield _gauge("vcap_witness_promised", "Highest epoch that it promised.", promised)


def _gauge(name: str, told: str, value: int) -> Metric:
    return GaugeMetricFamily(name, told, value=value)
