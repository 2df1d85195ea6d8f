"""Problems: what is answered where a call is not carried out (RFC 9457), and rate limit fields.

One table holds every code with its status. A refusal of a cap and a fault of the request look
alike to a caller: `code` says what happened, `detail` what to do about it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from vcap_es.components.messages.outcomes import Refused
from vcap_es.errors import RequestRefused

MEDIA_TYPE = "application/problem+json"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
FIELD_INTEGER_MAX = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651); a larger amount is shown as this one."""


class ProblemKind(NamedTuple):
    """How a code is answered; `retry`: the very same call may succeed later."""

    status: int
    title: str
    retry: bool = False
    type: str = "about:blank"


KINDS: dict[str, ProblemKind] = {
    # Refusals of a volumecap server.
    "unknown_cap": ProblemKind(404, "Unknown cap"),
    "not_started": ProblemKind(409, "Not started", retry=True),
    "ended": ProblemKind(409, "Ended"),
    "paused": ProblemKind(429, "Paused"),
    "capped": ProblemKind(429, "Capped", retry=True, type=QUOTA_EXCEEDED),
    "paced": ProblemKind(429, "Paced", retry=True, type=QUOTA_EXCEEDED),
    "counted_out": ProblemKind(503, "Counted out", retry=True),
    "unavailable": ProblemKind(503, "Unavailable", retry=True),
    "key_reused": ProblemKind(422, "Idempotency key reused"),
    "share_full": ProblemKind(429, "Share full", retry=True),
    "unknown_id": ProblemKind(404, "Unknown id"),
    "settled": ProblemKind(409, "Settled already"),
    # Refusals of a master.
    "unknown_template": ProblemKind(404, "Unknown template"),
    "unknown_key": ProblemKind(404, "Unknown API key"),
    "key_exists": ProblemKind(409, "API key exists"),
    "last_admin_key": ProblemKind(409, "Last admin key"),
    "too_many_keys": ProblemKind(409, "Too many API keys"),
    "version_conflict": ProblemKind(412, "Version conflict"),
    "retired": ProblemKind(409, "Retired"),
    "not_home": ProblemKind(409, "Not at home", retry=True),
    "home_unreachable": ProblemKind(503, "Home out of reach", retry=True),
    "clock_ahead": ProblemKind(503, "Clocks differ", retry=True),
    "centre_unreachable": ProblemKind(503, "Data centre out of reach", retry=True),
    "not_permanent": ProblemKind(503, "Not permanent yet", retry=True),
    "unknown_centre": ProblemKind(404, "Unknown data centre"),
    "centre_lost": ProblemKind(409, "Data centre lost"),
    "too_many_centres": ProblemKind(409, "Too many data centres"),
    "unknown_placement": ProblemKind(404, "Unknown placement"),
    "placement_in_use": ProblemKind(409, "Placement in use"),
    "too_many_placements": ProblemKind(409, "Too many placements"),
    "has_heir": ProblemKind(409, "Has an heir"),
    "drains": ProblemKind(409, "Being removed"),
    "is_home": ProblemKind(409, "Is a home"),
    "is_here": ProblemKind(409, "Is here"),
    # Refusals of primacy.
    "not_primary": ProblemKind(421, "Not the primary", retry=True),
    "not_in_sync": ProblemKind(409, "Not in sync", retry=True),
    "switchover_failed": ProblemKind(503, "Switchover failed", retry=True),
    "unknown_server": ProblemKind(404, "Unknown server"),
    "leads_already": ProblemKind(409, "Leads already"),
    "never_admitted": ProblemKind(409, "Never admitted"),
    "other_cluster": ProblemKind(409, "Another cluster"),
    "unconfirmed": ProblemKind(409, "Not confirmed since the restore"),
    # Faults of a request.
    "invalid": ProblemKind(422, "Invalid"),
    "bad_request": ProblemKind(400, "Bad request"),
    "invalid_amount": ProblemKind(400, "Invalid amount"),
    "unauthorized": ProblemKind(401, "Unauthorized"),
    "forbidden": ProblemKind(403, "Forbidden"),
    "not_found": ProblemKind(404, "Not found"),
    "method_not_allowed": ProblemKind(405, "Method not allowed"),
    "timeout": ProblemKind(408, "Request timeout", retry=True),
    "body_too_large": ProblemKind(413, "Body too large"),
    "path_too_long": ProblemKind(414, "Path too long"),
    "unsupported_media_type": ProblemKind(415, "Unsupported media type"),
    "busy": ProblemKind(429, "Busy", retry=True),
    "reading_budget": ProblemKind(429, "Reading budget spent", retry=True),
    "headers_too_large": ProblemKind(431, "Headers too large"),
    "internal_error": ProblemKind(500, "Internal error", retry=True),
    "too_many_connections": ProblemKind(503, "Too many connections", retry=True),
}

