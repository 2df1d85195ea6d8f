"""Problems: one table, the members of RFC 9457, and the rate limit fields."""

from typing import get_args

import msgspec

from vcap_es.adapters.http.problems import (
    KINDS,
    MEDIA_TYPE,
    not_primary,
    problem_response,
    rate_limit,
    rate_limit_policy,
    raw_problem,
    refusal_problem,
    refused_response,
)
from vcap_es.components.decisions.denied import DenialCode
from vcap_es.components.messages.outcomes import RefusalCode, Refused
from vcap_es.errors import RequestRefused


def test_every_refusal_has_a_status() -> None:
    """No code of a refusal is missing in the table, of a server's or of a master's."""
    assert set(get_args(RefusalCode)) <= set(KINDS)
    assert set(get_args(DenialCode)) <= set(KINDS)


def test_capped_is_a_quota_exceeded() -> None:
    """A capped call says which cap refused, when to come back, and why in registered terms."""
    refused = Refused(code="capped", cap="a", detail="none is left", retry_after_ms=1500)
    response = problem_response(refusal_problem(refused))
    assert response.status_code == 429
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["retry-after"] == "2"
    assert response.headers["cache-control"] == "no-store"
    assert msgspec.json.decode(response.body) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Capped",
        "status": 429,
        "detail": "none is left",
        "code": "capped",
        "cap": "a",
        "retry": True,
        "retry_after_ms": 1500,
        "violated-policies": ["a"],
    }


def test_an_unauthorized_call_is_told_how() -> None:
    """401 names the scheme, as RFC 9110 asks."""
    response = refused_response(RequestRefused("unauthorized", "no key"))
    assert response.headers["www-authenticate"] == "Bearer"


def test_who_does_not_lead_names_who_does() -> None:
    """421 with the address; 503 with a time to wait where nobody leads."""
    response = refused_response(not_primary("m1", "http://m1:7100"))
    members = msgspec.json.decode(response.body)
    assert (response.status_code, members["code"]) == (421, "not_primary")
    assert (members["primary"], members["retry"]) == ("http://m1:7100", True)
    response = refused_response(not_primary("", ""))
    members = msgspec.json.decode(response.body)
    assert (response.status_code, members["code"]) == (503, "not_primary")
    assert (members["title"], members["status"]) == ("Nobody leads", 503)
    assert response.headers["retry-after"] == "1"
    assert "primary" not in members


def test_a_raw_problem_is_a_whole_response() -> None:
    """What is written where no application answers is complete and ends the connection."""
    head, _, body = raw_problem("timeout", "too slow", retry_after_s=1).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request timeout\r\n")
    assert b"\r\nconnection: close" in head
    assert b"\r\nretry-after: 1" in head
    assert f"content-length: {len(body)}".encode() in head
    assert msgspec.json.decode(body)["code"] == "timeout"


def test_rate_limit_fields() -> None:
    """Fields follow the draft; amounts beyond a structured field's integers are clamped."""
    assert rate_limit_policy("day", 100, 86400) == '"day";q=100;w=86400'
    assert rate_limit_policy("day", 2**63 - 1) == '"day";q=999999999999999'
    assert rate_limit("day", 41, 3600) == '"day";r=41;t=3600'
    assert rate_limit("day", -3, -1) == '"day";r=0;t=0'
