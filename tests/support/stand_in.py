"""A volumecap server for the tests of its client plane: real balances, no slices, no master."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import uvloop
from prometheus_client import CollectorRegistry

from vcap_es.adapters.http.bounded_protocol import ProtocolBounds
from vcap_es.adapters.http.callers import RANDOM_BYTES, new_key
from vcap_es.adapters.http.client_plane.app import client_app
from vcap_es.adapters.http.client_plane.fast_lane import fast_lane
from vcap_es.adapters.http.client_plane.plane import ClientPlane
from vcap_es.adapters.http.server import bounded, serving
from vcap_es.components.messages.client import (
    Cancel,
    Command,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Outcome,
    Refunded,
    Refused,
    Settled,
)
from vcap_es.components.messages.server import NodeAddress
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.facts import ApiKeyCreated
from vcap_es.events.facts.access import Role

NOW = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC, in microseconds."""

RESETS_AT = NOW + 3_600_000_000

T = TypeVar("T")


@dataclass
class Cap:
    """A cap, its running total of what was spent, and its group."""

    total: int
    spent: int = 0
    group: str | None = None


@dataclass
class StandIn:
    """Answers like a volumecap server that has the whole of every cap."""

    incarnation: str = "a" * 32
    caps: dict[str, Cap] = field(default_factory=dict)
    keys: dict[str, ApiKeyCreated] = field(default_factory=dict)
    ready_keys: bool = True
    addresses: dict[str, str] = field(default_factory=dict)
    known: list[NodeAddress] = field(default_factory=list)
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    unready: bool = False
    submitted: list[Command] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a command was submitted."""
    fails: bool = False
    _answers: dict[str, tuple[bytes, Outcome]] = field(default_factory=dict)
    _settled: dict[str, int] = field(default_factory=dict)

    def key(self, *scopes: str, role: Role = "client", name: str = "caller") -> dict[str, str]:
        """Make a key; the header that carries it."""
        made = new_key(name.encode().ljust(RANDOM_BYTES, b"."), name)
        fact = ApiKeyCreated(
            key=name, digest=made.digest, role=role, scopes=list(scopes or "*"), expires_at=None
        )
        self.keys = {**self.keys, name: fact}
        return {"authorization": f"Bearer {made.text}"}

    def nodes(self) -> list[NodeAddress]:
        """Whatever a test has put there."""
        return self.known

    def is_node(self, authorization: str) -> bool:
        """Nodes know this secret."""
        return authorization == "Bearer of nodes"

    cluster = "c1" * 16

    def known_masters(self) -> list[str]:
        """One, that nobody asks."""
        return ["http://127.0.0.1:9"]

    def consume_now(self, cap: str, amount: int) -> Consumed | None:
        """Take from the balance; None where it does not suffice."""
        found = self.caps.get(cap)
        if found is None or found.spent + amount > found.total:
            return None
        found.spent += amount
        return Consumed(
            cap=cap,
            origin=self._id(cap, 0, 0).removesuffix("0-0"),
            last=found.spent,
            consumed=amount,
            remaining=found.total - found.spent,
            total=found.total,
            resets_at=RESETS_AT,
        )

    async def submit(
        self, command: Command, idempotency: Idempotency | None = None, owner: str = ""
    ) -> Outcome:
        """Do what is asked, once per key; where there is a gate, when it is opened."""
        self.submitted.append(command)
        self.reached.set()
        if self.fails:
            raise OSError("the disk is gone")
        if self.gate is not None:
            await self.gate.wait()
        if idempotency is None:
            return self._do(command)
        known = self._answers.get(idempotency.key)
        if known is None:
            known = idempotency.fingerprint, self._do(command)
            self._answers[idempotency.key] = known
        if known[0] != idempotency.fingerprint:
            return Refused(code="key_reused", cap="", detail="the key came with another call")
        return known[1]

    async def lookup(self, cap: str) -> Level | Refused:
        """What is left."""
        self.looked_up.append(cap)
        found = self.caps.get(cap)
        if found is None:
            return Refused(code="unknown_cap", cap=cap, detail="no such cap")
        left = found.total - found.spent
        return Level(
            cap=cap,
            here=left,
            remaining=left,
            total=found.total,
            start=RESETS_AT - 86_400_000_000,
            resets_at=RESETS_AT,
            name="day",
            mode="hard",
        )

    def group_of(self, cap: str) -> str | None:
        """The group of a cap."""
        return self.caps[cap].group if cap in self.caps else None

    def ready(self) -> list[tuple[str, bool, str]]:
        """One check that can be made to fail."""
        return [("journal", True, "fsynced"), ("link", not self.unready, "to a master")]

    def _id(self, cap: str, last: int, amount: int) -> str:
        return f"{self.incarnation}.7.{cap}.{last - amount}-{last}"

    def _do(self, command: Command) -> Outcome:
        match command:
            case Consume():
                return self._consume(command)
            case ConsumeEach(items=items):
                return ConsumedEach(items=[self._consume(item) for item in items])
            case ConsumeAll(items=items):
                return self._consume_all(items)
            case Hold(cap=cap, amount=amount, lifetime_ms=lifetime_ms):
                taken = self._consume(Consume(cap=cap, minimum=amount, maximum=amount))
                if isinstance(taken, Refused):
                    return taken
                return Held(
                    id=taken.id,
                    cap=cap,
                    held=amount,
                    remaining=taken.remaining,
                    total=taken.total,
                    resets_at=RESETS_AT,
                    lifetime_ms=lifetime_ms,
                )
            case Commit(id=id_, amount=amount):
                return self._settle(id_, amount)
            case Cancel(id=id_):
                return self._settle(id_, 0)
            case Refund(id=id_, amount=amount):
                return self._refund(id_, amount)

    def _consume(self, command: Consume) -> Consumed | Refused:
        found = self.caps.get(command.cap)
        if found is None:
            return Refused(code="unknown_cap", cap=command.cap, detail="no such cap")
        amount = min(command.maximum, found.total - found.spent)
        taken = self.consume_now(command.cap, amount) if amount >= command.minimum else None
        detail = f"{found.total - found.spent} are left"
        return taken or Refused(
            code="capped", cap=command.cap, detail=detail, retry_after_ms=3_600_000
        )

    def _consume_all(self, items: list[Consume]) -> Outcome:
        for item in items:
            found = self.caps.get(item.cap)
            if found is None or found.spent + item.minimum > found.total:
                return Refused(code="capped", cap=item.cap, detail="too few are left")
        taken = [self._consume(item) for item in items]
        return ConsumedAll(items=[each for each in taken if isinstance(each, Consumed)])

    def _place(self, id_: str) -> tuple[str, int]:
        named = parse_consume_id(id_)
        return named.cap, named.end - named.start

    def _settle(self, id_: str, amount: int | None) -> Outcome:
        cap, held = self._place(id_)
        if id_ in self._settled:
            return Refused(code="settled", cap=cap, detail="the hold is settled")
        committed = held if amount is None else min(amount, held)
        self._settled[id_] = held
        self.caps[cap].spent -= held - committed
        return Settled(
            id=id_,
            cap=cap,
            committed=committed,
            refunded=held - committed,
            short=max(0, (amount or 0) - held),
        )

    def _refund(self, id_: str, amount: int | None) -> Outcome:
        cap, consumed = self._place(id_)
        before = self._settled.get(id_, 0)
        amount = consumed - before if amount is None else amount
        if not 0 < amount <= consumed - before:
            return Refused(code="settled", cap=cap, detail="more than was consumed")
        self._settled[id_] = before + amount
        self.caps[cap].spent -= amount
        return Refunded(id=id_, cap=cap, refunded=amount, refunded_in_all=before + amount)


def run(main: Callable[[], Awaitable[T]], *, on_uvloop: bool = True) -> T:
    """Run `main` to its end on a fresh event loop, as production does or as plain asyncio."""

    async def body() -> T:
        async with asyncio.timeout(60):
            return await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
        return runner.run(body())


@asynccontextmanager
async def served(
    node: StandIn,
    caps: dict[str, int] | None = None,
    *,
    fast: bool = True,
    bounds: ProtocolBounds | None = None,
    stop_seconds: int = 5,
) -> AsyncIterator[int]:
    """Serve `node`, with these caps defined, on a port of its own."""
    node.caps |= {cap: Cap(total) for cap, total in (caps or {}).items()}
    plane = ClientPlane(node, now=lambda: NOW)
    async with serving(
        client_app(plane),
        host="127.0.0.1",
        port=0,
        speaking=fast_lane(plane) if fast else bounded,
        bounds=bounds,
        stop_seconds=stop_seconds,
    ) as port:
        yield port


@asynccontextmanager
async def calling(port: int, headers: dict[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """An ordinary HTTP client of that server."""
    url = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield client


@dataclass
class Answer:
    """A response as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A raw connection: bytes out, answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes, *, step: int | None = None) -> None:
        """Send `data`, in pieces of `step` bytes each of which the server reads by itself."""
        for at in range(0, len(data), step or len(data) or 1):
            self.writer.write(data[at : at + (step or len(data))])
            await self.writer.drain()
            if step:
                await asyncio.sleep(0)

    async def answer(self) -> Answer:
        """The next response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:-2]]
        names = [name.lower() for name, _ in pairs]
        assert len(set(names)) == len(names), f"a field is there twice: {names}"
        headers = {name.lower(): value for name, value in pairs}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def wire(port: int, *, receive_bytes: int | None = None) -> AsyncIterator[Wire]:
    """A raw connection to the server; `receive_bytes` bounds what the kernel takes in for us."""
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    limit = receive_bytes or 2**16
    reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()


def request(
    headers: dict[str, str],
    *fields: str,
    cap: str = "a",
    amount: Any = 1,
    body: str | None = None,
    method: str = "POST",
    target: str | None = None,
    version: str = "1.1",
) -> bytes:
    """A consume as bytes; `fields` are further lines of the head."""
    body = f'{{"amount": {amount}}}' if body is None else body
    target = target or f"/v1/caps/{cap}/consume"
    lines = [
        f"{method} {target} HTTP/{version}",
        "Host: localhost",
        *(f"{name.title()}: {value}" for name, value in headers.items()),
        *fields,
    ]
    given = [line.lower().partition(":")[0] for line in fields]
    if "content-type" not in given:
        lines.append("Content-Type: application/json")
    if not {"content-length", "transfer-encoding"} & set(given):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join([*lines, "", ""]) + body).encode("latin-1")
