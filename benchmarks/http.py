"""Consumes per second over HTTP, against the same handler as plain ASGI and against nginx.

One server process on one core and wrk with 64 connections on another; every server gets its turn
in every round, so that a noisy machine is unfair to all alike. API keys are checked, and the slices
are those of a real server with a real master and journal.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.http_servers import CAP, HOST
from benchmarks.rows import Row, sized
from benchmarks.tools import Tool, tool
from benchmarks.topups import end

CONNECTIONS = 64
ROUNDS = sized(3, tiny=1)
ROUND_SECONDS = sized(2, tiny=1)
BATCH = 100
LEAST = {
    "fast lane / nginx": 0.7,
    "fast lane / plain ASGI": 2.0,
    "consumes of a batch / single consumes": 10,
}
AIMS = {figure: f">= {least}" for figure, least in LEAST.items()}

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port};
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""

ANSWER = json.dumps(
    {
        "id": f"{'0' * 32}.20000.{CAP}.1000000-1000001",
        "cap": CAP,
        "consumed": 1,
        "remaining": 2**62,
        "total": 2**62,
        "resets_at": 1_767_268_800_000_000,
    }
)


class Rate(NamedTuple):
    """What wrk saw: requests per second, and latencies as it writes them."""

    per_second: float
    p50: str
    p99: str


def figures() -> list[Row]:
    """Requests per second of each server, and the ratios that we aim at."""
    wrk, nginx = tool("wrk"), tool("nginx")
    with TemporaryDirectory(prefix="vcap-bench-") as name:
        folder = Path(name)
        with our_servers(folder) as (ports, key, _), _nginx(folder, nginx) as nginx_port:
            single = _script(folder / "single.lua", key, '{"amount": 1}')
            batch = _script(folder / "batch.lua", key, _batch_body())
            consume = f"/v1/caps/{CAP}/consume"
            runs = {
                "fast": (f"http://{HOST}:{ports['fast']}{consume}", single),
                "asgi": (f"http://{HOST}:{ports['asgi']}{consume}", single),
                "application": (f"http://{HOST}:{ports['application']}{consume}", single),
                "nginx": (f"http://{HOST}:{nginx_port}{consume}", single),
                "batch": (f"http://{HOST}:{ports['fast']}/v1/consume", batch),
            }
            seen: dict[str, list[Rate]] = {run: [] for run in runs}
            for _ in range(ROUNDS):
                for run, (url, script) in runs.items():
                    seen[run].append(_wrk(wrk, url, script))
    return _rows(seen)


def _rows(seen: dict[str, list[Rate]]) -> list[Row]:
    titles = {
        "fast": "consume through the fast lane",
        "asgi": "the same handler as plain ASGI on uvicorn",
        "application": "the application without the fast lane",
        "nginx": "nginx, a constant answer",
        "batch": f"independent consumes, {BATCH} in a request",
    }
    rows: list[Row] = []
    for run, title in titles.items():
        rate = sorted(seen[run])[len(seen[run]) // 2]
        rows.append(Row(title, f"{rate.per_second:,.0f}", "requests/s"))
        rows.append(Row(f"{title}, p50 and p99", f"{rate.p50} {rate.p99}", "(as wrk writes them)"))
    rows.append(_ratio(seen, "fast", "nginx", "fast lane / nginx"))
    rows.append(_ratio(seen, "fast", "asgi", "fast lane / plain ASGI"))
    rows.append(_ratio(seen, "batch", "fast", "consumes of a batch / single consumes", BATCH))
    return rows


def _ratio(seen: dict[str, list[Rate]], over: str, under: str, figure: str, times: int = 1) -> Row:
    pairs = zip(seen[over], seen[under], strict=True)
    ratio = median(times * a.per_second / b.per_second for a, b in pairs)
    return Row(figure, f"{ratio:.2f}", "times", AIMS[figure], ratio >= LEAST[figure])


# ---- the load


def _wrk(wrk: Tool, url: str, script: Path) -> Rate:
    command = [wrk.path, "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_SECONDS}s", "--latency", "-s"]
    done = subprocess.run(
        [*_on_core(1), *command, str(script), url],
        capture_output=True,
        text=True,
        check=True,
        env=wrk.environment,
    )
    found = re.search(
        r"^ +50% +(\S+) *$.*^ +99% +(\S+) *$.*^Requests/sec: +([\d.]+)$", done.stdout, re.S | re.M
    )
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{url} was not answered as it should:\n{done.stdout}{done.stderr}")
    return Rate(float(found[3]), found[1], found[2])


def _script(path: Path, key: str, body: str) -> Path:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _batch_body() -> str:
    items = [{"cap": CAP, "amount": 1}] * BATCH
    return json.dumps({"items": items, "atomic": False}, separators=(",", ":"))


def _on_core(core: int) -> list[str]:
    """Servers and wrk do not share a core, where there are two."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]


# ---- the servers


@contextmanager
def our_servers(folder: Path) -> Iterator[tuple[dict[str, int], str, int]]:
    """The servers of `http_servers`: their ports, an API key, and the process that they are in."""
    command = [*_on_core(0), sys.executable, "-m", "benchmarks.http_servers", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the servers did not start")
            told = json.loads(line)
            yield told["ports"], told["key"], process.pid
        finally:
            end(process)


@contextmanager
def _nginx(folder: Path, nginx: Tool) -> Iterator[int]:
    with socket.create_server((HOST, 0)) as probe:
        port = int(probe.getsockname()[1])
    config = folder / "nginx.conf"
    text = NGINX.format(folder=folder, host=HOST, port=port, answer=ANSWER)
    config.write_text(text, encoding="utf-8")
    command = [*_on_core(0), nginx.path, "-c", str(config), "-p", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=nginx.environment) as process:
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.01)
        else:
            return
