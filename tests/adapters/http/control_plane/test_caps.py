from pathlib import Path
from typing import Any

import pytest

from tests.support.primary import Primary, with_primary
from vcap_es.adapters.http.control_plane import caps
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed


async def _facts(primary: Primary, request_id: str) -> list[dict[str, Any]]:
    found = (await primary.get("/v1/log?limit=1000"))["events"]
    return [each for each in found if each["correlation"] == request_id]


def test_a_cap_is_defined_changed_paused_resumed_and_retired(tmp_path: Path) -> None:
    """Each step tells the cap as it then is, with its version as the entity tag."""

    async def check(primary: Primary) -> None:
        async def step(method: str, path: str, body: object = None) -> tuple[int, str, str, int]:
            answer = await primary.call(method, f"/v1/caps/shop:a{path}", body, key="operator")
            cap = answer.json()
            assert answer.headers["etag"] == f'"{cap["version"]}"'
            # An interval of a retired cap is open for as long as somebody holds units of it.
            total = 0 if cap["state"] == "retired" else cap["current"]["total"]
            return answer.status_code, cap["state"], cap["version"], total

        assert await step("PUT", "", {"total": 100}) == (201, "active", "0.1", 100)
        assert await step("PUT", "", {"total": 100}) == (200, "active", "0.1", 100)
        assert await step("PUT", "", {"total": 50}) == (200, "active", "0.2", 50)
        assert await step("POST", "/pause") == (200, "paused", "0.3", 0)
        assert await step("POST", "/pause") == (200, "paused", "0.3", 0)
        assert await step("POST", "/resume") == (200, "active", "0.4", 50)
        assert await step("DELETE", "") == (200, "retired", "0.5", 0)
        assert await step("DELETE", "") == (200, "retired", "0.5", 0)
        assert await step("GET", "") == (200, "retired", "0.5", 0)
        answer = await primary.call("POST", "/v1/caps/shop:a/pause", key="operator")
        assert (answer.status_code, answer.json()["code"]) == (409, "retired")
        answer = await primary.call("PUT", "/v1/caps/shop:a", {"total": 9}, key="operator")
        assert (answer.status_code, answer.headers["etag"]) == (201, '"0.6"')

    with_primary(tmp_path, check)


