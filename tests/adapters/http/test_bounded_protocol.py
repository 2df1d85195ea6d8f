"""Bounds on strangers: slow, large, many and malformed ones are sent away, and nobody else."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.support.stand_in import Answer, StandIn, Wire, request, run, served, wire
from vcap_es.adapters.http.bounded_protocol import ConnectionLimiter, ProtocolBounds

QUICK = ProtocolBounds(head_s=0.2, body_s=0.2, idle_s=0.2)

both_loops = pytest.mark.parametrize("on_uvloop", [True, False], ids=["uvloop", "asyncio"])
both_lanes = pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])


def sent_away(
    *pieces: bytes, bounds: ProtocolBounds = QUICK, fast: bool = True, on_uvloop: bool = True
) -> bytes:
    """What comes back, up to the end of the connection, when only these pieces are sent."""

    async def main() -> bytes:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}, bounds=bounds, fast=fast) as port, wire(port) as line:
            for piece in pieces:
                await line.send(piece.replace(b"KEY", key["authorization"].encode()))
            return await line.rest()

    return run(main, on_uvloop=on_uvloop)


def status_of(response: bytes) -> int:
    """The status of a response; 0 where there is none."""
    return int(response.split(b" ")[1]) if response else 0


HEAD = b"POST /v1/caps/a/consume HTTP/1.1\r\nHost: x\r\nAuthorization: KEY\r\n"
ONE = HEAD + b'Content-Length: 13\r\n\r\n{"amount": 1}'


@both_loops
@both_lanes
@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([], 0),
        ([b"P"], 408),
        ([HEAD], 408),
        ([HEAD + b"Content-Length: 13\r\n\r\n"], 408),
        ([HEAD + b'Content-Length: 13\r\n\r\n{"amount"'], 408),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"], 408),
        ([b"\r\n" * 10], 0),
    ],
    ids=["silent", "begun", "half a head", "no body", "half a body", "half a chunk", "empty lines"],
)
def test_who_is_too_slow_is_sent_away(
    pieces: list[bytes], status: int, fast: bool, on_uvloop: bool
) -> None:
    """A connection that sends nothing, a part of a head or a part of a body is closed."""
    assert status_of(sent_away(*pieces, fast=fast, on_uvloop=on_uvloop)) == status


def test_a_trickle_does_not_help() -> None:
    """Each further byte of a head buys no time: the deadline is that of the whole head."""

    async def main() -> None:
        node = StandIn()
        async with served(node, bounds=QUICK) as port, wire(port) as line:

            async def trickle() -> None:
                await line.send(HEAD)
                while True:
                    await line.send(b"x: y\r\n")
                    await asyncio.sleep(0.01)

            trickling = asyncio.create_task(trickle())
            assert status_of(await line.rest()) in (0, 408)  # 0 where the reset was quicker
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)

    run(main)


@both_lanes
def test_an_idle_connection_is_closed_in_silence(fast: bool) -> None:
    """After an answer a connection may rest for a while, and is then closed without a word."""
    response = sent_away(ONE, fast=fast)
    head, _, body = response.partition(b"\r\n\r\n")
    assert status_of(head) == 200
    assert json.loads(body)["consumed"] == 1


def test_who_waits_for_us_is_not_sent_away() -> None:
    """A call that takes long is nobody's fault: no deadline of the connection ends it."""

    async def main() -> int:
        node = StandIn(gate=asyncio.Event())
        key = node.key()
        serving = served(node, {"a": 10}, bounds=QUICK)
        async with serving as port, wire(port) as line, wire(port) as idle:
            await line.send(request(key, "Idempotency-Key: x") + request(key)[:20])
            # Given that a connection with the same deadlines has been closed meanwhile
            await idle.rest()
            assert node.gate is not None
            node.gate.set()
            return (await line.answer()).status

    assert run(main) == 200


@both_loops
def test_who_never_reads_is_cut_off(on_uvloop: bool) -> None:
    """A caller who sends and never takes an answer does not hold the connection for ever."""

    async def main() -> None:
        node = StandIn()
        key = node.key()

        async def send_for_ever(line: Wire) -> None:
            while True:
                await line.send(request(key) * 100)

        serving = served(node, {"a": 10**9}, bounds=QUICK)
        async with serving as port, wire(port, receive_bytes=4096) as line:
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await send_for_ever(line)

    run(main, on_uvloop=on_uvloop)


