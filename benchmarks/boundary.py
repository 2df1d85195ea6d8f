"""A consume while an interval boundary opens 100,000 intervals, against a quiet minute.

The primary and one volumecap server are processes of their own. The caps have minute intervals, so
the boundary comes soon. The latencies are those of plain consumes over HTTP, one after the other.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from benchmarks.rows import IS_TINY, Row, sized
from vcap_es.app import found_cluster
from vcap_es.events.instants import format_instant
from vcap_es.events.units import SECOND_US
from vcap_es.settings import load

CAPS = sized(100_000, tiny=200)
QUIET_SECONDS = sized(8.0, tiny=0.5)
BOUNDARY_SECONDS = sized(12.0, tiny=2.5)
MINUTE = 60
QUIET_SECOND, BEFORE_SECONDS = 20, 1
TINY_SECONDS = 5
CONSUMED = "consumed"
HOST = "127.0.0.1"
CONNECTIONS = 8


AIMS = {"p99 at the boundary against quiet p99": "<= 3"}


def figures() -> list[Row]:
    """p99 of a consume, quiet and around the boundary, and their ratio."""
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as folder:
        quiet, boundary, events = _measure(Path(folder))
    ratio = _p99(boundary) / _p99(quiet)
    ((figure, aim),) = AIMS.items()
    return [
        Row("consume, quiet, p50", f"{median(quiet) * 1e3:.2f}", "ms"),
        Row("consume, quiet, p99", f"{_p99(quiet) * 1e3:.2f}", "ms"),
        Row("consume at the boundary, p50", f"{median(boundary) * 1e3:.2f}", "ms"),
        Row("consume at the boundary, p99", f"{_p99(boundary) * 1e3:.2f}", "ms"),
        Row(f"events of the boundary of {CAPS:,} caps", f"{events:,}", "events"),
        Row(figure, f"{ratio:.2f}", "times", aim, ratio <= 3),
    ]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def _measure(folder: Path) -> tuple[list[float], list[float], int]:
    ports = _free_ports(2)
    secret = folder / "node.secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdef" * 4)
    own = {"master.directory": str(folder / "primary"), "node_secret_file": str(secret)}
    found_cluster(load(None, {}, own))
    children = [_spawn(folder, "primary", ports[0], [])]
    try:
        _wait(ports[0])
        key = (folder / "primary" / "admin.key").read_text().strip()
        master = ["--master", f"http://{HOST}:{ports[0]}"]
        children.append(_spawn(folder, "server", ports[1], master))
        _wait(ports[1])
        boundary_at = time.time() + TINY_SECONDS
        _define(ports[0], key, _definition(boundary_at))
        _Connection(ports[0], key).call("PUT", f"/v1/caps/{CONSUMED}", _definition(None))
        made = _Connection(ports[0], key).call(
            "POST", "/v1/keys", b'{"role":"client","scopes":["*"]}'
        )
        client_key = json.loads(made)["secret"]
        if not IS_TINY:
            _sleep_until(_next_second(QUIET_SECOND))
            boundary_at = _next_second(0)
        quiet = _consume_for(ports[1], client_key, QUIET_SECONDS)
        before = _head(ports[0], key)
        _sleep_until(boundary_at - BEFORE_SECONDS)
        boundary = _consume_for(ports[1], client_key, BOUNDARY_SECONDS)
        return quiet, boundary, _head(ports[0], key) - before
    finally:
        for child in reversed(children):
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _spawn(folder: Path, kind: str, port: int, more: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vcap_es", "run", kind, "--port", str(port), *more]
    command += ["--data", str(folder / kind), "--node-secret-file", str(folder / "node.secret")]
    environment = {**os.environ, "VCAP__LOG_LEVEL": "warning"}
    return subprocess.Popen(command, env=environment)


def _define(port: int, key: str, body: bytes) -> None:
    """The caps, by the control plane's own call, some at a time."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda part: _define_part(port, key, body, part), range(CONNECTIONS)))


def _define_part(port: int, key: str, body: bytes, part: int) -> None:
    http = _Connection(port, key)
    for number in range(part, CAPS, CONNECTIONS):
        http.call("PUT", f"/v1/caps/cap{number}", body)


def _head(port: int, key: str) -> int:
    """The position of the last event."""
    return int(json.loads(_Connection(port, key).call("GET", "/v1/log?limit=1", b""))["head"])


def _consume_for(port: int, key: str, seconds: float) -> list[float]:
    http, latencies = _Connection(port, key), []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        http.call("POST", f"/v1/caps/{CONSUMED}/consume", b'{"amount":1}')
        latencies.append(time.perf_counter() - began)
    return latencies


class _Connection:
    """One kept connection, one call at a time, as little in the way as can be."""

    def __init__(self, port: int, key: str) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {HOST}\r\nAuthorization: Bearer {key}\r\n".encode()

    def call(self, method: str, path: str, body: bytes) -> bytes:
        """The body of a good answer."""
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        request = f"{method} {path} HTTP/1.1\r\n".encode() + self._head + length + body
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, rest = data.partition(b"\r\n\r\n")
        wanted = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < wanted:
            rest += self._more()
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), data
        return rest

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        assert data, "the connection was closed"
        return data


def _definition(boundary_at: float | None) -> bytes:
    """A cap by the minute. A tiny run waits for no minute: its boundary is the end of its caps."""
    definition: dict[str, object] = {"total": 1_000_000_000, "interval": "minute"}
    if IS_TINY and boundary_at is not None:
        definition["end"] = format_instant(int(boundary_at) * SECOND_US)
    return json.dumps(definition).encode()


def _next_second(second: int) -> float:
    """When the clock next shows that second of a minute."""
    now = time.time()
    return now + (second - now) % MINUTE


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            with urlopen(f"http://{HOST}:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nobody is ready on port {port}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
