"""The fast lane: what it answers, what it hands on, and that nobody can tell the difference."""

import asyncio
import gc
import inspect
import json
import random
from itertools import product

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server

from tests.support.stand_in import (
    NOW,
    RESETS_AT,
    StandIn,
    calling,
    request,
    run,
    served,
    wire,
)
from vcap_es.adapters.http.client_plane.fast_lane import (
    HEADS_KEPT,
    KNOWN_HEAD_BYTES_MAX,
    FastLaneProtocol,
    KnownHead,
    Lane,
)
from vcap_es.adapters.http.client_plane.plane import ClientPlane, consumed_json
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed

both_loops = pytest.mark.parametrize("on_uvloop", [True, False], ids=["uvloop", "asyncio"])


@both_loops
def test_a_simple_consume_takes_the_fast_lane(on_uvloop: bool) -> None:
    """A consume that the slice suffices for is answered without the application."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            for count in (1, 2, 3):
                await line.send(request(key, amount=2))
                answer = await line.answer()
                assert answer.status == 200
                assert json.loads(answer.body)["remaining"] == 10 - 2 * count
        assert (node.submitted, node.caps["a"].spent) == ([], 6)

    run(main, on_uvloop=on_uvloop)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"User-Agent": "x", "Accept": "*/*", "Accept-Encoding": "gzip, zstd"},
        {"Connection": "Keep-Alive"},
    ],
)
def test_the_answer_does_not_tell_who_gave_it(fields: dict[str, str]) -> None:
    """With and without the fast lane, status, every header field and the body are the same."""

    async def main(fast: bool) -> tuple[object, int]:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}, fast=fast) as port, wire(port) as line:
            await line.send(request({**key, **fields}, amount=3))
            answer = await line.answer()
            answer.headers.pop("date", None)
            return answer, len(node.submitted)

    (fast, through_app), (slow, not_fast) = run(lambda: main(True)), run(lambda: main(False))
    assert (through_app, not_fast) == (0, 1)
    assert fast == slow
    assert "'ratelimit': '\"a\";r=7;t=3600'" in repr(fast)


NOT_SIMPLE = {
    "key": (["Idempotency-Key: x"], {}),
    "charset": (["Content-Type: application/json; charset=utf-8"], {}),
    "range": ([], {"body": '{"min": 1, "max": 1}'}),
    "escaped": ([], {"body": '{"am\\u006funt": 1}'}),
    "roomy": ([], {"body": '{"amount": 1' + " " * 500 + "}"}),
    "query": ([], {"target": "/v1/caps/a/consume?x=1"}),
    "absolute": ([], {"target": "http://localhost/v1/caps/a/consume"}),
    "close": (["Connection: close"], {}),
    "old": ([], {"version": "1.0"}),
    "old and kept": (["Connection: keep-alive"], {"version": "1.0"}),
    "chunked": (
        ["Transfer-Encoding: chunked"],
        {"body": '5\r\n{"amo\r\n8\r\nunt": 1}\r\n0\r\n\r\n'},
    ),
    "upgrade": (["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"], {}),
    "websocket": (["Connection: upgrade", "Upgrade: websocket"], {}),
}


@pytest.mark.parametrize("name", NOT_SIMPLE)
def test_what_is_not_simple_is_handed_on(name: str) -> None:
    """A call that is in any way unusual reaches the application, whole, and is answered by it."""
    fields, options = NOT_SIMPLE[name]

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            await line.send(request(key, *fields, **options))
            assert (await line.answer()).status == 200
        assert node.submitted == [Consume(cap="a", minimum=1, maximum=1)]
        assert node.caps["a"].spent == 1

    run(main)


def test_a_client_that_expects_is_told_to_continue() -> None:
    """`Expect: 100-continue` gets its interim answer before the body is sent."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            head, _, body = request(key, "Expect: 100-continue").partition(b"\r\n\r\n")
            await line.send(head + b"\r\n\r\n")
            assert (await line.answer()).status == 100
            await line.send(body)
            assert (await line.answer()).status == 200

    run(main)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"method": "DELETE"}, 405),
        ({"target": "/v1/caps/a/consume/"}, 404),
        ({"target": "/v1/caps/a/b/consume"}, 404),
        ({"target": "/v1/caps/a%2Fb/consume"}, 404),
        ({"target": "/v1/caps/a%20b/consume"}, 404),
        ({"target": "/v1/caps//consume"}, 404),
        ({"target": "/v2/caps/a/consume"}, 404),
        ({"amount": 0}, 400),
        ({"amount": "1.0"}, 400),
        ({"body": '{"amount": 1, "amount": 1}'}, 400),
        ({"body": ""}, 400),
        ({"cap": "nobody"}, 404),
        ({"amount": 11}, 429),
    ],
)
def test_what_is_no_yes_is_answered_by_the_application(
    options: dict[str, object], status: int
) -> None:
    """Other methods, other paths, bad bodies and refusals take nothing, and the line stays good."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            await line.send(request(key, **options))  # type: ignore[arg-type]  # the table's options
            answer = await line.answer()
            assert answer.status == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["vcap-server"] == node.incarnation
            assert node.caps["a"].spent == 0
            await line.send(request(key))
            assert (await line.answer()).status == 200

    run(main)


def test_without_a_good_key_nothing_is_taken() -> None:
    """No key, two, a wrong one, a wrong role, another scope, an unheard keyring: no units."""

    async def main() -> None:
        node = StandIn()
        good, other = node.key(), node.key("b*", name="other")
        auditor = node.key(role="auditor", name="auditor")
        wrong = {"authorization": good["authorization"][:-1] + "x"}
        async with served(node, {"a": 10, "b1": 10}) as port, wire(port) as line:

            async def status(call: bytes) -> int:
                await line.send(call)
                return (await line.answer()).status

            assert await status(request({})) == 401
            assert await status(request(wrong)) == 401
            assert await status(request(good, f"Authorization: {good['authorization']}")) == 401
            assert await status(request(other)) == 403
            assert await status(request(auditor)) == 403
            assert await status(request(other, cap="b1")) == 200
            node.ready_keys = False
            assert await status(request(good)) == 503
            node.ready_keys = True
            assert await status(request(good)) == 200
            node.keys = {}
            assert await status(request(good)) == 401
        assert node.caps["a"].spent == 1

    run(main)


def test_a_known_head_is_answered_by_its_bytes() -> None:
    """A head that came before needs no parser; one byte more or less, and the parser decides."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        call = request(key)
        async with served(node, {"a": 100}) as port, wire(port) as line:
            await line.send(call)
            assert (await line.answer()).status == 200
            (connection,) = connections(port)
            (head,) = connection._lane.heads
            assert call.startswith(head)
            variants = [
                (call, 200),
                (call + call, 200),
                (b"\r\n" + call, 200),
                (request(key, amount=2), 200),
                (request(key, amount=0), 400),
                (request(key, amount=10), 200),
                (request(key, "X: y"), 200),
                (request(key, "Idempotency-Key: x"), 200),
                (request(key, target="/v1/caps/a/consume?x"), 200),
                (request(key, cap="b"), 404),
                (request(key, amount=99), 429),
            ]
            for data, status in variants:
                await line.send(data)
                for _ in range(2 if data == call + call else 1):
                    assert (await line.answer()).status == status
            assert node.caps["a"].spent == 1 + 1 + 2 + 1 + 2 + 10 + 1 + 1 + 1
            assert len(node.submitted) == 4

    run(main)


