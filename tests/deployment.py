"""A data centre of real processes on this machine, for tests that kill them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 30.0
PATIENT = {"VCAP__SERVER__LIMITS__MAX_WAIT_MS": "20000"}
"""A busy machine makes an answer late, never `unavailable`."""


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` gives once that is true; fails when it never is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {what}")
        time.sleep(0.01)


class Deployment:
    """One primary master and some volumecap servers."""

    def __init__(
        self, directory: Path, servers: int, environment: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self._environment = environment or {}
        ports = free_ports(servers + 1)
        self.primary_url = f"http://127.0.0.1:{ports[0]}"
        self.server_urls = [f"http://127.0.0.1:{port}" for port in ports[1:]]
        self._ports = ports
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        secret = directory / "node.secret"
        secret.touch(mode=0o600)
        secret.write_text("0123456789abcdef" * 4)

    @property
    def log(self) -> Path:
        """The log of the primary."""
        return self.directory / "primary" / "log.sqlite"

    def start_primary(self) -> None:
        """Start the primary and wait until it is ready."""
        self._spawn("primary", 0, [])
        self._wait_ready(self.primary_url)

    def start_server(self, index: int, *, wait: bool = True) -> None:
        """Start one server; with `wait`, until it is ready."""
        master = self.primary_url
        arguments = ["--name", f"s{index}", "--master", master]
        self._spawn("server", index + 1, arguments)
        if wait:
            self._wait_ready(self.server_urls[index])

    def kill_primary(self) -> None:
        """SIGKILL."""
        self._kill("primary0")

    def kill_server(self, index: int) -> None:
        """SIGKILL."""
        self._kill(f"server{index + 1}")

    def stop_server(self, index: int) -> None:
        """SIGTERM, and wait for the orderly end."""
        child = self._children.pop(f"server{index + 1}")
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_SECONDS) == 0, self._told(f"server{index + 1}")

    def stop(self) -> None:
        """End everything: servers in order, then the primary."""
        for name in sorted(self._children, reverse=True):
            child = self._children[name]
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(PATIENCE_SECONDS)
        self._children.clear()

    def _spawn(self, kind: str, port_index: int, arguments: list[str]) -> None:
        name = f"{kind}{port_index}"
        directory = self.directory / (name if kind == "server" else kind)
        command = [sys.executable, "-m", "vcap_es", "run", kind, *arguments]
        command += ["--data", str(directory), "--port", str(self._ports[port_index])]
        command += ["--node-secret-file", str(self.directory / "node.secret")]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )

    def _kill(self, name: str) -> None:
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

    # what people and clients ask

    @property
    def admin_key(self) -> str:
        """The key that the primary made on its first start."""
        return (self.directory / "primary" / "admin.key").read_text().strip()

    def control(self, method: str, path: str, body: object = None) -> Any:
        """A call of the control plane; its JSON."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        response = httpx2.request(
            method, f"{self.primary_url}{path}", json=body, headers=headers, timeout=30.0
        )
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
                "VCAP_URL": self.primary_url,
                "VCAP_SERVER": self.server_urls[0],
                "VCAP_KEY_FILE": str(self.directory / "primary" / "admin.key"),
            },
        )

    def verify(self) -> None:
        """The log is sound: its chain and its books."""
        verified = self.vcap("verify", "--log", str(self.log))
        assert verified.returncode == 0, verified.stdout + verified.stderr


@contextmanager
def deployed(
    directory: Path, servers: int, environment: dict[str, str] | None = None
) -> Iterator[Deployment]:
    """A running deployment."""
    deployment = Deployment(directory, servers, environment)
    try:
        deployment.start_primary()
        for index in range(servers):
            deployment.start_server(index, wait=False)
        for url in deployment.server_urls:
            deployment._wait_ready(url)
        yield deployment
    finally:
        deployment.stop()
