"""The client plane as its users see it: every call, every refusal, and who may do what."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from tests.support.stand_in import (
    RESETS_AT,
    Cap,
    StandIn,
    calling,
    request,
    run,
    served,
    wire,
)
from vcap_es.adapters.http.client_plane.app import ENDPOINTS
from vcap_es.adapters.http.client_plane.calls import Endpoint
from vcap_es.adapters.http.request_bodies import BATCH_BYTES_MAX, BODY_BYTES_MAX
from vcap_es.components.messages.server import NodeAddress
from vcap_es.events.facts.access import Role
from vcap_es.events.instants import format_instant

ROLES: tuple[Role, ...] = ("client", "auditor", "operator", "admin")


def exchange(
    *calls: tuple[str, str, Any], node: StandIn | None = None, headers: dict[str, str] | None = None
) -> list[httpx2.Response]:
    """The answers to calls of (method, path, JSON body); caps `a` and `b` have 10 units."""
    node = node or StandIn()
    key = node.key()

    async def main() -> list[httpx2.Response]:
        async with (
            served(node, {"a": 10, "b": 10}) as port,
            calling(port, {**key, **(headers or {})}) as client,
        ):
            return [await client.request(method, path, json=body) for method, path, body in calls]

    return run(main)


def test_a_consume() -> None:
    """A consume says what it took, what is left, of how much, and until when."""
    (answer,) = exchange(("POST", "/v1/caps/a/consume", {"amount": 3}))
    assert answer.json() == {
        "id": f"{'a' * 32}.7.a.0-3",
        "cap": "a",
        "consumed": 3,
        "remaining": 7,
        "total": 10,
        "resets_at": format_instant(RESETS_AT),
    }
    assert answer.headers["ratelimit-policy"] == '"a";q=10'
    assert answer.headers["ratelimit"] == '"a";r=7;t=3600'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vcap-server"] == "a" * 32


def test_as_much_as_there_is() -> None:
    """A range takes what is there, at least its minimum; below it nothing."""
    first, second, third = exchange(
        ("POST", "/v1/caps/a/consume", {"min": 1, "max": 7}),
        ("POST", "/v1/caps/a/consume", {"min": 1, "max": 7}),
        ("POST", "/v1/caps/a/consume", {"min": 1, "max": 7}),
    )
    assert (first.json()["consumed"], second.json()["consumed"], third.status_code) == (7, 3, 429)


def test_capped() -> None:
    """A capped call says which cap, and when to come again."""
    (answer,) = exchange(("POST", "/v1/caps/a/consume", {"amount": 11}))
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "3600"
    assert answer.headers["vcap-server"] == "a" * 32
    assert {
        "code": "capped",
        "cap": "a",
        "violated-policies": ["a"],
    }.items() <= answer.json().items()


def test_several_caps_all_or_none() -> None:
    """Either every cap gives, or none does and the one that did not is named."""
    items = [{"cap": "a", "amount": 6}, {"cap": "b", "amount": 6}]
    first, second, third = exchange(
        ("POST", "/v1/consume", {"items": items}),
        ("POST", "/v1/consume", {"items": [{"cap": "b", "amount": 4}, items[0]], "atomic": True}),
        ("GET", "/v1/caps/b", None),
    )
    assert [each["remaining"] for each in first.json()["items"]] == [4, 4]
    assert first.headers["ratelimit"] == '"a";r=4;t=3600, "b";r=4;t=3600'
    assert (second.status_code, second.json()["cap"]) == (429, "a")
    assert third.json()["remaining"] == 4


def test_a_batch_of_independent_consumes() -> None:
    """Each item of a batch has its own answer, in order; a refusal is a problem of its own."""
    items = [
        {"cap": "a", "amount": 9},
        {"cap": "a", "amount": 2},
        {"cap": "b", "min": 1, "max": 99},
    ]
    (answer,) = exchange(("POST", "/v1/consume", {"items": items, "atomic": False}))
    assert answer.status_code == 200
    taken, refused, some = answer.json()["items"]
    assert (taken["consumed"], refused["code"], refused["status"]) == (9, "capped", 429)
    assert some["consumed"] == 10


def test_hold_and_commit_and_cancel() -> None:
    """A hold takes; a commit keeps a part; a cancel gives back; a settled hold is settled."""

    async def main() -> None:
        node = StandIn()
        async with served(node, {"a": 10}) as port, calling(port, node.key()) as client:
            hold = {"cap": "a", "amount": 4, "lifetime_ms": 1000}
            first = (await client.post("/v1/holds", json=hold)).json()
            assert (first["held"], first["remaining"], first["lifetime_ms"]) == (4, 6, 1000)
            committed = await client.post(f"/v1/holds/{first['id']}/commit", json={"amount": 3})
            assert committed.json() == {
                "id": first["id"],
                "cap": "a",
                "committed": 3,
                "refunded": 1,
                "short": 0,
            }
            again = await client.post(f"/v1/holds/{first['id']}/commit")
            assert (again.status_code, again.json()["code"]) == (409, "settled")
            second = (await client.post("/v1/holds", json=hold)).json()
            cancelled = await client.post(f"/v1/holds/{second['id']}/cancel")
            assert cancelled.json()["refunded"] == 4
            assert node.caps["a"].spent == 3

    run(main)


def test_a_refund() -> None:
    """A consume can be undone by its id, in parts, and never for more than it took."""

    async def main() -> None:
        node = StandIn()
        async with served(node, {"a": 10, "b": 10}) as port, calling(port, node.key()) as client:
            id_ = (await client.post("/v1/caps/a/consume", json={"amount": 5})).json()["id"]
            part = await client.post("/v1/caps/a/refund", json={"id": id_, "amount": 2})
            assert part.json() == {"id": id_, "cap": "a", "refunded": 2, "refunded_in_all": 2}
            rest = await client.post("/v1/caps/a/refund", json={"id": id_})
            assert rest.json()["refunded"] == 3
            more = await client.post("/v1/caps/a/refund", json={"id": id_, "amount": 1})
            assert more.json()["code"] == "settled"
            other = await client.post("/v1/caps/b/refund", json={"id": id_})
            assert (other.status_code, other.json()["code"]) == (404, "unknown_id")
            assert node.caps["a"].spent == 0

    run(main)


@pytest.mark.parametrize("id_", ["x", "a.b.c", "i.1.a.5-5", "i.1.a.5-4", "i.1..0-1", "i.1.ä.0-1"])
def test_what_is_no_id_is_unknown(id_: str) -> None:
    """An id that no server ever gave is unknown, wherever it is sent."""
    for answer in exchange(
        ("POST", f"/v1/holds/{id_}/commit", None),
        ("POST", f"/v1/holds/{id_}/cancel", {}),
        ("POST", "/v1/caps/a/refund", {"id": id_}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_id")


def test_a_lookup() -> None:
    """A lookup says what is left and in which window; it takes nothing."""
    known, unknown = exchange(("GET", "/v1/caps/a", None), ("GET", "/v1/caps/nobody", None))
    assert known.json()["here"] == known.json()["remaining"] == 10
    assert known.headers["ratelimit-policy"] == '"a";q=10;w=86400'
    assert known.headers["ratelimit"] == '"a";r=10;t=3600'
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_cap")


# ---- idempotency


def test_the_same_key_gives_the_same_answer() -> None:
    """A repeated call is answered as the first one was, in quotes or bare, and takes nothing."""
    node = StandIn()

    async def main() -> None:
        async with served(node, {"a": 10}) as port, calling(port, node.key()) as client:

            async def consume(key: str, amount: int = 3) -> httpx2.Response:
                body = {"amount": amount}
                headers = {"Idempotency-Key": key}
                return await client.post("/v1/caps/a/consume", json=body, headers=headers)

            first = await consume("k-1")
            assert (await consume("k-1")).json() == first.json()
            assert (await consume('"k-1"')).json() == first.json()
            assert node.caps["a"].spent == 3
            reused = await consume("k-1", 4)
            assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")
            assert (await consume("k-2")).json()["remaining"] == 4

    run(main)


def test_a_key_belongs_to_its_caller() -> None:
    """Two callers with the same idempotency key do not meet."""

    async def main() -> None:
        node = StandIn()
        one, two = node.key(), node.key(name="two")
        async with (
            served(node, {"a": 10}) as port,
            calling(port, {"Idempotency-Key": "k"}) as client,
        ):
            for headers in (one, two):
                body = {"amount": 3}
                answer = await client.post("/v1/caps/a/consume", json=body, headers=headers)
                assert answer.status_code == 200
            assert node.caps["a"].spent == 6

    run(main)


@pytest.mark.parametrize(
    "key",
    ["", '"', '""', '"a', 'a"b"', '"a"b', "a b", "ä", "x" * 256, '"' + "x" * 256 + '"', '"\\a"'],
)
def test_a_malformed_key_is_refused(key: str) -> None:
    """A key that is empty, too long, half quoted or not printable does nothing."""

    async def main() -> None:
        node = StandIn()
        headers = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            await line.send(request(headers, f"Idempotency-Key: {key}"))
            answer = await line.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
            assert node.submitted == []

    run(main)


def test_a_key_may_hold_any_printable_text() -> None:
    """Quotes, backslashes and blanks inside quotes are part of the key, up to 255 characters."""
    for key in ('"a b"', '"a\\"b\\\\c"', "x" * 255, '"' + "x" * 255 + '"'):
        (answer,) = exchange(
            ("POST", "/v1/caps/a/consume", {"amount": 1}), headers={"Idempotency-Key": key}
        )
        assert answer.status_code == 200, key


# ---- faults of requests


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v1", 404, None),
        ("POST", "/v1/caps/a/consumes", 404, None),
        ("GET", "/v1/caps/a/", 404, None),
        ("GET", "/v1/caps/../livez", 404, None),
        ("GET", "/v1/caps/a/consume", 405, "POST"),
        ("DELETE", "/v1/caps/a", 405, "GET"),
        ("PUT", "/v1/holds", 405, "POST"),
        ("POST", "/metrics", 405, "GET"),
    ],
)
def test_what_is_not_served(method: str, path: str, status: int, allow: str | None) -> None:
    """An unknown path is 404, a wrong method 405 with what is allowed; both are problems."""

    async def main() -> None:
        node = StandIn()
        headers = node.key()
        async with served(node) as port, wire(port) as line:
            await line.send(request(headers, method=method, target=path))
            answer = await line.answer()
            assert answer.status == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert json.loads(answer.body)["status"] == status
            if allow is not None:
                assert allow in answer.headers["allow"]

    run(main)


def test_bodies_are_bounded() -> None:
    """A body above its limit is refused, told beforehand or not; the batch has a larger one."""

    async def main() -> None:
        node = StandIn()
        headers = node.key()
        chunk = f"{BODY_BYTES_MAX + 1:x}\r\n{' ' * (BODY_BYTES_MAX + 1)}\r\n0\r\n\r\n"
        async with served(node, {"a": 10}) as port:
            for fields, body, target, status in [
                ([], " " * (BODY_BYTES_MAX + 1), None, 413),
                (["Transfer-Encoding: chunked"], chunk, None, 413),
                ([f"Content-Length: {10**17}"], "", None, 413),
                ([], " " * (BODY_BYTES_MAX + 1), "/v1/consume", 400),
                ([], " " * (BATCH_BYTES_MAX + 1), "/v1/consume", 413),
            ]:
                async with wire(port) as line:
                    await line.send(request(headers, *fields, body=body, target=target))
                    assert (await line.answer()).status == status
        assert node.submitted == []

    run(main)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Content-Type: application/json", 200),
        ("Content-Type: APPLICATION/JSON;charset=UTF-8", 200),
        ("Content-Type: text/plain", 415),
        ("Content-Type: application/x-www-form-urlencoded", 415),
        ("Content-Type:", 415),
        ("Content-Encoding: gzip", 415),
    ],
)
def test_only_json_is_taken(field: str, status: int) -> None:
    """A body of another media type, or encoded, is refused."""

    async def main() -> int:
        node = StandIn()
        headers = node.key()
        async with served(node, {"a": 10}) as port, wire(port) as line:
            await line.send(request(headers, field))
            return (await line.answer()).status

    assert run(main) == status


def test_a_failure_is_said_and_not_shown() -> None:
    """Where the node fails, the answer is a problem without the node's inside."""
    node = StandIn(fails=True)
    (answer,) = exchange(
        ("POST", "/v1/holds", {"cap": "a", "amount": 1, "lifetime_ms": 1}), node=node
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "disk" not in answer.text


def test_a_caller_who_leaves_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """Who hangs up in the middle of a body leaves no trace but a count."""

    async def main() -> None:
        node = StandIn()
        headers = node.key()
        async with served(node, {"a": 10}) as port:
            async with wire(port) as line:
                await line.send(request(headers, "Idempotency-Key: x")[:-5])
            async with calling(port, headers) as client:
                answer = await client.post("/v1/caps/a/consume", json={"amount": 1})
                assert answer.json()["remaining"] == 9
        assert node.submitted == []

    run(main)
    assert caplog.records == []


# ---- who may do what


def sample(endpoint: Endpoint, cap: str) -> tuple[str, str, Any]:
    """A call of an endpoint about a cap."""
    id_ = f"{'a' * 32}.7.{cap}.0-1"
    bodies = {
        "consume": {"amount": 1},
        "consume_several": {"items": [{"cap": "mine", "amount": 1}, {"cap": cap, "amount": 1}]},
        "hold": {"cap": cap, "amount": 1, "lifetime_ms": 1000},
        "refund": {"id": id_},
    }
    if cap == "mine":
        bodies["consume_several"] = {"items": [{"cap": cap, "amount": 1}]}
    path = endpoint.path.replace("{cap}", cap).replace("{id}", id_)
    return endpoint.method, path, bodies.get(endpoint.name)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: each.name)
