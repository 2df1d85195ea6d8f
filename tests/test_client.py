"""The clients against a real data centre: a master, servers, HTTP, and sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from vcap_es.adapters.http.callers import create_key
from vcap_es.adapters.http.client_plane.app import client_app
from vcap_es.adapters.http.client_plane.fast_lane import fast_lane
from vcap_es.adapters.http.client_plane.plane import ClientPlane
from vcap_es.adapters.http.control_plane.app import control_app
from vcap_es.adapters.http.server import serving
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.client import (
    AsyncVolumecapClient,
    Consumed,
    ConsumedAll,
    ConsumedEach,
    EmbeddedVolumecap,
    Held,
    Level,
    Refunded,
    Refused,
    Settled,
    VolumecapClient,
    calls,
)
from vcap_es.client.attempts import Attempt, Failure, HttpAnswer, ServerPool
from vcap_es.components.decisions.meta import Define
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.errors import InvalidAmount, InvalidInput, RequestRefused, Unreachable
from vcap_es.events.facts import Definition
from vcap_es.events.logs.sqlite import SqliteLog

HOST, SECRET = "127.0.0.1", "0123456789abcdef" * 4
LIMITS = Limits(max_wait_ms=5000, slots_max=1000)


class Place(NamedTuple):
    """A running data centre: its master, where its servers are, and a client's key."""

    master: MasterNode
    master_url: str
    urls: list[str]
    key: str


@asynccontextmanager
async def data_centre(directory: Path, servers: int = 1) -> AsyncIterator[Place]:
    """A master on SQLite and some servers with HTTP, and the caps `ten` and `many`."""
    async with AsyncExitStack() as stack:
        log = await SqliteLog.open(directory / "log.sqlite", synchronous="OFF")
        stack.push_async_callback(log.close)
        master = await stack.enter_async_context(
            MasterNode(log, dc="dc1", name="m1", secret=SECRET)
        )
        port = await stack.enter_async_context(
            serving(control_app(master), host=HOST, port=0, websockets=True)
        )
        _, key = await create_key(master, role="client", scopes=["*"], random=b"k" * 40)
        for cap, total in (("ten", 10), ("many", 1_000_000)):
            definition = Definition(total=total, interval="month")
            await master.submit(
                Define(cap=cap, definition=definition), actor="test", correlation=""
            )
        urls = [
            await _server(stack, directory / f"s{number}", f"http://{HOST}:{port}")
            for number in range(servers)
        ]
        yield Place(master, f"http://{HOST}:{port}", urls, key)


async def _server(stack: AsyncExitStack, directory: Path, master_url: str) -> str:
    node = ServerNode(
        directory, name=directory.name, masters=[master_url], secret=SECRET, limits=LIMITS
    )
    await stack.enter_async_context(node)
    while not all(is_well for _, is_well, _ in node.ready()):  # noqa: ASYNC110  # a node tells, but has no event
        await asyncio.sleep(0.005)
    plane = ClientPlane(node)
    port = await stack.enter_async_context(
        serving(client_app(plane), host=HOST, port=0, speaking=fast_lane(plane))
    )
    return f"http://{HOST}:{port}"


def in_data_centre(
    directory: Path, body: Callable[[Place], Awaitable[None]], servers: int = 1
) -> None:
    """Run `body` beside a data centre."""

    async def run() -> None:
        async with asyncio.timeout(60), data_centre(directory, servers) as place:
            await body(place)

    asyncio.run(run())


