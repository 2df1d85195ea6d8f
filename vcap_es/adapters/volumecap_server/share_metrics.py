"""What Prometheus is told of what callers make grow at a server, read from the live state."""

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer

SHARES_SHOWN = 10
"""API keys named in the metrics, those with the most first: metrics do not grow with their number.
"""


class ShareMetrics(Collector):
    """How full the room for keys, holds and refunds of one server is, and whose it is."""

    def __init__(self, core: VolumecapServer) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        keys, settlement, limits = self._core.keys, self._core.settlement, self._core.limits
        ledger = keys.ledger
        shares = {share.caller: share.weight for share in list(ledger.shares.values())}
        yield _gauge("vcap_keys_kept", "Answered idempotency keys kept.", ledger.weight)
        yield _gauge("vcap_keys_max", "How many there is room for.", limits.keys_max)
        yield _shares("vcap_keys_share", "Answered keys by API key, the most.", shares)
        yield CounterMetricFamily(
            "vcap_keys_evicted",
            "Answers forgotten before their retention time, for want of room.",
            value=ledger.evicted,
        )
        yield _gauge("vcap_keys_waiting", "Keyed calls without an answer yet.", keys.waiting)
        yield _gauge("vcap_keys_file_bytes", "Size of the key files, about.", keys.file_bytes)
        known = settlement.known_in_all
        yield _gauge("vcap_marks_kept", "Holds and refunds of open intervals kept.", known)
        yield _gauge("vcap_marks_max", "How many there is room for.", limits.marks_max)
        told = "Holds and refunds by API key, the most."
        yield _shares("vcap_marks_share", told, dict(settlement.known))
        yield CounterMetricFamily(
            "vcap_marks_refused",
            "Holds and refunds refused as the share of their API key was full.",
            value=settlement.refused,
        )


def _gauge(name: str, told: str, value: int) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _shares(name: str, told: str, shares: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=["key"])
    most = sorted(shares.items(), key=lambda each: (-each[1], each[0]))
    for key, value in most[:SHARES_SHOWN]:
        family.add_metric([key], value)
    return family