def test_roles_and_scopes_of_every_endpoint(endpoint: Endpoint) -> None:
    """Each endpoint serves the roles it declares, on the caps of the key's scopes alone."""

    async def main() -> None:
        node = StandIn()
        node.caps = {
            "mine": Cap(100, 50),
            "ours": Cap(100, 50, group="team"),
            "theirs": Cap(100, 50, group="teams"),
        }
        async with served(node) as port, calling(port, {}) as client:

            async def status(cap: str, headers: dict[str, str]) -> int:
                method, path, body = sample(endpoint, cap)
                answer = await client.request(method, path, json=body, headers=headers)
                return answer.status_code

            if endpoint.roles is None:
                # What nodes ask each other needs their secret
                assert await status("mine", {}) == (401 if endpoint.name == "links" else 200)
                return
            assert await status("mine", {}) == 401
            for role in ROLES:
                key = node.key("mine", "group:team", role=role, name=role)
                may = role in endpoint.roles
                for cap in ("mine", "ours", "theirs", "nobody"):
                    before = {name: each.spent for name, each in node.caps.items()}
                    node._settled.clear()
                    is_open = cap in ("mine", "ours") or endpoint.name == "nodes"
                    expected = 200 if may and is_open else 403
                    assert await status(cap, key) == expected, (role, cap)
                    if expected == 403:
                        assert before == {name: each.spent for name, each in node.caps.items()}

    run(main)