def test_every_call_of_the_plain_client_is_answered_with_a_value(tmp_path: Path) -> None:
    """Consume, hold, commit, cancel, refund and look up, each with its typed result."""

    def calls_of(place: Place) -> None:
        with VolumecapClient(place.urls, api_key=place.key) as caps:
            # One cap: all or nothing, or as much as there is
            taken = caps.consume("ten", 4)
            assert isinstance(taken, Consumed)
            assert (taken.cap, taken.consumed, taken.total) == ("ten", 4, 10)
            (interval, *_) = place.master.state.metas["ten"].intervals
            assert taken.resets_at == interval.end
            rest = caps.consume("ten", 100, minimum=1)
            assert isinstance(rest, Consumed)
            assert rest.consumed == 6
            refused = caps.consume("ten")
            assert isinstance(refused, Refused)
            assert (refused.code, refused.cap) == ("capped", "ten")
            assert refused.retry_after_ms is not None
            # Back again, but never more than was consumed
            back = caps.refund(taken.id, 3)
            assert isinstance(back, Refunded)
            assert (back.refunded, back.refunded_in_all) == (3, 3)
            too_much = caps.refund(taken.id, 2)
            assert isinstance(too_much, Refused)
            # Holds
            held = caps.hold("many", 5, lifetime_ms=60_000)
            assert isinstance(held, Held)
            settled = caps.commit(held.id, 2)
            assert isinstance(settled, Settled)
            assert (settled.committed, settled.refunded) == (2, 3)
            again = caps.hold("many", 5, lifetime_ms=60_000)
            assert isinstance(again, Held)
            cancelled = caps.cancel(again.id)
            assert isinstance(cancelled, Settled)
            assert (cancelled.committed, cancelled.refunded) == (0, 5)
            # Several caps
            both = caps.consume_all({"ten": 1, "many": 1})
            assert isinstance(both, ConsumedAll)
            assert [each.cap for each in both.items] == ["ten", "many"]
            none = caps.consume_all({"ten": 9, "many": 1})
            assert isinstance(none, Refused)
            each = caps.consume_each([("ten", 9), ("many", 1), ("nowhere", 1)])
            assert isinstance(each, ConsumedEach)
            kinds = [item.code if isinstance(item, Refused) else "yes" for item in each.items]
            assert kinds == ["capped", "yes", "unknown_cap"]
            level = caps.lookup("ten")
            assert isinstance(level, Level)
            assert (level.remaining, level.total) == (2, 10)

    in_data_centre(tmp_path, lambda place: asyncio.to_thread(calls_of, place))


def test_the_asynchronous_client_gives_the_same_answers(tmp_path: Path) -> None:
    """Many tasks consume at once through one client, and share exactly the total."""

    async def body(place: Place) -> None:
        async with AsyncVolumecapClient(place.urls, api_key=place.key) as caps:
            answers = await asyncio.gather(*(caps.consume("ten") for _ in range(25)))
            assert sum(isinstance(each, Consumed) for each in answers) == 10
            assert {each.code for each in answers if isinstance(each, Refused)} == {"capped"}
            first = next(each for each in answers if isinstance(each, Consumed))
            assert isinstance(await caps.refund(first.id), Refunded)
            held = await caps.hold("ten", 1, lifetime_ms=1000)
            assert isinstance(held, Held)
            assert isinstance(await caps.commit(held.id), Settled)
            assert isinstance(await caps.consume_all({"many": 2}), ConsumedAll)
            assert isinstance(await caps.consume_each([("many", 2)]), ConsumedEach)
            assert isinstance(await caps.lookup("many"), Level)
            another = await caps.hold("many", 1, lifetime_ms=1000)
            assert isinstance(another, Held)
            assert isinstance(await caps.cancel(another.id), Settled)

    in_data_centre(tmp_path, body)


def test_the_same_key_gives_the_same_answer(tmp_path: Path) -> None:
    """A call that is repeated with its key spends once; another call with it is refused."""

    async def body(place: Place) -> None:
        async with AsyncVolumecapClient(place.urls, api_key=place.key) as caps:
            one = await caps.consume("ten", 3, key="order-1")
            two = await caps.consume("ten", 3, key="order-1")
            assert isinstance(one, Consumed)
            assert isinstance(two, Consumed)
            assert one.id == two.id
            other = await caps.consume("ten", 4, key="order-1")
            assert isinstance(other, Refused)
            assert other.code == "key_reused"
            level = await caps.lookup("ten")
            assert isinstance(level, Level)
            assert level.remaining == 7

    in_data_centre(tmp_path, body)


def test_a_server_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    """The client goes on with the next base URL, and stays with the one that answered."""

    async def body(place: Place) -> None:
        nobody = await _port_of_nobody()
        urls = [nobody, *place.urls]
        async with AsyncVolumecapClient(urls, api_key=place.key, retries=0) as caps:
            for _ in range(3):
                assert isinstance(await caps.consume("many"), Consumed)
        async with AsyncVolumecapClient([nobody], api_key=place.key, retries=1) as caps:
            with pytest.raises(Unreachable, match=nobody):
                await caps.consume("many")

    in_data_centre(tmp_path, body, servers=2)


