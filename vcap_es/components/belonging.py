"""Which cluster a server belongs to, for as long as its journal lives.

Its journal speaks of what the masters of that cluster have given it, and of no other one.
"""

from collections.abc import Callable

from vcap_es.events.clusters import difference


class Belonging:
    """The cluster of one server; none until a master that leads one has spoken to it."""

    def __init__(self, cluster: str, keep: Callable[[str], None]) -> None:
        """Go on with `cluster`, "" for none; `keep` makes another one durable."""
        self.cluster = cluster
        self._keep = keep

    def obstacle(self, theirs: str) -> str:
        """Why a node of the cluster `theirs` is not spoken to, "" where it may be."""
        if not theirs or not self.cluster or theirs == self.cluster:
            return ""
        return difference(self.cluster, theirs)

    def join(self, cluster: str) -> None:
        """Belong to `cluster` from now on; who belongs to one stays there."""
        if cluster and not self.cluster:
            self._keep(cluster)
            self.cluster = cluster
