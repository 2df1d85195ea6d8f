"""The embedded server: a good guest in somebody else's process."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from tests.support.stand_in import StandIn, request, run, served, wire
from vcap_es.adapters.http.server import serving


def test_a_port_that_is_taken_is_an_error() -> None:
    """A server that cannot bind raises, and does not end the process."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                async with serving(Starlette(), host="127.0.0.1", port=port):
                    pass

    run(main)


def test_it_is_quiet_and_leaves_signals_alone(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It prints nothing, logs no line, and takes no signal handler."""
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port:
            for call in (request(key), request({}), b"garbage\r\n\r\n"):
                async with wire(port) as line:
                    await line.send(call)
                    await line.answer()
            assert signal.getsignal(signal.SIGTERM) is before

    run(main)
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_answers_carry_the_date_and_not_the_make() -> None:
    """Answers say when they were given, and not by what software."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            for call in (request(key), request(key, "Idempotency-Key: x")):
                await line.send(call)
                answer = await line.answer()
                assert answer.headers["date"].endswith(" GMT")
                assert "server" not in answer.headers

    run(main)


def test_an_error_inside_comes_out_as_it_is() -> None:
    """What the owner raises inside the context is not wrapped, and the server has stopped."""

    async def main() -> None:
        ports = []

        async def fail() -> None:
            async with served(StandIn()) as port:
                ports.append(port)
                raise LookupError("ours")

        with pytest.raises(LookupError, match="ours"):
            await fail()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", ports[0])

    run(main)


def test_what_fails_at_start_is_raised() -> None:
    """An application that cannot start does not leave its owner waiting."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if not app.debug:
            raise LookupError("no")
        yield

    async def main() -> None:
        with pytest.raises(RuntimeError, match="did not start"):
            async with serving(Starlette(lifespan=lifespan), host="127.0.0.1", port=0):
                pass

    run(main)


def test_websockets_where_they_are_wanted() -> None:
    """A node link passes through the same protocol, longer than any deadline of HTTP."""

    async def echo(link: WebSocket) -> None:
        await link.accept()
        async for data in link.iter_bytes():
            await link.send_bytes(data)

    async def main() -> None:
        app = Starlette(routes=[WebSocketRoute("/link", echo)])
        async with (
            serving(app, host="127.0.0.1", port=0, websockets=True) as port,
            connect(f"ws://127.0.0.1:{port}/link", compression=None) as link,
        ):
            for size in (1, 100_000):
                await link.send(b"x" * size)
                assert await link.recv() == b"x" * size

    run(main)