async def _port_of_nobody() -> str:
    server = await asyncio.start_server(lambda *_: None, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://{HOST}:{port}"


def test_an_answer_that_is_lost_is_asked_for_again_at_the_same_server(tmp_path: Path) -> None:
    """When a connection breaks before the answer, the repetition spends nothing more."""

    async def body(place: Place) -> None:
        # Given a way to the server that loses its first answer
        lost = 1
        port = int(place.urls[0].rpartition(":")[2])

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal lost
            there, to = await asyncio.open_connection(HOST, port)
            while data := await reader.read(65_536):
                to.write(data)
                answer = await there.read(65_536)
                if lost:
                    lost -= 1
                    break
                writer.write(answer)
            for each in (to, writer):
                each.close()

        async with await asyncio.start_server(carry, HOST, 0) as lossy:
            url = f"http://{HOST}:{lossy.sockets[0].getsockname()[1]}"
            # When a client consumes through it
            async with AsyncVolumecapClient([url], api_key=place.key) as caps:
                answer = await caps.consume("ten", 3)
        # Then it has an answer, and one consume was spent
        assert lost == 0
        assert isinstance(answer, Consumed)
        async with AsyncVolumecapClient(place.urls, api_key=place.key) as caps:
            level = await caps.lookup("ten")
            assert isinstance(level, Level)
            assert level.remaining == 7

    in_data_centre(tmp_path, body)


def test_a_request_at_fault_raises(tmp_path: Path) -> None:
    """A wrong API key is no refusal of a cap, and no answer of a stranger is one."""

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno")
        writer.close()

    async def body(place: Place) -> None:
        async with AsyncVolumecapClient(place.urls, api_key="vcap_no_key") as caps:
            with pytest.raises(RequestRefused) as raised:
                await caps.consume("ten")
            assert raised.value.code == "unauthorized"
        async with await asyncio.start_server(stranger, HOST, 0) as server:
            url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
            async with AsyncVolumecapClient([url], api_key=place.key, retries=1) as caps:
                with pytest.raises(Unreachable, match="HTTP 502 is not the answer"):
                    await caps.consume("ten")

    in_data_centre(tmp_path, body)


def test_what_is_no_amount_is_never_sent() -> None:
    """Amounts, keys, ids and URLs are checked before anything leaves."""
    with VolumecapClient(["http://127.0.0.1:9"], api_key="") as caps:
        for amount in (0, -1, True, 1.5, "3", 2**63):
            with pytest.raises(InvalidAmount):
                caps.consume("ten", amount)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(InvalidInput):
            caps.consume("ten", key='with "quotes"')
        with pytest.raises(InvalidInput):
            caps.refund("no id")
    for urls in ([], "http://127.0.0.1:9", ["127.0.0.1:9"]):
        with pytest.raises(InvalidInput):
            VolumecapClient(urls, api_key="")


# ---- attempts, as plain code

CALL = calls.consume("ten", 1, None)
YES = HttpAnswer(
    200,
    b'{"id":"i.0.ten.0-1","cap":"ten","consumed":1,"remaining":1,"total":10,'
    b'"resets_at":"2026-01-02T00:00:00Z"}',
)
BUSY = HttpAnswer(429, b'{"code":"busy","detail":"","retry_after_ms":70}')
GONE, LOST = Failure("gone", arrived=False), Failure("lost", arrived=True)


def tried(
    pool: ServerPool, key: str | None, *told: HttpAnswer | Failure
) -> tuple[list[Attempt], object]:
    """The attempts that are made when these things come of them, and what comes out."""
    attempts = pool.attempts(CALL, key)
    made = [next(attempts)]
    try:
        for each in told:
            made.append(attempts.send(each))
    except StopIteration as done:
        return made, done.value
    except Unreachable:
        return made, Unreachable
    return made, None


def test_what_may_have_arrived_is_repeated_at_the_same_server_only() -> None:
    """The first server is kept to while it can be reached; with no key nothing is repeated."""
    pool = ServerPool(["http://a", "http://b"], retries=2)
    made, outcome = tried(pool, "k", LOST, LOST, LOST)
    assert [each.url for each in made] == ["http://a"] * 3
    assert {each.headers["Idempotency-Key"] for each in made} == {'"k"'}
    assert [each.pause_ms for each in made] == [0, 50, 100]
    assert outcome is Unreachable
    made, outcome = tried(pool, None, LOST)
    assert (len(made), outcome) == (1, Unreachable)
    made, outcome = tried(pool, "k", LOST, GONE, YES)
    assert [each.url for each in made] == ["http://a", "http://a", "http://b"]
    assert isinstance(outcome, Consumed)


def test_who_answered_last_is_asked_first() -> None:
    """A pool goes past a server that is gone, once for each, and remembers who was there."""
    pool = ServerPool(["http://a", "http://b/"], retries=1)
    made, outcome = tried(pool, "k", GONE, YES)
    assert [each.url for each in made] == ["http://a", "http://b"]
    assert isinstance(outcome, Consumed)
    made, _ = tried(pool, "k", YES)
    assert [each.url for each in made] == ["http://b"]
    made, outcome = tried(pool, "k", GONE, GONE, GONE, GONE)
    assert [each.url for each in made] == ["http://b", "http://a", "http://b", "http://a"]
    assert outcome is Unreachable


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    """`busy` is waited out as long as there are retries, and raised after that."""
    made, outcome = tried(ServerPool(["http://a"], retries=1), None, BUSY, YES)
    assert [each.pause_ms for each in made] == [0, 70]
    assert isinstance(outcome, Consumed)
    with pytest.raises(RequestRefused) as raised:
        tried(ServerPool(["http://a"], retries=1), None, BUSY, BUSY)
    assert raised.value.code == "busy"


# ---- inside the caller's process


def test_an_embedded_server_consumes_by_a_function_call(tmp_path: Path) -> None:
    """Plain calls take what is here, awaited ones fetch more; together exactly the total."""

    async def body(place: Place) -> None:
        directory = tmp_path / "embedded"
        async with EmbeddedVolumecap(
            directory, masters=[place.master_url], secret=SECRET, limits=LIMITS
        ) as caps:
            assert caps.try_consume("many") is None
            first = await caps.consume("many", 2)
            assert isinstance(first, Consumed)
            assert first.id.startswith(caps.incarnation)
            taken = [each for each in (caps.try_consume("many") for _ in range(100)) if each]
            assert taken
            assert len({each.id for each in taken}) == len(taken)
            # All of a small cap, then no more
            got = [caps.try_consume("ten") or await caps.consume("ten") for _ in range(12)]
            assert sum(isinstance(each, Consumed) for each in got) == 10
            # The other calls
            assert isinstance(await caps.refund(first.id, 1), Refunded)
            held = await caps.hold("many", 1, lifetime_ms=1000)
            assert isinstance(held, Held)
            assert isinstance(await caps.commit(held.id), Settled)
            again = await caps.hold("many", 1, lifetime_ms=1000)
            assert isinstance(again, Held)
            assert isinstance(await caps.cancel(again.id), Settled)
            assert isinstance(await caps.consume_all({"many": 1}), ConsumedAll)
            assert isinstance(await caps.consume_each([("many", 1)]), ConsumedEach)
            assert isinstance(await caps.lookup("many"), Level)
            assert all(is_well for _, is_well, _ in caps.ready())
            spent = 1 + len(taken) + 1 + 2
        # Then nothing is left behind: what was spent is known, the rest is back
        (interval, *_) = place.master.state.metas["many"].intervals
        (account,) = (each for each in interval.pool.places.values())
        assert (account.held, account.spent - account.refunded) == (0, spent)

    in_data_centre(tmp_path, body, servers=0)


def test_an_embedded_server_takes_no_wrong_amount(tmp_path: Path) -> None:
    """A negative or boolean amount never reaches the slice, nor does a wrong id or lifetime."""

    async def body(place: Place) -> None:
        async with EmbeddedVolumecap(
            tmp_path / "embedded", masters=[place.master_url], secret=SECRET, limits=LIMITS
        ) as caps:
            await caps.consume("many")
            for amount in (0, -1, True, 1.5, 2**63):
                if amount != 2**63:  # so much is never here
                    with pytest.raises(InvalidAmount):
                        caps.try_consume("many", amount)  # type: ignore[arg-type]  # the point
                with pytest.raises(InvalidAmount):
                    await caps.consume("many", amount)  # type: ignore[arg-type]  # likewise
            with pytest.raises(InvalidInput):
                await caps.consume("no id!")
            with pytest.raises(InvalidInput):
                await caps.hold("many", 1, lifetime_ms=0)
            with pytest.raises(InvalidInput):
                await caps.consume_all({})

    in_data_centre(tmp_path, body, servers=0)
