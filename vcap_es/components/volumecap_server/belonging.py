"""Which cluster a server belongs to, for as long as its journal lives.

Its journal speaks of what the masters of that cluster have given it, and of no other one. Only when
the cluster was restored from a backup, and an operator has readmitted the server there, does it
belong to the restored one from then on, and is refused by the one before.
"""

from collections.abc import Callable

from vcap_es.components.messages.server import Readmitted
from vcap_es.events.clusters import is_of, obstacle


class Belonging:
    """The cluster of one server; none until a master that leads one has spoken to it."""

    def __init__(self, cluster: str, keep: Callable[[str], None]) -> None:
        """Go on with `cluster`, "" for none; `keep` makes another one durable."""
        self.cluster = cluster
        self._keep = keep

    def obstacle(self, theirs: str) -> str:
        """Why a node of the cluster `theirs` is not spoken to, "" where it may be."""
        return obstacle(self.cluster, theirs)

    def join(self, cluster: str) -> None:
        """Belong to `cluster` from now on; who belongs to one stays there."""
        if cluster and not self.cluster:
            self._move(cluster)

    def obstacle_to_moving(self, message: Readmitted, incarnation: str) -> str:
        """Why this server cannot be readmitted so, "" where it can."""
        if (message.incarnation, message.was) != (incarnation, self.cluster):
            return f"{message.incarnation} of {message.was} is readmitted, and that is not me"
        return "" if is_of(self.cluster, message.cluster) else self.obstacle(message.cluster)

    def move(self, message: Readmitted) -> None:
        """Belong to the restored cluster, durably, and to the one before never again."""
        self._move(message.cluster)

    def _move(self, cluster: str) -> None:
        self._keep(cluster)
        self.cluster = cluster
