"""What Prometheus is told of a master, read from the live state when it asks."""

from collections.abc import Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vcap_es.adapters.master_node import MasterNode
from vcap_es.version import __version__


class MasterMetrics(Collector):
    """The state of one master. No label names a cap: there may be a million of them."""

    def __init__(self, node: MasterNode) -> None:
        self._node = node

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing is read before the node runs."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        node, state = self._node, self._node.state
        build = {"version": __version__, "dc": node.dc, "node": node.name}
        return [
            InfoMetricFamily("vcap_build", "Which version runs.", build),
            _gauge("vcap_log_end_offset", "Position of the last durable event.", node.durable),
            _gauge("vcap_role_epoch", "Epoch that this master leads.", state.epoch),
            _gauge("vcap_leader", "Whether this master leads.", int(node.role == "primary")),
            _gauge("vcap_servers_connected", "Connected volumecap servers.", len(node.servers)),
            _gauge("vcap_caps", "Caps ever defined, retired ones included.", len(state.metas)),
            _gauge("vcap_api_keys", "API keys in force.", len(state.access.keys)),
        ]


def _gauge(name: str, told: str, value: int) -> Metric:
    return GaugeMetricFamily(name, told, value=value)
