"""The sending side of a link."""

import asyncio

import pytest

from vcap_es.adapters.links import send_queue as links
from vcap_es.adapters.links.send_queue import SendQueue
from vcap_es.components.messages.encoding import decode_at_server
from vcap_es.components.messages.server import NodeDirectory


def message(number: int) -> NodeDirectory:
    """A message that can be told from others."""
    return NodeDirectory(epoch=number, nodes=[])


def numbers(sent: list[bytes]) -> list[int]:
    """Which messages were sent."""
    found = [decode_at_server(data) for data in sent]
    return [each.epoch for each in found if isinstance(each, NodeDirectory)]


def test_what_is_posted_is_sent_in_order_until_it_is_finished() -> None:
    """Plain code posts and does not wait; `run` ends behind the last."""
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    async def check() -> None:
        link = SendQueue(send)
        for number in range(100):
            link.post(message(number))
        link.finish()
        await link.run()
        assert not link.is_overrun

    asyncio.run(check())
    assert numbers(sent) == list(range(100))


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded, and a send that never ends does not keep `run` for ever."""
    monkeypatch.setattr(links, "QUEUE_MAX", 3)

    async def check() -> None:
        taken = asyncio.Event()

        async def send(_: bytes) -> None:
            taken.set()
            await asyncio.Event().wait()

        link = SendQueue(send)
        link.post(message(0))
        running = asyncio.create_task(link.run())
        await taken.wait()
        for number in range(4):
            assert not link.is_overrun
            link.post(message(number))
        assert link.is_overrun
        await running

    asyncio.run(check())


def test_who_cancels_it_is_heard() -> None:
    """Only an overrun ends quietly."""

    async def check() -> None:
        async def send(_: bytes) -> None:
            raise AssertionError("nothing was posted")

        running = asyncio.create_task(SendQueue(send).run())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(check())


def test_an_error_of_the_connection_is_raised() -> None:
    """It is news that the other side is gone."""

    async def check() -> None:
        async def send(_: bytes) -> None:
            raise ConnectionResetError("gone")

        link = SendQueue(send)
        link.post(message(1))
        with pytest.raises(ConnectionResetError):
            await link.run()

    asyncio.run(check())