def test_a_known_head_keeps_no_right_alive() -> None:
    """A key that is revoked or narrowed opens nothing, though its head is known."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 100}) as port, wire(port) as line:

            async def status() -> int:
                await line.send(request(key))
                return (await line.answer()).status

            assert [await status(), await status()] == [200, 200]
            node.key("b")
            assert await status() == 403
            node.key(role="auditor")
            assert await status() == 403
            node.keys = {}
            assert await status() == 401
            node.key()
            assert await status() == 200
        assert node.caps["a"].spent == 3

    run(main)


def test_a_response_is_the_same_however_it_is_put_together() -> None:
    """Parts that were kept for a second change nothing of what is told."""
    plane = ClientPlane(StandIn(), now=lambda: NOW)
    lane, defaults = Lane(plane), [(b"date", b"today")]
    numbers = (0, 1, 7, 10**6, 2**63 - 1)
    for last, remaining, total in product(numbers[1:], (-3, *numbers), numbers[1:]):
        for cap in ("a", 'consumed":1', "remaining"):
            consumed = Consumed(
                cap=cap,
                origin=f"i.7.{cap}.",
                last=last,
                consumed=1,
                remaining=remaining,
                total=total,
                resets_at=RESETS_AT,
            )
            policy, limit = plane.limit_fields(cap, remaining, total, RESETS_AT)
            head, _, body = lane.response(consumed, defaults).decode().partition("\r\n\r\n")
            assert body == consumed_json(consumed)
            assert f"\r\nratelimit-policy: {policy}\r\nratelimit: {limit}\r\n" in head
            assert head.endswith(f"\r\ncontent-length: {len(body)}")


def test_known_heads_are_bounded() -> None:
    """Heads that differ each time do not fill the memory, and long ones are not kept at all."""
    lane = Lane(ClientPlane(StandIn()))
    for index in range(2 * HEADS_KEPT + 1):
        lane.learn(KnownHead(b"%d" % index, "a", b"", 1, None))
        assert lane.cap_of(b"/v1/caps/c%d/consume" % index) == f"c{index}"
    assert len(lane.heads) <= HEADS_KEPT

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 100}) as port, wire(port) as line:
            await line.send(request(key, f"X: {'y' * KNOWN_HEAD_BYTES_MAX}"))
            assert (await line.answer()).status == 200
            assert connections(port)[0]._lane.heads == {}

    run(main)


def test_a_percent_encoded_cap_is_the_cap() -> None:
    """`user%3A7` and `user:7` are one cap, and both take the fast lane."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        async with served(node, {"user:7": 10}) as port, wire(port) as line:
            for cap in ("user:7", "user%3A7", "user%3a7", "%75ser:7"):
                await line.send(request(key, cap=cap))
                assert json.loads((await line.answer()).body)["cap"] == "user:7"
        assert (node.submitted, node.caps["user:7"].spent) == ([], 4)

    run(main)


