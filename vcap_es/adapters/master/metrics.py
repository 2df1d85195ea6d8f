"""What Prometheus is told of a master, read from the live state when it asks."""

from collections.abc import Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.past.reader import PastReader
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
        node = self._node
        if not node.is_running:
            return []
        state = node.state
        build = {"version": __version__, "dc": node.dc, "node": node.name}
        return [
            InfoMetricFamily("vcap_build", "Which version runs.", build),
            _gauge("vcap_log_end_offset", "Position of the last durable event.", node.durable),
            *_primacy(node),
            _gauge("vcap_servers_connected", "Connected volumecap servers.", len(node.servers)),
            _gauge("vcap_caps", "Caps ever defined, retired ones included.", len(state.metas)),
            _gauge("vcap_api_keys", "API keys in force.", len(state.access.keys)),
            *_past(node.past),
        ]


def _past(past: PastReader) -> Iterable[Metric]:
    """What is read of the past, and how far the index of the log has come."""
    return [
        _gauge("vcap_past_readings", "Readings of the past under way.", past.budgets.under_way),
        _gauge("vcap_past_indexed_position", "Last position in the index.", past.indexed),
        _gauge("vcap_past_deaths", "Deaths of the process that reads the past.", past.deaths),
        _gauge("vcap_log_wal_bytes", "Length of the log's WAL.", past.wal_bytes()),
    ]


def _primacy(node: MasterNode) -> Iterable[Metric]:
    """Who leads, as far as this master knows, and how far it has come."""
    view, told = node.primacy(), node.state.primacy
    role = GaugeMetricFamily("vcap_role", "1 for the role of this master.", labels=["role"])
    for each in ("primary", "secondary", "suspect"):
        role.add_metric([each], int(node.role == each))
    return [
        role,
        _gauge("vcap_leader", "Whether this master leads.", int(node.role == "primary")),
        _gauge("vcap_active", "Whether what it leads is acknowledged.", int(view.is_active)),
        _gauge("vcap_epoch", "Epoch that this master leads or follows.", view.epoch),
        _gauge("vcap_isr_size", "Masters that have all that was acknowledged.", len(view.isr)),
        _gauge("vcap_voters", "Voters of the register.", len(view.voters)),
        _gauge("vcap_witnesses_linked", "Witnesses that are linked here.", len(view.witnesses)),
        _gauge("vcap_committed_position", "Last position known to be committed.", view.committed),
        _gauge("vcap_replication_lag_events", "Committed events not durable here.", view.lag),
        _gauge("vcap_secondaries_spawned", "Secondaries started, by the log.", told.spawned),
        _gauge("vcap_switchovers", "Switchovers started, by the log.", told.switchovers),
        _gauge("vcap_divergences", "Tails set aside, by the log.", told.divergences),
        _gauge("vcap_forced_promotions", "Promotions forced, by the log.", len(told.forced)),
    ]


def _gauge(name: str, told: str, value: int) -> Metric:
    return GaugeMetricFamily(name, told, value=value)