def test_what_is_shown_can_be_sent_back(tmp_path: Path) -> None:
    """A definition read from the API and put again changes nothing, whatever it holds."""

    async def check(primary: Primary) -> None:
        cap = await primary.define(
            "shop:a",
            interval="week",
            timezone="Europe/Berlin",
            start="2013-01-01",
            end="2100-12-24T18:00:00Z",
            initial_total=5,
            group="shop",
            labels={"owner": "anna"},
            mode="shadow",
            total=2**63 - 1,
        )
        assert cap["definition"]["total"] == 2**63 - 1
        assert cap["definition"]["start"] == "2012-12-31T23:00:00Z"
        again = await primary.define("shop:a", **cap["definition"])
        assert again["version"] == cap["version"]

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    ("headers", "on_new", "on_old"),
    [
        ({"If-None-Match": "*"}, 201, 412),
        ({"If-Match": "*"}, 412, 200),
        ({"If-Match": '"0.1"'}, 412, 200),
        ({"If-Match": '"0.2"'}, 412, 412),
        ({"If-Match": '"1.1"'}, 412, 412),
        ({"If-Match": "0.1"}, 400, 400),
        ({"If-Match": 'W/"0.1"'}, 400, 400),
        ({"If-Match": '"'}, 400, 400),
        ({"If-None-Match": '"0.1"'}, 400, 400),
        ({"If-None-Match": "*", "If-Match": "*"}, 400, 400),
    ],
)
def test_a_change_is_made_only_under_its_conditions(
    tmp_path: Path, headers: dict[str, str], on_new: int, on_old: int
) -> None:
    """`If-Match` and `If-None-Match` decide in one step with the change itself."""

    async def check(primary: Primary) -> None:
        await primary.define("old")
        for cap, status in (("new", on_new), ("old", on_old)):
            answer = await primary.call("PUT", f"/v1/caps/{cap}", {"total": 7}, headers=headers)
            assert answer.status_code == status, answer.text
            if status == 412:
                assert answer.json()["code"] == "version_conflict"

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    ("terms", "word"),
    [
        ({"totl": 1}, "did you mean total?"),
        ({"total": 1, "interval": "days"}, "did you mean day?"),
        ({"total": 1, "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"total": 1, "start": "2013-13-01"}, "start"),
        ({"total": 1, "start": "2014-01-01", "end": "2013-01-01"}, "is not after start"),
        ({"total": 1, "interval": "single"}, "end"),
        ({"total": 1, "labels": {"a": 1}}, "body"),
        ({"total": 1, "group": "a b"}, "group"),
        ({}, "total is missing"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused(
    tmp_path: Path, terms: dict[str, object], word: str
) -> None:
    """The problem names the field and what to do; nothing is defined."""

    async def check(primary: Primary) -> None:
        answer = await primary.call("PUT", "/v1/caps/a", terms)
        assert answer.status_code in (400, 422)
        assert word in answer.json()["detail"]
        assert (await primary.call("GET", "/v1/caps/a")).status_code == 404

    with_primary(tmp_path, check)


def test_caps_are_listed_page_by_page(tmp_path: Path) -> None:
    """Following `Link` gives every cap once; filters narrow the list."""

    async def check(primary: Primary) -> None:
        for index in range(7):
            await primary.define(f"shop:{index}", group=f"g{index % 2}")
        await primary.define("web:1")
        await primary.call("POST", "/v1/caps/web:1/pause")
        seen: list[str] = []
        path = "/v1/caps?limit=3"
        while path:
            answer = await primary.call("GET", path)
            seen += [each["id"] for each in answer.json()["caps"]]
            link = answer.headers.get("link", "")
            assert bool(link) == (answer.json()["next"] is not None)
            path = link.partition("<")[2].partition(">")[0]
        assert seen == [*(f"shop:{index}" for index in range(7)), "web:1"]
        for query, count in (
            ("group=g1", 3),
            ("prefix=shop:", 7),
            ("prefix=shop:&group=g0", 4),
            ("state=paused", 1),
            ("state=retired", 0),
        ):
            assert len((await primary.get(f"/v1/caps?{query}"))["caps"]) == count, query

    with_primary(tmp_path, check)


def test_a_page_looks_at_so_many_caps_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few caps fit a filter, pages are short or empty, and still lead to all that fit."""
    monkeypatch.setattr(caps, "SCAN_MAX", 2)

    async def check(primary: Primary) -> None:
        for cap in ("a", "b", "c", "d", "z"):
            await primary.define(cap)
        found, path, pages = list[str](), "/v1/caps?prefix=z", 0
        while path:
            answer = await primary.call("GET", path)
            found += [each["id"] for each in answer.json()["caps"]]
            path = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
            pages += 1
        assert (found, pages) == (["z"], 3)

    with_primary(tmp_path, check)


def test_templates_are_kept_and_define_caps(tmp_path: Path) -> None:
    """A template is put, listed, shown, changed and deleted by its percent-encoded match."""

    async def check(primary: Primary) -> None:
        path = "/v1/templates/user%3A%2A"
        answer = await primary.call("PUT", path, {"total": 5}, key="operator")
        assert (answer.status_code, answer.json()["match"]) == (201, "user:*")
        answer = await primary.call("PUT", path, {"total": 6}, key="operator")
        assert (answer.status_code, answer.json()["definition"]["total"]) == (200, 6)
        await primary.call("PUT", "/v1/templates/a*", {"total": 1})
        first = await primary.get("/v1/templates?limit=1")
        rest = await primary.get(f"/v1/templates?limit=1&cursor={first['next']}")
        assert [first["templates"][0]["match"], rest["templates"][0]["match"]] == ["a*", "user:*"]
        assert rest["next"] is None
        consumed = await primary.servers[0].submit(Consume(cap="user:1", minimum=2, maximum=2))
        assert isinstance(consumed, Consumed)
        assert (await primary.get("/v1/caps/user:1"))["definition"]["total"] == 6
        assert (await primary.call("DELETE", path, key="operator")).status_code == 204
        assert (await primary.call("DELETE", path, key="operator")).status_code == 404
        assert (await primary.call("GET", path)).json()["code"] == "unknown_template"
        assert (await primary.call("PUT", "/v1/templates/user", {"total": 1})).status_code == 422

    with_primary(tmp_path, check, ["s1"])


def test_a_key_is_made_used_and_revoked(tmp_path: Path) -> None:
    """The secret is told once and works at once; after the revocation it opens nothing."""

    async def check(primary: Primary) -> None:
        body = {"role": "auditor", "scopes": ["shop:*", "group:red"], "id": "anna"}
        answer = await primary.call("POST", "/v1/keys", body)
        assert answer.status_code == 201
        assert answer.headers["location"] == "/v1/keys/anna"
        made = answer.json()
        assert made.pop("secret").startswith("vcap_anna_")
        secret = answer.json()["secret"]
        assert (await primary.call("GET", "/v1/caps", key=secret)).status_code == 200
        listed = (await primary.get("/v1/keys", key="admin"))["keys"]
        assert made in listed
        assert (await primary.call("POST", "/v1/keys", body)).json()["code"] == "key_exists"
        assert (await primary.call("DELETE", "/v1/keys/anna")).status_code == 204
        assert (await primary.call("GET", "/v1/caps", key=secret)).status_code == 401
        assert (await primary.call("DELETE", "/v1/keys/anna")).json()["code"] == "unknown_key"

    with_primary(tmp_path, check)


def test_no_secret_is_kept_anywhere(tmp_path: Path) -> None:
    """The text of a key is neither on the log nor in what the control plane tells."""
    secrets: list[str] = []

    async def check(primary: Primary) -> None:
        answer = await primary.call("POST", "/v1/keys", {"role": "client", "scopes": ["*"]})
        secret = answer.json()["secret"].rpartition("_")[2]
        for path in ("/v1/log?limit=1000", "/v1/keys", "/metrics", "/v1/nodes"):
            assert secret not in (await primary.call("GET", path)).text
        secrets.append(secret)

    with_primary(tmp_path, check)
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert files
    for file in files:
        assert secrets[0].encode() not in file.read_bytes(), file


def test_nobody_gives_away_what_he_does_not_have(tmp_path: Path) -> None:
    """An administrator of some caps makes, sees and revokes only keys for those."""

    async def check(primary: Primary) -> None:
        own = await primary.make_key("admin", "shop:*", "group:red")
        for scopes, status in (
            (["shop:a"], 201),
            (["shop:x*"], 201),
            (["group:red"], 201),
            (["*"], 403),
            (["shop*"], 403),
            (["group:blue"], 403),
            (["group:shop:a"], 403),
            (["shop:a", "web:a"], 403),
        ):
            body = {"role": "client", "scopes": scopes}
            answer = await primary.call("POST", "/v1/keys", body, key=own)
            assert answer.status_code == status, scopes
        seen = (await primary.get("/v1/keys", key=own))["keys"]
        assert all("*" not in each["scopes"] for each in seen)
        assert len(seen) == 4
        everything = primary.keys["operator"].split("_")[1]
        assert (await primary.call("DELETE", f"/v1/keys/{everything}", key=own)).status_code == 403

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "king"},
        {"role": None},
        {"scopes": []},
        {"scopes": [""]},
        {"scopes": ["a b"]},
        {"scopes": ["*"] * 65},
        {"expires_at": "2013-01-01T00:00:00Z"},
        {"expires_at": "tomorrow"},
        {"id": "a/b"},
        {"idd": "a"},
    ],
)
def test_a_key_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """An unknown role, a scope that is none, an expiry that is over: nothing is made."""

    async def check(primary: Primary) -> None:
        before = await primary.get("/v1/keys", key="admin")
        body = {"role": "client", "scopes": ["*"], **change}
        answer = await primary.call("POST", "/v1/keys", body)
        assert answer.status_code in (400, 422)
        assert await primary.get("/v1/keys", key="admin") == before

    with_primary(tmp_path, check)


def test_every_change_is_an_event_of_who_asked(tmp_path: Path) -> None:
    """Each operator's act is one fact, with the key's id as actor and the request's id."""
    acts = [
        ("PUT", "/v1/caps/a", {"total": 1}, "MetaDefined"),
        ("PUT", "/v1/caps/a", {"total": 2}, "MetaChanged"),
        ("POST", "/v1/caps/a/pause", None, "MetaPaused"),
        ("POST", "/v1/caps/a/resume", None, "MetaResumed"),
        ("DELETE", "/v1/caps/a", None, "MetaRetired"),
        ("PUT", "/v1/templates/b*", {"total": 1}, "TemplateDefined"),
        ("DELETE", "/v1/templates/b*", None, "TemplateRetired"),
        ("POST", "/v1/keys", {"role": "client", "scopes": ["*"], "id": "k"}, "ApiKeyCreated"),
        ("DELETE", "/v1/keys/k", None, "ApiKeyRevoked"),
    ]

    async def check(primary: Primary) -> None:
        for index, (method, path, body, kind) in enumerate(acts):
            headers = {"Vcap-Request-Id": f"request-{index}"}
            answer = await primary.call(method, path, body, headers=headers)
            assert answer.is_success, answer.text
            facts = await _facts(primary, f"request-{index}")
            assert [each["kind"] for each in facts if "Interval" not in each["kind"]] == [kind]
            assert {each["actor"] for each in facts} == {primary.keys["admin"].split("_")[1]}
            assert int(answer.headers["vcap-position"]) >= facts[-1]["position"]

    with_primary(tmp_path, check)


def test_nodes_are_listed(tmp_path: Path) -> None:
    """The master that answers, and each server that is linked to it now."""

    async def check(primary: Primary) -> None:
        nodes = await primary.get("/v1/nodes")
        assert nodes["master"] == {"name": "m1", "role": "primary", "dc": "dc1", "epoch": 2}
        assert [each["name"] for each in nodes["servers"]] == ["s1", "s2"]
        incarnations = {each["incarnation"] for each in nodes["servers"]}
        assert incarnations == {each.incarnation for each in primary.servers}

    with_primary(tmp_path, check, ["s2", "s1"])


def test_a_master_that_stopped_says_so(tmp_path: Path) -> None:
    """When the log fails, calls are 503 with a problem and the readiness check says why."""

    async def check(primary: Primary) -> None:
        await primary.define("a")
        await primary.node.log.close()
        answer = await primary.call("PUT", "/v1/caps/a", {"total": 9})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        answer = await primary.call("GET", "/readyz?verbose", key=None)
        assert answer.status_code == 503
        assert "[-]log" in answer.text
        assert (await primary.call("GET", "/livez", key=None)).status_code == 200

    with_primary(tmp_path, check)


def test_metrics_count_what_was_asked(tmp_path: Path) -> None:
    """Routes are counted by their pattern, never by a cap's name; the log's end is told."""

    async def check(primary: Primary) -> None:
        await primary.define("some-cap")
        await primary.call("GET", "/v1/caps/some-cap")
        text = (await primary.call("GET", "/metrics", key=None)).text
        assert 'vcap_http_requests_total{route="/v1/caps/{cap}",status="201"} 1.0' in text
        assert 'vcap_http_requests_total{route="/v1/caps/{cap}",status="200"} 1.0' in text
        assert f"vcap_log_end_offset {primary.node.durable}.0" in text
        assert "vcap_caps 1.0" in text
        assert "vcap_leader 1.0" in text
        assert "vcap_log_append_duration_seconds_count" in text
        assert "some-cap" not in text

    with_primary(tmp_path, check)
