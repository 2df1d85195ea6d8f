"""Who is at the other end of each connection of a master."""

from vcap_es.components.messages.master import Greeting
from vcap_es.components.messages.server import Hello


class Connections:
    """Who is at the other end of each connection."""

    def __init__(self) -> None:
        self.masters: dict[str, Greeting] = {}
        self.hellos: dict[int, Hello] = {}
        self._nodes: dict[int, str] = {}
        self._routes: dict[str, list[int]] = {}

    def greeted_by_master(self, connection: int, greeting: Greeting) -> bool:
        """A master speaks; False where it has said so on this connection before."""
        known = self.masters.get(greeting.node)
        if known is None or greeting.stamp >= known.stamp:
            self.masters[greeting.node] = greeting
        return self._route(connection, greeting.node)

    def greeted_by_server(self, connection: int, hello: Hello) -> None:
        """A server speaks, and with it a witness, if it is one."""
        self.hellos[connection] = hello
        if hello.voter:
            self._route(connection, hello.voter)

    def _route(self, connection: int, node: str) -> bool:
        if connection in self._nodes:
            return False
        self._nodes[connection] = node
        self._routes.setdefault(node, []).append(connection)
        return True

    def gone(self, connection: int) -> tuple[Hello | None, str]:
        """A connection is gone: the server and the node that spoke on it."""
        hello = self.hellos.pop(connection, None)
        node = self._nodes.pop(connection, "")
        if node:
            self._routes[node].remove(connection)
        return hello, node

    def part_with_others(self, cluster: str) -> dict[int, str]:
        """Forget whoever is of another cluster: the connections on which they spoke, and of which.

        What still comes on those is heard as from nobody.
        """
        strange = {
            each: greeting.cluster
            for each, node in self._nodes.items()
            if (greeting := self.masters.get(node)) is not None
        }
        strange |= {each: hello.cluster for each, hello in self.hellos.items()}
        strange = {each: of for each, of in strange.items() if of not in ("", cluster)}
        for each in strange:
            self.gone(each)
        self.masters = {
            node: greeting
            for node, greeting in self.masters.items()
            if greeting.cluster in ("", cluster)
        }
        return strange

    def has(self, node: str) -> bool:
        """Whether `node` can be reached."""
        return bool(self._routes.get(node))

    def node_of(self, connection: int) -> str:
        """Who speaks on a connection, "" where nobody said."""
        return self._nodes.get(connection, "")

    def connection_to(self, node: str) -> int | None:
        """The newest connection to `node`."""
        routes = self._routes.get(node)
        return routes[-1] if routes else None

    def is_way_to(self, connection: int) -> bool:
        """Whether whoever is at its other end is sent to on this connection."""
        node = self._nodes.get(connection)
        return node is not None and self.connection_to(node) == connection

    @property
    def connections(self) -> list[int]:
        """All connections on which somebody introduced itself."""
        return sorted({*self._nodes, *self.hellos})

    @property
    def witnesses(self) -> list[str]:
        """The witnesses that can be reached."""
        return sorted({each.voter for each in self.hellos.values() if each.voter})