@both_lanes
@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([HEAD + b"X: " + b"y" * 8200 + b"\r\n\r\n"], 431),
        ([HEAD + b"".join(b"x%d: y\r\n" % n for n in range(1000)) + b"\r\n"], 431),
        ([HEAD] + [b"X: " + b"y" * 8000 + b"\r\n"] * 2 + [b"\r\n"], 431),
        ([HEAD + b"X: "] + [b"y" * 65536] * 16, 431),
        ([HEAD.replace(b"/a/", b"/" + b"a" * 9000 + b"/") + b"\r\n"], 414),
    ],
    ids=["a long field", "many fields", "in pieces", "without end", "a long path"],
)
def test_a_large_head_is_refused(pieces: list[bytes], status: int, fast: bool) -> None:
    """A head above 8 KiB and a path above 1 KiB are refused, and end the connection."""
    response = sent_away(*pieces, bounds=ProtocolBounds(), fast=fast)
    assert status_of(response) in (status, 0)  # 0 where the reset of unread bytes was quicker
    if len(pieces) == 1:
        assert b"connection: close" in response.lower()


def test_a_large_batch_of_small_heads_is_fine() -> None:
    """Pipelined calls may together be larger than one head may be."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 1000}) as port, wire(port) as line:
            await line.send(request(key) * 200 + request(key)[:30])
            for _ in range(200):
                assert (await line.answer()).status == 200
            await line.send(request(key)[30:])
            assert (await line.answer()).status == 200

    run(main)


@both_lanes
@pytest.mark.parametrize(
    "piece",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: 13\r\nContent-Length: 14\r\n\r\n",
        HEAD + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1e1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"a b: c\r\n\r\n",
        HEAD + b"a: b\x00c\r\n\r\n",
        HEAD.replace(b"/a/", b"/\xff/") + b"\r\n",
        HEAD.replace(b"/a/", b"/\x00/") + b"\r\n",
    ],
)
def test_what_is_not_http_is_refused(piece: bytes, fast: bool) -> None:
    """Garbage, other protocols and ambiguous lengths get 400 at most, and the connection ends."""
    response = sent_away(piece, bounds=ProtocolBounds(head_s=1, body_s=1), fast=fast)
    assert status_of(response) in (400, 404)
    assert b"200 OK" not in response


@both_lanes
def test_garbage_does_not_overtake_an_answer(fast: bool) -> None:
    """What was asked before the garbage is answered, then the connection ends."""

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        key = node.key()
        async with served(node, {"a": 10}, fast=fast) as port, wire(port) as line:
            await line.send(request(key, "Idempotency-Key: x") * 2 + b"\x00\x01garbage\r\n\r\n")
            await node.reached.wait()
            assert node.gate is not None
            node.gate.set()
            assert [(await line.answer()).status for _ in range(2)] == [200, 200]
            assert await line.rest() == b""

    run(main)


async def closed(line: Wire) -> Answer | None:
    """The answer before the end of the connection, if there is one."""
    try:
        return await line.answer()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None


@both_loops
@pytest.mark.parametrize(
    "bounds",
    [ProtocolBounds(connections_max=2), ProtocolBounds(connections_per_address_max=2)],
    ids=["all", "one"],
)
def test_connections_are_bounded(bounds: ProtocolBounds, on_uvloop: bool) -> None:
    """One connection too many is told so and closed; when one leaves, another may come."""

    async def main() -> None:
        node = StandIn()
        key = node.key()

        async def tries(port: int) -> int:
            async with wire(port) as line:
                await line.send(request(key))
                answer = await closed(line)
                return answer.status if answer else 503

        async with served(node, {"a": 10}, bounds=bounds) as port, wire(port) as first:
            async with wire(port) as second:
                for line in (first, second):
                    await line.send(request(key))
                    assert (await line.answer()).status == 200
                assert await tries(port) == 503
            await until(lambda: tries(port), 200)

    run(main, on_uvloop=on_uvloop)


async def until(attempt: Callable[[], Awaitable[int]], wanted: int) -> None:
    """Try until it comes out as wanted; the test's own time limit ends what never does."""
    while await attempt() != wanted:
        pass


def test_the_doorkeeper_forgets_who_left() -> None:
    """Addresses are counted apart, and take no room once they are gone."""
    door = ConnectionLimiter(ProtocolBounds(connections_max=3, connections_per_address_max=2))
    assert [door.admit("x"), door.admit("x"), door.admit("x"), door.admit("y")] == [1, 1, 0, 1]
    assert not door.admit("z")
    for address in ("x", "x", "y"):
        door.leave(address)
    assert door._by_address == {}
    assert door.admit("z")


def test_slow_ones_do_not_keep_others_out() -> None:
    """While hundreds of slow connections hang, calls are answered; then the slow ones are gone."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 1000}, bounds=QUICK) as port:
            slow = [wire(port) for _ in range(300)]
            lines = [await each.__aenter__() for each in slow]
            for index, line in enumerate(lines):
                await line.send(request(key)[: index % 150])
            async with wire(port) as line:
                for _ in range(100):
                    await line.send(request(key))
                    assert (await line.answer()).status == 200
            await asyncio.gather(*(line.rest() for line in lines))
            for each in slow:
                await each.__aexit__(None, None, None)

    run(main)