def test_the_group_of_an_unheard_cap_is_asked_for() -> None:
    """A key of a group opens a cap that this server never heard of, once it has asked."""

    async def main() -> None:
        node = StandIn()
        key = node.key("group:team")
        heard: list[str] = []

        async def lookup(cap: str) -> Any:
            heard.append(cap)
            node.caps[cap] = Cap(10, group="team")

        node.lookup = lookup  # type: ignore[method-assign]  # this server learns by asking
        async with served(node) as port, calling(port, key) as client:
            for _ in range(2):
                answer = await client.post("/v1/caps/new/consume", json={"amount": 1})
                assert answer.status_code == 200
        assert heard == ["new"]

    run(main)


# ---- the nodes


def test_the_nodes_are_listed_as_the_server_knows_them() -> None:
    """Each with its role, its address and whether it is there; null where nobody can know."""

    async def main() -> None:
        node = StandIn()
        node.known = [
            NodeAddress("m0-a", "m0", "master", "http://h:1", 3, "connected"),
            NodeAddress("b" * 32, "s1", "server", "http://h:2", 1, "lost"),
            NodeAddress("c" * 32, "s2", "server", "", 0, ""),
        ]
        async with served(node) as port, calling(port, node.key(role="auditor")) as client:
            answer = await client.get("/v1/nodes")
            master, lost, unknown = answer.json()["nodes"]
            assert master == {
                "node": "m0-a",
                "name": "m0",
                "role": "master",
                "address": "http://h:1",
                "stamp": 3,
                "presence": "connected",
            }
            assert (lost["name"], lost["presence"], unknown["presence"]) == ("s1", "lost", None)

    run(main)


