"""What an idempotency key costs: keyed and plain calls per CPU second of the same server.

The server is a process of its own, with a real master and journal; a plain client keeps some
connections busy. What counts is the server's processor time: a busy machine disturbs it little.
Both kinds of calls go through the application, as the fast lane takes none with a key.
"""

import os
import selectors
import socket
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.http import our_servers
from benchmarks.http_servers import CAP, HOST
from benchmarks.rows import Row, sized

CALLS, ROUNDS = sized((10_000, 3), tiny=(200, 1))
CONNECTIONS = 16
KEYED_TO_PLAIN_MIN = 0.6
JOURNAL_BYTES_MAX = 96

AIMS = {
    "keyed / plain": f">= {KEYED_TO_PLAIN_MIN}",
    "journal of a key": f"<= {JOURNAL_BYTES_MAX}",
}


def figures() -> list[Row]:
    """Calls per CPU second with keys and without, their ratio, and the journal bytes of a key."""
    with TemporaryDirectory(prefix="vcap-bench-") as name:
        folder = Path(name)
        with our_servers(folder) as (ports, key, pid):
            load = _Load(ports["application"], key, pid)
            before = _journal_bytes(folder)
            pairs = [(load.rate(CALLS, is_keyed=True), load.rate(CALLS)) for _ in range(ROUNDS)]
            written = (_journal_bytes(folder) - before) / (CALLS * ROUNDS)
    ratio = median(keyed / plain for keyed, plain in pairs)
    aims = (
        ("keyed / plain", f"{ratio:.2f}", "times", ratio >= KEYED_TO_PLAIN_MIN),
        ("journal of a key", f"{written:.0f}", "bytes", written <= JOURNAL_BYTES_MAX),
    )
    return [
        _rate("with a key each", [keyed for keyed, _ in pairs]),
        _rate("without", [plain for _, plain in pairs]),
        *(Row(figure, value, unit, AIMS[figure], ok) for figure, value, unit, ok in aims),
    ]


def _rate(figure: str, rates: list[float]) -> Row:
    return Row(figure, f"{median(rates):,.0f}", "calls per CPU second")


def _journal_bytes(folder: Path) -> int:
    """All that the journal has but the cells, which have one size."""
    files = (each for each in (folder / "server").iterdir() if each.name != "cells")
    return sum(each.stat().st_size for each in files)


class _Load:
    """Calls at one port, each connection one at a time."""

    def __init__(self, port: int, key: str, pid: int) -> None:
        self._port, self._key, self._pid = port, key, pid
        self._numbers = count()

    def rate(self, calls: int, *, is_keyed: bool = False) -> float:
        """Calls per CPU second of the server."""
        began = self._cpu_seconds()
        with selectors.DefaultSelector() as selector:
            for _ in range(min(CONNECTIONS, calls)):
                line = socket.create_connection((HOST, self._port))
                selector.register(line, selectors.EVENT_READ, bytearray())
                line.sendall(self._request(is_keyed=is_keyed))
            self._answer_all(selector, calls, is_keyed=is_keyed)
            for each in list(selector.get_map().values()):
                each.fileobj.close()  # type: ignore[union-attr]  # a socket, as registered
        return calls / (self._cpu_seconds() - began)

    def _answer_all(self, selector: selectors.BaseSelector, calls: int, *, is_keyed: bool) -> None:
        sent, answered = min(CONNECTIONS, calls), 0
        while answered < calls:
            for each, _ in selector.select():
                line = each.fileobj
                assert isinstance(line, socket.socket)
                each.data.extend(line.recv(65_536))
                if not each.data.endswith(b"}"):
                    continue
                if not each.data.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"not answered as it should: {bytes(each.data)!r}")
                each.data.clear()
                answered += 1
                if sent < calls:
                    line.sendall(self._request(is_keyed=is_keyed))
                    sent += 1

    def _request(self, *, is_keyed: bool) -> bytes:
        number = next(self._numbers)
        field = "Idempotency-Key" if is_keyed else "X-Request-Id"
        return (
            f"POST /v1/caps/{CAP}/consume HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Authorization: Bearer {self._key}\r\n{field}: {number:032x}\r\n"
            "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
            '{"amount": 1}'
        ).encode()

    def _cpu_seconds(self) -> float:
        """The processor time of the server so far, in its own code and in the system's."""
        stat = Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
