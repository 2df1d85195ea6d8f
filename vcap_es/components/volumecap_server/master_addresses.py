"""Where the masters of its data centre may be, as a server knows it, and which of them it dials."""

from collections.abc import Iterable

from vcap_es.components.messages.server import NodeAddress

MASTERS_MAX = 16
"""Addresses that are kept besides those that were given."""


class MasterAddresses:
    """The addresses of masters: those given at the start, and those heard of since.

    A master may be known by several addresses. Linked by one of them, it is dialled by no other: of
    two links of one server, a master closes the older.
    """

    def __init__(self, given: Iterable[str], remembered: Iterable[str] = ()) -> None:
        """Begin with what was `given`, and what an earlier start `remembered`."""
        self._given = dict.fromkeys(given)
        self._heard = dict.fromkeys(remembered)
        self._nodes: dict[str, str] = {}
        self._linked: dict[str, str] = {}

    # ---- what is heard

    def told(self, nodes: Iterable[NodeAddress]) -> None:
        """The leading master has told where all nodes are: masters that it does not know are gone.

        One that tells of no master knows less than was heard before.
        """
        masters = [each for each in nodes if each.role == "master" and each.address]
        if not masters:
            return
        self._heard = dict.fromkeys(each.address for each in masters[:MASTERS_MAX])
        for each in reversed(masters):
            self._nodes[each.address] = each.node
        self._forget()

    def learnt(self, addresses: Iterable[str]) -> None:
        """Some node knows these addresses of masters."""
        self._heard = dict.fromkeys([*dict.fromkeys(addresses), *self._heard][:MASTERS_MAX])
        self._forget()

    def linked(self, address: str, node: str) -> None:
        """The master at the other end of the link to `address` has said who it is."""
        self._linked.pop(address, None)
        self._linked[address] = self._nodes[address] = node

    def unlinked(self, address: str) -> None:
        """The link to `address` is gone."""
        self._linked.pop(address, None)
        self._forget()

    def _forget(self) -> None:
        """What was said of an address that nobody tells of any more goes with it."""
        kept = {*self.known, *self._linked}
        self._nodes = {each: node for each, node in self._nodes.items() if each in kept}

    # ---- what follows

    @property
    def heard(self) -> list[str]:
        """What is to be remembered: the addresses that were not given."""
        return list(self._heard)

    @property
    def known(self) -> list[str]:
        """All addresses at which a master may be."""
        return list({**self._heard, **self._given})

    def is_linked(self, node: str) -> bool:
        """Whether this master has said who it is on a link that is open."""
        return node in self._linked.values()

    def wanted(self) -> set[str]:
        """The addresses to be linked to: of a master that is linked already, the newest link's.

        A link that works is kept, though its master calls itself by an address that may not.
        """
        newest = {node: address for address, node in self._linked.items()}
        addresses = {*self.known, *self._linked}
        return {each for each in addresses if newest.get(self._node_at(each), each) == each}

    def _node_at(self, address: str) -> str:
        return self._nodes.get(address, "")
