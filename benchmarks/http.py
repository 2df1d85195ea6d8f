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

CONNECTIONS = 64
ROUNDS = 3
ROUND_SECONDS = 2
BATCH = 100
FAST_LANE_TO_NGINX_MIN = 0.7
FAST_LANE_TO_ASGI_MIN = 2.0
BATCH_TO_SINGLE_MIN = 10

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

Figures = dict[str, object]


class Rate(NamedTuple):
    """What wrk saw: requests per second, and latencies as it writes them."""

    per_second: float
    p50: str
    p99: str


def figures() -> list[Figures]:
    """Requests per second of each server, and the ratios that we aim at."""
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            return [{"figure": "consume over HTTP", "value": f"SKIPPED: {tool} is not installed"}]
    with TemporaryDirectory(prefix="vcap-bench-") as name:
        folder = Path(name)
        with our_servers(folder) as (ports, key, _), _nginx(folder) as nginx_port:
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
                    seen[run].append(_wrk(url, script))
    return _rows(seen)


def _rows(seen: dict[str, list[Rate]]) -> list[Figures]:
    titles = {
        "fast": "consume through the fast lane",
        "asgi": "the same handler as plain ASGI on uvicorn",
        "application": "the application without the fast lane",
        "nginx": "nginx, a constant answer",
        "batch": f"independent consumes, {BATCH} in a request",
    }
    rows: list[Figures] = []
    for run, title in titles.items():
        rate = sorted(seen[run])[len(seen[run]) // 2]
        value = f"{rate.per_second:,.0f} requests/s, p50 {rate.p50}, p99 {rate.p99}"
        rows.append({"figure": title, "value": value})
    rows.append(_ratio(seen, "fast", "nginx", FAST_LANE_TO_NGINX_MIN, "fast lane / nginx"))
    rows.append(_ratio(seen, "fast", "asgi", FAST_LANE_TO_ASGI_MIN, "fast lane / plain ASGI"))
    title = "consumes of a batch / single consumes"
    rows.append(_ratio(seen, "batch", "fast", BATCH_TO_SINGLE_MIN, title, BATCH))
    return rows


def _ratio(
    seen: dict[str, list[Rate]], over: str, under: str, aim: float, title: str, times: int = 1
) -> Figures:
    pairs = zip(seen[over], seen[under], strict=True)
    ratio = median(times * a.per_second / b.per_second for a, b in pairs)
    return {
        "figure": title,
        "value": f"{ratio:.2f}",
        "aim": f">= {aim}",
        "reached": ratio >= aim,
        "ratio": ratio,
    }


# ---- the load


def _wrk(url: str, script: Path) -> Rate:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_SECONDS}s", "--latency", "-s"]
    done = subprocess.run(
        [*_on_core(1), *command, str(script), url], capture_output=True, text=True, check=True
    )
    found = re.search(
        r"^ +50% +(\S+)$.*^ +99% +(\S+)$.*^Requests/sec: +([\d.]+)$", done.stdout, re.S | re.M
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
            process.stdin.close()
            process.wait(30)


@contextmanager
def _nginx(folder: Path) -> Iterator[int]:
    with socket.create_server((HOST, 0)) as probe:
        port = int(probe.getsockname()[1])
    config = folder / "nginx.conf"
    text = NGINX.format(folder=folder, host=HOST, port=port, answer=ANSWER)
    config.write_text(text, encoding="utf-8")
    command = [*_on_core(0), "nginx", "-c", str(config), "-p", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
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


if __name__ == "__main__":
    for row in figures():
        print(f"{row['figure']}: {row['value']}")
