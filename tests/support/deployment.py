"""A data centre of real processes on this machine, for tests that kill them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx2

from vcap_es.app import found_cluster
from vcap_es.settings import Settings, load

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0
MISDIRECTED = 421
"""How a master answers that does not lead."""

PATIENT = {"VCAP__SERVER__LIMITS__MAX_WAIT_MS": "20000"}
"""A busy machine makes an answer late, never `unavailable`."""


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def ports_in_a_row(count: int) -> int:
    """The first of some free ports that follow each other."""
    while True:
        first = free_ports(1)[0]
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def eventually(
    condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_SECONDS
) -> Any:
    """What `condition` gives once that is true; fails when it never is."""
    deadline = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {what}")
        time.sleep(0.01)


def wipe(directory: Path) -> None:
    """Remove a directory, from which a reader of a master that was killed may be removing too."""

    def is_gone() -> bool:
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()

    eventually(is_gone, f"{directory} is gone")


class Place(NamedTuple):
    """Where a node listens, and the words before its command that let it run there.

    `reached` is the URL by which other nodes reach it, where that is not where it listens.
    """

    host: str
    port: int
    prefix: tuple[str, ...] = ()
    reached: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class Hosts(Protocol):
    """The machines of a deployment."""

    def places(self, nodes: Sequence[str]) -> list[Place]:
        """A place for each of these nodes."""
        ...


class Loopback:
    """All nodes on this machine, each at a port of its own."""

    def places(self, nodes: Sequence[str]) -> list[Place]:
        """See `Hosts`."""
        return [Place("127.0.0.1", port) for port in free_ports(len(nodes))]


LOOPBACK = Loopback()
_KINDS = ("primary", "secondary")
"""As what the master of each slot is started; who leads later is another matter."""


class Deployment:
    """One or two masters, and some volumecap servers of which the first are witnesses."""

    def __init__(
        self,
        directory: Path,
        servers: int,
        environment: dict[str, str] | None = None,
        *,
        masters: int = 1,
        witnesses: int = 0,
        hosts: Hosts = LOOPBACK,
    ) -> None:
        self.directory = directory
        self._environment, self._witnesses = environment or {}, witnesses
        nodes = [f"master{slot}" for slot in range(masters)]
        nodes += [f"server{number}" for number in range(1, servers + 1)]
        self.places = dict(zip(nodes, hosts.places(nodes), strict=True))
        urls = [each.url for each in self.places.values()]
        self.master_urls, self.server_urls = urls[:masters], urls[masters:]
        self.primary_url = urls[0]
        self._masters_reached = [
            each.reached or each.url for each in list(self.places.values())[:masters]
        ]
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._is_founded = False
        secret = directory / "node.secret"
        secret.touch(mode=0o600)
        secret.write_text("0123456789abcdef" * 4)

    @property
    def log(self) -> Path:
        """The log of the primary, or of the one that was first."""
        return self.log_of(0)

    def log_of(self, slot: int) -> Path:
        """The log of one master."""
        return self.directory / f"master{slot}" / "log.sqlite"

    def start_primary(self) -> None:
        """Start the master that is the only or the first one, and wait until it is ready."""
        self.start_master(0)

    def start_master(self, slot: int, *, wait: bool = True) -> None:
        """Start one master; with `wait`, until it leads or is in sync. The first founds, once."""
        if not slot and not self._is_founded:
            self.found()
        own = self._masters_reached[slot]
        others = [url for url in self._masters_reached if url != own]
        arguments = ["--address", own, *(word for url in others for word in ("--join", url))]
        self._spawn(f"master{slot}", _KINDS[slot], arguments)
        if wait:
            self._wait_ready(self.master_urls[slot])

    def found(self) -> None:
        """Found a cluster in the directory of the first master; anew, where that was wiped."""
        self._is_founded = True
        found_cluster(self._settings())

    def _settings(self) -> Settings:
        """Those by which the first master founds the cluster."""
        given: dict[str, object] = {
            "master.directory": str(self.directory / "master0"),
            "node_secret_file": str(self.directory / "node.secret"),
        }
        return load(None, {}, given)

    def start_server(self, index: int, *, wait: bool = True) -> None:
        """Start one server; with `wait`, until it is ready."""
        arguments = ["--name", f"s{index}"]
        arguments += [word for url in self._masters_reached for word in ("--master", url)]
        arguments += ["--witness"] if index < self._witnesses else []
        self._spawn(f"server{index + 1}", "server", arguments)
        if wait:
            self._wait_ready(self.server_urls[index])

    def start(self, node: str) -> None:
        """Start the node of this name, and do not wait for it."""
        kind, number = node[:6], int(node[6:])
        if kind == "master":
            self.start_master(number, wait=False)
        else:
            self.start_server(number - 1, wait=False)

    def kill_primary(self) -> None:
        """SIGKILL."""
        self.kill("master0")

    def kill_server(self, index: int) -> None:
        """SIGKILL."""
        self.kill(f"server{index + 1}")

    def stop_server(self, index: int) -> None:
        """SIGTERM, and wait for the orderly end."""
        child = self._children.pop(f"server{index + 1}")
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_SECONDS) == 0, self._told(f"server{index + 1}")

    def stop(self) -> None:
        """End everything: servers in order, then the masters."""
        for name in sorted(self._children, reverse=True):
            child = self._children[name]
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(PATIENCE_SECONDS)
        self._children.clear()

    def _spawn(self, name: str, kind: str, arguments: list[str]) -> None:
        place = self.places[name]
        command = [*place.prefix, sys.executable, "-m", "vcap_es", "run", kind, *arguments]
        command += ["--data", str(self.directory / name)]
        command += ["--host", place.host, "--port", str(place.port)]
        command += ["--node-secret-file", str(self.directory / "node.secret")]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )

    def child(self, name: str) -> subprocess.Popen[bytes]:
        """The process of a node."""
        return self._children[name]

    def kill(self, name: str) -> None:
        """SIGKILL to the node of this name, and wait until it is gone."""
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def _wait_ready(self, url: str) -> None:
        def ready() -> bool:
            for name, child in self._children.items():
                assert child.poll() is None, self._told(name)
            try:
                return httpx2.get(f"{url}/readyz", timeout=1.0).is_success
            except httpx2.TransportError:
                return False

        eventually(ready, f"{url} is ready")

    def _told(self, name: str) -> str:
        return f"{name}: {(self.directory / f'{name}.log').read_text()[-3000:]}"

    def ended(self) -> list[str]:
        """The nodes that have ended by themselves, or were killed and not started again."""
        return [name for name, child in self._children.items() if child.poll() is not None]

    # what people and clients ask

    @property
    def admin_key(self) -> str:
        """The key that the primary made on its first start."""
        return (self.directory / "master0" / "admin.key").read_text().strip()

    def control(self, method: str, path: str, body: object = None) -> Any:
        """A call of the control plane, of whichever master leads; its JSON."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        for url in self.master_urls:
            response = httpx2.request(
                method, f"{url}{path}", json=body, headers=headers, timeout=30.0
            )
            if response.status_code != MISDIRECTED:
                break
        else:
            raise AssertionError(f"{method} {path}: nobody leads")
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def make_key(self, role: str = "client", scopes: list[str] | None = None) -> str:
        """A new API key's text."""
        body = {"role": role, "scopes": scopes or ["*"]}
        return str(self.control("POST", "/v1/keys", body)["secret"])

    def vcap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this deployment."""
        return subprocess.run(
            [sys.executable, "-m", "vcap_es", *arguments],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "VCAP_URL": ",".join(self.master_urls),
                "VCAP_SERVER": self.server_urls[0],
                "VCAP_KEY_FILE": str(self.directory / "master0" / "admin.key"),
            },
        )

    def verify(self) -> None:
        """The log is sound: its chain and its books."""
        verified = self.vcap("verify", "--log", str(self.log))
        assert verified.returncode == 0, verified.stdout + verified.stderr


@contextmanager
def deployed(
    directory: Path,
    servers: int,
    environment: dict[str, str] | None = None,
    *,
    masters: int = 1,
    witnesses: int = 0,
    hosts: Hosts = LOOPBACK,
) -> Iterator[Deployment]:
    """A running deployment."""
    deployment = Deployment(
        directory, servers, environment, masters=masters, witnesses=witnesses, hosts=hosts
    )
    try:
        deployment.start_primary()
        for index in range(servers):
            deployment.start_server(index, wait=False)
        for slot in range(1, masters):
            deployment.start_master(slot)
        for url in deployment.server_urls:
            deployment._wait_ready(url)
        yield deployment
    finally:
        deployment.stop()