def test_nodes_are_told_where_the_masters_are_and_nobody_else() -> None:
    """The secret of the nodes opens it; an API key of whatever role does not."""

    async def main() -> None:
        node = StandIn()
        async with served(node) as port, calling(port, node.key(role="admin")) as client:
            assert (await client.get("/v1/links")).status_code == 401
            answer = await client.get("/v1/links", headers={"authorization": "Bearer of nodes"})
            assert answer.json() == {"masters": ["http://127.0.0.1:9"], "cluster": "c1" * 16}
            assert answer.headers["cache-control"] == "no-store"

    run(main)


# ---- forwarding


def test_what_is_of_another_server_is_asked_there() -> None:
    """A commit, a cancel and a refund reach the server that gave the id, with the caller's keys."""

    async def main() -> None:
        here, there = StandIn(incarnation="a" * 32), StandIn(incarnation="b" * 32)
        key = here.key()
        there.keys = here.keys
        async with (
            served(here, {"a": 10}) as port,
            served(there, {"a": 10}) as other,
            calling(port, key) as client,
            calling(other, key) as direct,
        ):
            here.addresses = {there.incarnation: f"http://127.0.0.1:{other}/"}
            id_ = (await direct.post("/v1/caps/a/consume", json={"amount": 5})).json()["id"]
            refund = {"id": id_, "amount": 2}
            for _ in range(2):
                answer = await client.post(
                    "/v1/caps/a/refund", json=refund, headers={"Idempotency-Key": "k"}
                )
                assert answer.json()["refunded_in_all"] == 2
                assert answer.headers["vcap-server"] == there.incarnation
            hold = {"cap": "a", "amount": 4, "lifetime_ms": 1000}
            held = (await direct.post("/v1/holds", json=hold)).json()["id"]
            answer = await client.post(f"/v1/holds/{held}/commit", json={"amount": 9})
            assert answer.json()["short"] == 5
            again = await client.post(f"/v1/holds/{held}/cancel")
            assert (again.status_code, again.json()["code"]) == (409, "settled")
            assert (here.submitted, there.caps["a"].spent) == ([], 3 + 4)

    run(main)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """An unknown incarnation, a dead address and a second hop are 503 in bounded time."""

    async def main() -> None:
        here, there = StandIn(incarnation="a" * 32), StandIn(incarnation="b" * 32)
        key = here.key()
        there.keys = here.keys
        id_ = f"{'c' * 32}.7.a.0-1"
        async with (
            served(here, {"a": 10}) as port,
            served(there, {"a": 10}) as other,
            calling(port, key) as client,
        ):

            async def code() -> str:
                answer = await client.post("/v1/caps/a/refund", json={"id": id_})
                assert answer.status_code == 503
                return str(answer.json()["code"])

            assert await code() == "unavailable"
            here.addresses = {"c" * 32: "http://127.0.0.1:9"}
            assert await code() == "unavailable"
            # Given two servers that each believe the other one to be the third
            here.addresses = {"c" * 32: f"http://127.0.0.1:{other}"}
            there.addresses = {"c" * 32: f"http://127.0.0.1:{port}"}
            assert await code() == "unavailable"
            assert here.submitted == there.submitted == []

    run(main)


