"""What a server knows of the other nodes of its data centre, and how it comes to know more."""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path

import structlog
from msgspec import structs

from vcap_es.adapters.links.discovery import SERVERS_ASKED_MAX, Discovery
from vcap_es.adapters.storage.master_addresses_file import remember, remembered
from vcap_es.components.local_handler.node_directory import sorted_by_name
from vcap_es.components.messages.server import NodeAddress, NodeDirectory
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.components.volumecap_server.master_addresses import MasterAddresses

log = structlog.get_logger()


class KnownNodes:
    """The masters, as given, remembered and told; and the servers, as the leading master tells."""

    def __init__(
        self,
        directory: Path,
        secret: str,
        *,
        masters: Sequence[str],
        join: Sequence[str],
        belonging: Belonging,
    ) -> None:
        """Begin with the `masters`, with those remembered in `directory`, and nodes to ask."""
        self.roster = MasterAddresses(masters, remembered(directory))
        self.addresses: dict[str, str] = {}
        """The client planes of the other servers: incarnation -> URL."""
        self._directory, self._secret, self._join = directory, secret, list(join)
        self._belonging = belonging
        self._nodes: list[NodeAddress] = []

    async def join(self, is_linked: Callable[[], bool]) -> None:
        """Ask other nodes where the masters are, whenever none is linked."""
        await Discovery(
            self._secret,
            nodes=self._askable,
            cluster=lambda: self._belonging.cluster,
            is_linked=is_linked,
            learnt=self._learnt,
        ).run()

    def _askable(self) -> list[str]:
        return [*self._join, *islice(self.addresses.values(), SERVERS_ASKED_MAX)]

    def _learnt(self, masters: list[str]) -> None:
        before = self.roster.heard
        self.roster.learnt(masters)
        self._remember(before)

    def told(self, message: NodeDirectory) -> None:
        """The leading master has told where everybody is."""
        self._nodes = sorted_by_name(message.nodes)
        # Who is away from the master may be reached from here all the same.
        self.addresses = {
            each.node: each.address
            for each in message.nodes
            if each.role == "server" and each.address and each.presence != "lost"
        }
        before = self.roster.heard
        self.roster.told(message.nodes)
        self._remember(before)

    def _remember(self, before: list[str]) -> None:
        if self.roster.heard != before:
            log.info("masters", addresses=self.roster.known)
            remember(self._directory, self.roster.heard)

    def nodes(self, linked: Collection[str]) -> list[NodeAddress]:
        """All nodes: servers as the leading master told last, masters by the addresses `linked`."""

        def is_linked(master: NodeAddress) -> bool:
            return master.address in linked or self.roster.is_linked(master.node)

        return [
            structs.replace(each, presence="connected" if is_linked(each) else "away")
            if each.role == "master"
            else each
            for each in self._nodes
        ]
