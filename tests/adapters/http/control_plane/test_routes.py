from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route as PathRoute
from starlette.routing import WebSocketRoute

from tests.support.primary import ROLES, Primary, with_primary
from vcap_es.adapters.http.control_plane.app import ROUTES, control_app
from vcap_es.adapters.http.control_plane.centres import CentreRequest
from vcap_es.adapters.http.control_plane.routes import ROLES as ROLES_OF
from vcap_es.adapters.http.control_plane.routes import Route
from vcap_es.adapters.http.problems import MEDIA_TYPE
from vcap_es.adapters.http.shapes.api_keys import KeyRequest
from vcap_es.adapters.http.shapes.caps import HomeRequest, Terms
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.events.log import Head
from vcap_es.events.logs.memory import MemoryLog

BODIES: dict[Any, dict[str, object]] = {
    Terms: {"total": 100},
    HomeRequest: {"home": "dc2"},
    CentreRequest: {},
    KeyRequest: {"role": "client", "scopes": ["shop:x"]},
}
OF_THE_CAP = ("cap", "match", "key", "position")
"""What in a path names something that belongs to the cap `shop:a` here."""


async def _path(primary: Primary, route: Route) -> str:
    """The route's path, filled with what a key of the scope `shop:*` opens."""
    path = route.path
    if "{key}" in path:
        key = await primary.make_key("client", "shop:x")
        path = path.replace("{key}", key.split("_")[1])
    if "{position}" in path:
        events = (await primary.get("/v1/log?cap=shop:a"))["events"]
        path = path.replace("{position}", str(events[0]["position"]))
    return (
        path.replace("{cap}", "shop:a")
        .replace("{match}", "shop:u*")
        .replace("{file}", "swagger-ui.css")
        .replace("{centre}", "dc2")
    )


async def _status(primary: Primary, route: Route, key: str | None) -> int:
    answer = await primary.call(
        route.method, await _path(primary, route), BODIES.get(route.body), key=key
    )
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert answer.json()["status"] == answer.status_code
    return answer.status_code


def _guarded() -> Iterator[Route]:
    yield from (route for route in _ending() if route.access != "public")


def _ending() -> Iterator[Route]:
    """All routes but the stream, whose answer has no end: its own tests read it from a socket."""
    yield from (route for route in ROUTES if route.media != "text/event-stream")


def test_each_role_makes_only_the_calls_that_the_table_gives_it(tmp_path: Path) -> None:
    """Role by route: a role outside the table's gets 403, one inside gets through."""

    async def check(primary: Primary) -> None:
        for route in _ending():
            await primary.define("shop:a")
            for role in ROLES:
                status = await _status(primary, route, role)
                is_open = route.access == "public" or role in ROLES_OF[route.access]
                assert (status not in (401, 403)) == is_open, (route.method, route.path, role)
                assert status == 403 or is_open, (route.method, route.path, role)

    with_primary(tmp_path, check)


def test_no_call_but_a_public_one_goes_without_a_key(tmp_path: Path) -> None:
    """Without a key, with a wrong secret and with a revoked key every guarded route says 401."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        revoked = await primary.make_key("admin", "*")
        await primary.call("DELETE", f"/v1/keys/{revoked.split('_')[1]}")
        wrong = primary.keys["admin"][:-1] + "x"
        for route in _guarded():
            for key in (None, wrong, revoked, "nonsense"):
                assert await _status(primary, route, key) == 401, (route.path, key)
        answer = await primary.call("GET", "/v1/caps", key=None)
        assert answer.headers["www-authenticate"] == "Bearer"

    with_primary(tmp_path, check)


def test_a_key_opens_its_own_caps_and_no_others(tmp_path: Path) -> None:
    """Scope by route: own caps are open; others are 403 where named and missing where listed."""

    async def check(primary: Primary) -> None:
        await primary.call("PUT", "/v1/templates/shop:u*", {"total": 1})
        own = await primary.make_key("admin", "shop:*")
        other = await primary.make_key("admin", "web:*")
        for route in _guarded():
            await primary.define("shop:a")
            status = await _status(primary, route, own)
            assert (status == 403) == route.needs_all, (route.path, "own", status)
            status = await _status(primary, route, other)
            if route.needs_all or route.body is KeyRequest:
                assert status == 403, route.path
            elif "{position}" in route.path:
                assert status == 404, route.path
            elif any(f"{{{name}}}" in route.path for name in OF_THE_CAP):
                assert status == 403, (route.method, route.path)
            else:
                answer = await primary.call("GET", route.path, key=other)
                assert "shop:" not in answer.text, route.path

    with_primary(tmp_path, check)


def test_a_key_for_a_group_opens_the_caps_of_that_group(tmp_path: Path) -> None:
    """A cap is in a group's scope by the group it has now, and cannot be moved out of the scope."""

    async def check(primary: Primary) -> None:
        await primary.define("a", group="red")
        await primary.define("b", group="blue")
        red = await primary.make_key("operator", "group:red")

        async def put(cap: str, group: str) -> int:
            body = {"total": 7, "group": group}
            return (await primary.call("PUT", f"/v1/caps/{cap}", body, key=red)).status_code

        assert [each["id"] for each in (await primary.get("/v1/caps", key=red))["caps"]] == ["a"]
        assert (await primary.call("GET", "/v1/caps/b", key=red)).status_code == 403
        assert (await primary.call("GET", "/v1/caps/unknown", key=red)).status_code == 403
        assert await put("a", "red") == 200
        assert await put("a", "blue") == 403
        assert await put("b", "red") == 403
        # A template could claim any id that it matches: a group does not open that.
        answer = await primary.call("PUT", "/v1/templates/*", {"total": 1, "group": "red"}, key=red)
        assert answer.status_code == 403

    with_primary(tmp_path, check)