def test_what_may_not_be_done_is_not_forwarded() -> None:
    """A key without the cap in its scope does not reach the other server."""

    async def main() -> None:
        here = StandIn()
        key = here.key("b")
        here.addresses = {"b" * 32: "http://127.0.0.1:9"}
        async with served(here, {"a": 10}) as port, calling(port, key) as client:
            answer = await client.post("/v1/caps/a/refund", json={"id": f"{'b' * 32}.7.a.0-1"})
            assert answer.status_code == 403

    run(main)


# ---- health


def test_health() -> None:
    """The process is alive whatever else fails; it is ready when every check is fine."""

    async def main() -> None:
        node = StandIn()
        async with served(node) as port, calling(port, {}) as client:
            assert (
                (await client.get("/livez")).text == (await client.get("/healthz")).text == "ok\n"
            )
            assert (await client.get("/readyz")).text == "ok\n"
            node.unready = True
            assert (await client.get("/readyz")).status_code == 503
            verbose = await client.get("/readyz?verbose")
            assert verbose.text == "[+]journal fsynced\n[-]link to a master\nnot ready\n"
            assert (await client.get("/livez")).status_code == 200

    run(main)


def test_no_secret_is_in_the_metrics() -> None:
    """Metrics have results, routes and statuses, and nothing that a caller sent."""

    async def main() -> str:
        node = StandIn()
        key = node.key()
        async with served(node, {"a": 10}) as port, calling(port, key) as client:
            await client.post("/v1/caps/canary-cap/consume", json={"amount": 1})
            await client.get("/canary-path")
            await client.post("/v1/holds", json={"canary": 1})
            return (await client.get("/metrics")).text

    text = run(main)
    assert 'vcap_http_requests_total{route="other",status="404"} 1.0' in text
    assert 'vcap_consumes_total{result="unknown_cap"} 1.0' in text
    assert "canary" not in text
    assert "vcap_caller" not in text