@both_loops
def test_not_one_too_many(on_uvloop: bool) -> None:
    """Many callers at once get exactly the total, one answer each."""

    async def main() -> list[int]:
        node = StandIn()
        key = node.key()

        async def caller(port: int) -> list[int]:
            async with wire(port) as line:
                await line.send(request(key) * 40)
                return [(await line.answer()).status for _ in range(40)]

        async with served(node, {"a": 500}) as port:
            statuses = await asyncio.gather(*(caller(port) for _ in range(20)))
        assert node.caps["a"].spent == 500
        return [status for each in statuses for status in each]

    statuses = run(main, on_uvloop=on_uvloop)
    assert (statuses.count(200), statuses.count(429)) == (500, 300)


def connections(port: int) -> list[FastLaneProtocol]:
    """The server's ends of the connections to that port."""
    found = [each for each in gc.get_objects() if type(each) is FastLaneProtocol]
    alive = [each for each in found if each in each.connections]
    return [each for each in alive if each.server == ("127.0.0.1", port)]


def mixed(key: dict[str, str], count: int, seed: int) -> tuple[bytes, list[int]]:
    """Calls of all kinds, one after the other, and the statuses that answer them."""
    kinds = [
        (request(key), 200),
        (request(key, "Idempotency-Key: x"), 200),
        (request({}), 401),
        (request(key, body="{}"), 400),
        (request(key, method="GET"), 405),
        (
            request(key, "Transfer-Encoding: chunked", body="d\r\n" + '{"amount": 1}\r\n0\r\n\r\n'),
            200,
        ),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (request(key, body='{"amount": 1' + " " * 300 + "}"), 200),
        (request(key, "Connection: Upgrade", "Upgrade: h2c"), 200),
    ]
    chosen = random.Random(seed).choices(kinds, weights=[9, 1, 1, 1, 1, 1, 1, 1, 1], k=count)
    return b"".join(call for call, _ in chosen), [status for _, status in chosen]


@both_loops
@pytest.mark.parametrize("step", [None, 1, 7, 193, 1000])
def test_answers_come_in_order_however_the_calls_arrive(step: int | None, on_uvloop: bool) -> None:
    """Pipelined calls of all kinds are answered in their order, at any cut into pieces."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        calls, expected = mixed(key, 60, seed=step or 0)
        async with served(node, {"a": 1000}) as port, wire(port) as line:
            sending = asyncio.create_task(line.send(calls, step=step))
            assert [(await line.answer()).status for _ in expected] == expected
            await sending

    run(main, on_uvloop=on_uvloop)


def test_a_fast_call_waits_for_a_slow_one_before_it() -> None:
    """A simple consume that is pipelined behind one that waits is answered after it."""

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            await line.send(
                request(key, "Idempotency-Key: slow", amount=3) + request(key, amount=2)
            )
            await node.reached.wait()
            assert node.caps["a"].spent == 0
            assert node.gate is not None
            node.gate.set()
            consumed = [json.loads((await line.answer()).body)["consumed"] for _ in range(2)]
            assert consumed == [3, 2]

    run(main)


@both_loops
def test_who_does_not_read_is_not_served(on_uvloop: bool) -> None:
    """Answers do not pile up: a caller who sends without reading is paused, and loses nothing."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        count = 30_000
        async with served(node, {"a": count}) as port, wire(port, receive_bytes=4096) as line:
            sending = asyncio.create_task(line.send(request(key) * count))
            # Given that nothing more is taken, though not all calls were
            before, still = -1, 0
            while still < 50:
                await asyncio.sleep(0.002)
                still = still + 1 if node.caps["a"].spent == before else 0
                before = node.caps["a"].spent
            assert 0 < before < count
            # When the caller reads, then all is answered
            lefts = [json.loads((await line.answer()).body)["remaining"] for _ in range(count)]
            assert lefts == list(range(count - 1, -1, -1))
            await sending

    run(main, on_uvloop=on_uvloop)