def test_every_path_is_in_the_table() -> None:
    """The application has no route but those of the table, and those of nodes among themselves."""
    node = MasterNode(MemoryLog(), dc="dc1", name="m1", secret="0" * 32)
    app = control_app(node)
    served = set()
    for each in app.routes:
        if isinstance(each, WebSocketRoute):
            assert each.path == "/v1/link"
            continue
        assert isinstance(each, PathRoute)
        if each.path == "/v1/links":
            continue
        served |= {(method, each.path) for method in (each.methods or set()) - {"HEAD"}}
    assert served == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        assert route.access in ROLES_OF, f"{route.path} does not say who may call it"
        assert route.access != "public" or route.method == "GET", "who acts must be known"


def test_a_get_changes_nothing(tmp_path: Path) -> None:
    """No GET of the table puts a fact on the log."""

    async def head(primary: Primary) -> Head:
        return await primary.node.log.head()

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        for route in (each for each in _ending() if each.method == "GET"):
            path = await _path(primary, route)
            before = await head(primary)
            await primary.call("GET", path)
            assert await head(primary) == before, route.path

    with_primary(tmp_path, check)


def test_what_the_table_does_not_know_is_a_problem(tmp_path: Path) -> None:
    """An unknown path is 404; a method that a path does not take is 405 with `Allow`."""

    async def check(primary: Primary) -> None:
        answer = await primary.call("GET", "/v1/nothing")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        answer = await primary.call("PATCH", "/v1/caps/a", {})
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
        for each in (answer, await primary.call("GET", "/v1/caps", key=None)):
            assert each.headers["cache-control"] == "no-store"
            assert each.headers["vcap-request-id"]

    with_primary(tmp_path, check)


def test_every_answer_has_the_headers_that_protect_it(tmp_path: Path) -> None:
    """No answer is stored, sniffed, framed or sent on; pages load nothing from elsewhere."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        for route in _ending():
            answer = await primary.call(route.method, await _path(primary, route), key="admin")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            stored = "no-cache" if route.path == "/docs/{file}" else "no-store"
            assert answer.headers["cache-control"] == stored, route.path

    with_primary(tmp_path, check)


def test_a_request_keeps_its_own_id(tmp_path: Path) -> None:
    """A usable `Vcap-Request-Id` comes back; any other is replaced."""

    async def check(primary: Primary) -> None:
        for given, kept in (("order-66", True), ("a b", False), ("x" * 129, False)):
            answer = await primary.call("GET", "/v1/caps", headers={"Vcap-Request-Id": given})
            assert (answer.headers["vcap-request-id"] == given) == kept

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("limt=1", "did you mean limit?"),
        ("limit=1&limit=2", "twice"),
        ("limit=0", ">= 1"),
        ("limit=1001", "<= 1000"),
        ("limit=1e2", "Expected `int`"),
        ("limit=1.0", "Expected `int`"),
        ("limit=true", "Expected `int`"),
        ("cursor=x", "begin again"),
        ("cursor=99.1", "begin again"),
        ("state=on", "Invalid enum value"),
    ],
)
def test_a_query_is_read_strictly(tmp_path: Path, query: str, word: str) -> None:
    """A parameter that is unknown, repeated or not what it must be is refused by its name."""

    async def check(primary: Primary) -> None:
        answer = await primary.call("GET", f"/v1/caps?{query}")
        assert answer.status_code == 400
        assert word in answer.json()["detail"]

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"total": 1, "total": 1}', 400),
        (b'{"total": 1, "tot\\u0061l": 1}', 400),
        (b'{"total": 1e400}', 400),
        (b'{"total": ' + b"9" * 5000 + b"}", 400),
        (b'{"labels": ' + b"[" * 100_000, 400),
        (b'{"total": 1, "label": ' + b'{"a":' * 40_000, 400),
        (b'{"total": true}', 422),
        (b'{"total": 1.0}', 422),
        (b'{"total": 1e3}', 422),
        (b'{"total": "1"}', 422),
        (b'{"total": -1}', 422),
        (b'{"total": 9223372036854775808}', 422),
        (b'{"totl": 1}', 422),
        (b" " * (256 * 1024 + 1), 413),
    ],
)
def test_a_body_is_read_strictly(tmp_path: Path, body: bytes, status: int) -> None:
    """What is not JSON, deep, repeated, too large or no integer is refused, and changes nothing."""

    async def check(primary: Primary) -> None:
        answer = await primary.call("PUT", "/v1/caps/a", body)
        assert answer.status_code == status, answer.text
        assert (await primary.call("GET", "/v1/caps/a")).status_code == 404

    with_primary(tmp_path, check)


def test_a_body_is_json_where_one_is_taken(tmp_path: Path) -> None:
    """Another media type is 415; a body where none is taken is 400."""

    async def check(primary: Primary) -> None:
        headers = {"Content-Type": "text/plain"}
        answer = await primary.call("PUT", "/v1/caps/a", b'{"total":1}', headers=headers)
        assert answer.status_code == 415
        assert (await primary.call("GET", "/v1/caps", b"{}")).status_code == 400

    with_primary(tmp_path, check)
