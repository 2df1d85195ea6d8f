"""A whole data centre on one machine, for a first look: `vcap up`.

It starts each node as a process of its own, waits until they are ready, prints where they are, and
ends them in order: servers first, so that they give back what they hold.
"""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx2

from vcap_es.app import ADMIN_KEY_FILE, check_port, ensure_node_secret, write_secret
from vcap_es.errors import SettingsError, Unreachable, VcapError

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
DEMO_PAUSE_SECONDS = 0.1

DEMO_CAPS: dict[str, dict[str, object]] = {
    "demo:impressions": {"total": 10_000, "interval": "hour", "group": "demo"},
    "demo:tokens": {"total": 500_000, "interval": "day", "group": "demo"},
    "demo:coupons": {"total": 100, "interval": "day", "group": "demo"},
}


class Child(NamedTuple):
    """A node's process; what it tells begins at byte `begin` of its log."""

    process: subprocess.Popen[bytes]
    log: Path
    begin: int

    def last_words(self) -> str:
        """The last line that it told."""
        told = self.log.read_bytes()[self.begin :].decode(errors="replace").strip()
        return told.rpartition("\n")[2].removeprefix("vcap: ") or "it told nothing"


class Single:
    """A primary master and some volumecap servers as child processes."""

    def __init__(self, data: Path, *, servers: int, port: int, demo: bool) -> None:
        """Keep everything in `data`; listen on `port` and the `servers` ports after it."""
        self._data, self._demo = data, demo
        self._url = f"http://{HOST}:{port}"
        self._servers = [f"http://{HOST}:{port + 1 + index}" for index in range(servers)]
        self._port = port
        self._ports = range(port, port + 1 + servers)
        self._children: list[Child] = []
        self._is_stopping = False

    def run(self) -> None:
        """Run until SIGINT or SIGTERM, or until a node ends."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._stop)
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Held as long as this process lives: two would mix up the logs and the ports of the nodes.
        lock = (self._data / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SettingsError(
                f"{self._data} is in use by another `vcap up`: stop it, or give another --data"
            ) from None
        with lock:
            self._run()

    def _run(self) -> None:
        for port in self._ports:
            check_port(HOST, port)
        ensure_node_secret(self._data / "node.secret")
        try:
            self._start()
            self._welcome()
            self._watch()
        finally:
            self._end()

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _start(self) -> None:
        self._spawn("primary", "--data", str(self._data / "master0"), "--port", str(self._port))
        self._wait_for(self._url)
        self._make_client_key()
        for index, url in enumerate(self._servers, 1):
            self._spawn(
                "server",
                *("--name", f"s{index}"),
                *("--data", str(self._data / f"server{index}")),
                *("--port", url.rpartition(":")[2]),
                *("--master", self._url),
            )
        for url in self._servers:
            self._wait_for(url)
        if self._demo:
            self._define_demo_caps()

    def _spawn(self, kind: str, *arguments: str) -> None:
        """Start a node in its own session, so that a Ctrl-C reaches only us."""
        command = [sys.executable, "-m", "vcap_es", "run", kind, *arguments]
        command += ["--node-secret-file", str(self._data / "node.secret")]
        path = self._data / f"{kind}{len(self._children) or ''}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(command, stderr=log, start_new_session=True)  # noqa: S603  # our own interpreter and our own words
            self._children.append(Child(process, path, log.tell()))

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_stopping:
            self._check_children()
            try:
                if httpx2.get(f"{url}/readyz", timeout=1.0).is_success:
                    return
            except httpx2.TransportError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise Unreachable(f"{url} is not ready: see the logs in {self._data}")
            time.sleep(POLL_SECONDS)

    def _check_children(self) -> None:
        for child in self._children:
            if child.process.poll() is not None and not self._is_stopping:
                raise VcapError(
                    f"a node ended with exit code {child.process.returncode} "
                    f"(see {child.log}): {child.last_words()}"
                )

    # ---- keys and demo

    def _admin(self, method: str, path: str, body: object) -> httpx2.Response:
        key = (self._data / "master0" / ADMIN_KEY_FILE).read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.request(method, f"{self._url}{path}", json=body, headers=headers)

    def _make_client_key(self) -> None:
        """A key for the first curl, once."""
        path = self._data / "client.key"
        if not path.exists():
            answer = self._admin("POST", "/v1/keys", {"role": "client", "scopes": ["*"]})
            answer.raise_for_status()
            write_secret(path, answer.json()["secret"])

    def _define_demo_caps(self) -> None:
        for cap, definition in DEMO_CAPS.items():
            self._admin("PUT", f"/v1/caps/{cap}", definition).raise_for_status()

    def _demo_traffic(self) -> Callable[[], None]:
        key = (self._data / "client.key").read_text(encoding="utf-8").strip()
        client = httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=2.0)

        def one() -> None:
            cap = random.choice(list(DEMO_CAPS))  # noqa: S311  # gentle traffic, no secret
            url = random.choice(self._servers)  # noqa: S311  # the same
            with suppress(httpx2.TransportError):  # the next one will do
                client.post(f"{url}/v1/caps/{cap}/consume", json={"amount": 1})

        return one

    # ---- words and waiting

    def _welcome(self) -> None:
        servers = " ".join(self._servers)
        print(
            f"vcap_es is up; everything is in {self._data}/ (Ctrl-C ends it)\n"
            f"\n"
            f"  control plane   {self._url}        API page {self._url}/docs\n"
            f"  servers         {servers}\n"
            f"  admin key       {self._data}/master0/{ADMIN_KEY_FILE}\n"
            f"  client key      {self._data}/client.key",
            flush=True,
        )

    def _watch(self) -> None:
        traffic = self._demo_traffic() if self._demo and not self._is_stopping else None
        while not self._is_stopping:
            self._check_children()
            if traffic is not None:
                traffic()
            time.sleep(DEMO_PAUSE_SECONDS)

    def _end(self) -> None:
        """Servers first: what they give back must find its master."""
        self._is_stopping = True
        for group in (self._children[1:], self._children[:1]):
            processes = [child.process for child in group]
            for process in processes:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGTERM)
            for process in processes:
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
