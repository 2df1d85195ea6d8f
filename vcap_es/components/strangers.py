"""Which log each data centre writes, for ever; and who comes with another one by its name.

Such a one has lost what it had: it would have again what it has consumed, and open again what is
open. It is a stranger: nothing is taken from it or sent to it.
"""

from collections.abc import Callable, Mapping

from vcap_es.events.facts import CentreIdentified, Fact
from vcap_es.projections.states.data_centre import DataCentre

NAMED_US = 60_000_000
"""A stranger is named for so long after it was heard."""

_WHAT_TO_DO = (
    "if its disks were lost, declare it lost where it is known, and start it under another name"
)


class Strangers:
    """Tells strangers from the data centres that are known by their logs."""

    def __init__(self, state: DataCentre, record: Callable[[Fact], None]) -> None:
        """Whoever is known, the `state` knows; `record` who is met first."""
        self._state, self._record = state, record
        self._heard: dict[str, tuple[str, int]] = {}

    def named(self, now: int) -> dict[str, str]:
        """Those that were heard lately, by the names they use, with why and what to do."""
        return {name: why for name, (why, at) in self._heard.items() if at >= now - NAMED_US}

    def is_stranger(self, centre: str, cluster: str, now: int) -> bool:
        """Whether who says to be `centre`, and writes the log of `cluster`, is not that one."""
        if self._state.clusters.get(centre, cluster) == cluster:
            return False
        why = f"who says to be {centre} has another log than {centre} had"
        self._heard[centre] = f"{why}: {_WHAT_TO_DO}", now
        return True

    def identify(self, centre: str, clusters: Mapping[str, str], now: int) -> bool:
        """Take in who writes which log, as `centre` tells; False where it is known otherwise."""
        known = self._state.clusters
        for name, cluster in clusters.items():
            if known.get(name, cluster) != cluster:
                why = f"{centre} knows {name} by another log than the one that is known here"
                self._heard[centre] = f"{why}: {_WHAT_TO_DO}", now
                return False
        for name in sorted(clusters.keys() - known.keys()):
            self._record(CentreIdentified(centre=name, cluster=clusters[name]))
        return True