@both_loops
def test_calls_do_not_pile_up_behind_a_slow_one(on_uvloop: bool) -> None:
    """Of the calls that wait for slow ones, no more are taken in than one read brings."""

    async def main() -> None:
        node = StandIn()
        key = node.key()
        slow, count = request(key, "Idempotency-Key: x"), 8_000
        async with served(node, {"a": 10**6}) as port, wire(port) as line:
            sending = asyncio.create_task(line.send(slow * count))
            await node.reached.wait()
            (connection,) = connections(port)
            longest = 0
            for _ in range(count):
                assert (await line.answer()).status == 200
                longest = max(longest, len(connection.pipeline))
            await sending
        assert 0 < longest <= 256 * 1024 // len(slow)

    run(main, on_uvloop=on_uvloop)


def test_what_it_consumed_is_counted() -> None:
    """Metrics count fast and slow consumes alike."""

    async def main() -> str:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            for call in (
                request(key, amount=3),
                request(key, "Idempotency-Key: x", amount=4),
                request(key, amount=5),
            ):
                await line.send(call)
                await line.answer()
            async with calling(port, {}) as client:
                return (await client.get("/metrics")).text

    lines = run(main).splitlines()
    for line in (
        'vcap_consumes_total{result="consumed"} 2.0',
        'vcap_consumes_total{result="capped"} 1.0',
        "vcap_consumed_units_total 7.0",
        'vcap_refused_units_total{reason="capped"} 5.0',
        'vcap_http_requests_total{route="consume",status="200"} 2.0',
        'vcap_http_requests_total{route="consume",status="429"} 1.0',
    ):
        assert line in lines


def test_an_orderly_stop_answers_what_was_asked() -> None:
    """A stop lets a call under way finish, ends idle connections, and takes no new ones."""

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        key = node.key()
        server = served(node, {"a": 10})
        port = await server.__aenter__()
        async with wire(port) as idle, wire(port) as busy:
            await idle.send(request(key))
            await idle.answer()
            await busy.send(request(key, "Idempotency-Key: x"))
            await node.reached.wait()
            stopping = asyncio.create_task(server.__aexit__(None, None, None))
            assert await idle.rest() == b""
            assert node.gate is not None
            node.gate.set()
            assert (await busy.answer()).status == 200
            await stopping
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    run(main)


def test_a_stop_is_bounded() -> None:
    """A call that never ends does not keep the server from stopping."""

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        key = node.key()
        server = served(node, {"a": 10}, stop_seconds=0)
        port = await server.__aenter__()
        async with wire(port) as busy:
            await busy.send(request(key, "Idempotency-Key: x"))
            await node.reached.wait()
            await server.__aexit__(None, None, None)
            assert b"200 OK" not in await busy.rest()

    run(main)


def test_uvicorn_is_what_it_was() -> None:
    """The version is pinned, and the parts that we lean on are there, with their parameters."""
    assert uvicorn.__version__ == "0.54.0"
    parameters = {
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "eof_received": [],
        "handle_websocket_upgrade": [],
        "on_message_begin": [],
        "on_url": ["url"],
        "on_header": ["name", "value"],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "on_response_complete": [],
        "pause_writing": [],
        "resume_writing": [],
        "shutdown": [],
        "_should_upgrade": [],
        "_unset_keepalive_if_required": [],
    }
    for name, expected in parameters.items():
        assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters)[1:] == expected
    source = inspect.getsource(HttpToolsProtocol)
    for attribute in (
        "app",
        "client",
        "config",
        "cycle",
        "expect_100_continue",
        "flow",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "scope",
        "server_state",
        "transport",
        "url",
    ):
        assert f"self.{attribute} = " in source or f"self.{attribute}: " in source
    cycle = inspect.signature(RequestResponseCycle).parameters
    assert "keep_alive" in cycle
    for attribute in ("self.response_started", "self.response_complete"):
        assert f"{attribute} = " in inspect.getsource(RequestResponseCycle.__init__)
    for name in ("serve", "startup", "shutdown", "capture_signals"):
        assert callable(getattr(Server, name))
    assert "self.should_exit" in inspect.getsource(Server)
