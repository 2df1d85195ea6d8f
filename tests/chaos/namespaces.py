"""Machines of their own for the nodes: a network namespace each, and a router between them.

This needs a namespace for the router as well, with the right to make others: see `machine.py`,
which starts the whole run inside one. What it makes is gone when the run ends.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.deployment import Place

PORT = 7100
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Namespaces:
    """Nodes in namespaces; `cut` lets the router lose what one sends to another, silently."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._cuts: list[str] = []

    def places(self, nodes: Sequence[str]) -> list[Place]:
        """A namespace for each node, which stays its own, with a cable to the router."""
        _FORWARDING.write_text("1")
        for node in nodes:
            if node not in self._places:
                self._places[node] = self._made(node, len(self._places) + 1)
        return [self._places[node] for node in nodes]

    def _made(self, node: str, number: int) -> Place:
        cable = f"v{number}"
        router, address = f"10.77.{number}.1", f"10.77.{number}.2"
        _ip(f"netns add {node}")
        _ip(f"link add {cable} type veth peer name eth0 netns {node}")
        _ip(f"address add {router}/30 dev {cable}")
        _ip(f"link set {cable} up")
        _ip(f"-n {node} address add {address}/30 dev eth0")
        _ip(f"-n {node} link set lo up")
        _ip(f"-n {node} link set eth0 up")
        _ip(f"-n {node} route add default via {router}")
        return Place(address, PORT, ("nsenter", f"--net=/run/netns/{node}"))

    def cut(self, sender: str, receiver: str) -> None:
        """Lose everything that `sender` sends to `receiver`, until `heal`."""
        rule = f"from {self._places[sender].host} to {self._places[receiver].host} blackhole"
        _ip(f"rule add {rule}")
        self._cuts.append(rule)

    def heal(self) -> None:
        """Lose nothing any more."""
        for rule in self._cuts:
            _ip(f"rule del {rule}")
        self._cuts.clear()


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