def test_the_calls_of_one_api_key_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a quarter of the calls under way is not given the last quarter."""
    monkeypatch.setattr("vcap_es.adapters.http.client_plane.app.CALLS_UNDER_WAY_MAX", 4)

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        assert node.gate is not None
        hold = {"cap": "a", "amount": 1, "lifetime_ms": 1000}
        one, two = node.key(), node.key(name="two")
        async with served(node, {"a": 10}) as port, calling(port, one) as client:
            flood = [asyncio.create_task(client.post("/v1/holds", json=hold)) for _ in range(4)]
            done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
            assert [each.result().json()["code"] for each in done] == ["busy"]
            async with calling(port, two) as other:
                node.reached.clear()
                asked = asyncio.create_task(other.post("/v1/holds", json=hold))
                await node.reached.wait()
                node.gate.set()
                assert (await asked).status_code == 200
            await asyncio.gather(*flood)

    run(main)


def test_too_many_calls_at_once_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls under way are bounded; one more is told to come again, and health still answers."""
    monkeypatch.setattr("vcap_es.adapters.http.client_plane.app.CALLS_UNDER_WAY_MAX", 2)

    async def main() -> None:
        node = StandIn(gate=asyncio.Event())
        hold = {"cap": "a", "amount": 1, "lifetime_ms": 1000}
        async with served(node, {"a": 10}) as port, calling(port, node.key()) as client:
            waiting = [asyncio.create_task(client.post("/v1/holds", json=hold)) for _ in range(3)]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            (busy,) = (each.result() for each in done)
            assert (busy.status_code, busy.json()["code"]) == (429, "busy")
            assert busy.headers["retry-after"] == "1"
            assert (await client.get("/livez")).status_code == 200
            assert node.gate is not None
            node.gate.set()
            statuses = sorted(each.status_code for each in await asyncio.gather(*waiting))
            assert statuses == [200, 200, 429]

    run(main)