NOBODY_LEADS = ProblemKind(503, "Nobody leads", retry=True)
"""How `not_primary` is answered where nobody is known to lead; 421 names who does."""

ELECTION_MS = 1000
"""By then somebody leads again, mostly."""


def not_primary(leader: str, address: str) -> RequestRefused:
    """The refusal of a master that does not lead; `address` is where its leader is, "" nowhere."""
    if address:
        return RequestRefused("not_primary", f"{leader} leads, at {address}", primary=address)
    detail = "no master is known to lead: an election may be under way"
    return RequestRefused("not_primary", detail, retry_after_ms=ELECTION_MS)


def problem(
    code: str,
    detail: str,
    *,
    cap: str | None = None,
    retry_after_ms: int | None = None,
    primary: str | None = None,
    kind: ProblemKind | None = None,
) -> dict[str, Any]:
    """The members of a problem; `kind` for a code that is not in `KINDS`."""
    kind = kind or KINDS[code]
    members: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
    if cap:
        members["cap"] = cap
    members["retry"] = kind.retry
    if retry_after_ms is not None:
        members["retry_after_ms"] = retry_after_ms
    if primary is not None:
        members["primary"] = primary
    if kind.type == QUOTA_EXCEEDED and cap:
        members["violated-policies"] = [cap]
    return members


def refusal_problem(refused: Refused) -> dict[str, Any]:
    """The members of the problem that a refusal is."""
    return problem(
        refused.code, refused.detail, cap=refused.cap, retry_after_ms=refused.retry_after_ms
    )


def problem_response(
    members: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """The response with these members; it carries `Retry-After` where they say when."""
    fields = {"cache-control": "no-store", **(headers or {})}
    if members["status"] == 401:
        fields["www-authenticate"] = "Bearer"
    retry_after_ms = members.get("retry_after_ms")
    if retry_after_ms is not None:
        fields["retry-after"] = str(-(-retry_after_ms // 1000))
    return Response(
        msgspec.json.encode(members), members["status"], headers=fields, media_type=MEDIA_TYPE
    )


def refused_response(refused: RequestRefused, headers: Mapping[str, str] | None = None) -> Response:
    """The response to a request that was refused with an exception."""
    nobody_leads = refused.code == "not_primary" and refused.primary is None
    members = problem(
        refused.code,
        str(refused),
        cap=refused.cap,
        retry_after_ms=refused.retry_after_ms,
        primary=refused.primary,
        kind=NOBODY_LEADS if nobody_leads else None,
    )
    return problem_response(members, headers)


def raw_problem(code: str, detail: str, *, retry_after_s: int | None = None) -> bytes:
    """A whole HTTP/1.1 response for where no application answers; the connection ends with it."""
    kind = KINDS[code]
    body = msgspec.json.encode(problem(code, detail))
    retry = f"retry-after: {retry_after_s}\r\n" if retry_after_s is not None else ""
    head = (
        f"HTTP/1.1 {kind.status} {kind.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"cache-control: no-store\r\n{retry}content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


# ---- rate limit fields (draft-ietf-httpapi-ratelimit-headers-10); the policy is named for the cap


@lru_cache(maxsize=4096)
def rate_limit_policy(cap: str, total: int, window_s: int | None = None) -> str:
    """An item of `RateLimit-Policy`: `total` units of `cap`, in `window_s` seconds where known."""
    window = "" if window_s is None else f";w={min(window_s, FIELD_INTEGER_MAX)}"
    return f'"{cap}";q={min(total, FIELD_INTEGER_MAX)}{window}'


def rate_limit(cap: str, remaining: int, reset_s: int) -> str:
    """An item of `RateLimit`: `remaining` units of `cap`, until it resets in `reset_s` seconds."""
    return f'"{cap}";r={clamped(remaining)};t={max(reset_s, 0)}'


def clamped(amount: int) -> int:
    """An amount as a rate limit field can show it."""
    return min(max(amount, 0), FIELD_INTEGER_MAX)


def listed(items: Iterable[str]) -> str:
    """Several items of one structured field."""
    return ", ".join(items)
