"""What a client is answered: the outcomes of the core as HTTP responses, with rate limit fields."""

import msgspec
from starlette.responses import Response

from vcap_es.adapters.http.client_plane.plane import (
    ClientPlane,
    consumed_json,
    shown_instant,
)
from vcap_es.adapters.http.problems import (
    listed,
    problem_response,
    rate_limit,
    rate_limit_policy,
    refusal_problem,
)
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Outcome,
    Refunded,
    Refused,
    Settled,
)

INSTANTS = ("start", "resets_at")
"""The fields of answers that are instants: RFC 3339 for people, microseconds inside."""


LIMIT_FIELDS_MAX = 8
"""The caps of one answer that get rate limit fields; with more, none has."""


def outcome_response(plane: ClientPlane, outcome: Outcome) -> Response:
    """The response to a call that the core has answered."""
    match outcome:
        case Refused():
            return problem_response(refusal_problem(outcome))
        case Consumed():
            return json_response(consumed_json(outcome).encode(), _limit_fields(plane, [outcome]))
        case ConsumedAll(items=items) | ConsumedEach(items=items):
            parts = [
                consumed_json(item)
                if isinstance(item, Consumed)
                else msgspec.json.encode(refusal_problem(item)).decode()
                for item in items
            ]
            taken = [item for item in items if isinstance(item, Consumed)]
            return json_response(
                f'{{"items":[{",".join(parts)}]}}'.encode(), _limit_fields(plane, taken)
            )
        case Held():
            return json_response(_encoded(outcome), _limit_fields(plane, [outcome]))
        case Settled() | Refunded():
            return json_response(_encoded(outcome), {})


def level_response(plane: ClientPlane, level: Level) -> Response:
    """The response to a look at what is left."""
    window_s = -((level.start - level.resets_at) // 1_000_000)
    reset_s = plane.seconds_until(level.resets_at)
    fields = {
        "ratelimit-policy": rate_limit_policy(level.cap, level.total, window_s),
        "ratelimit": rate_limit(level.cap, level.remaining, reset_s),
    }
    return json_response(_encoded(level), fields)


def _encoded(outcome: Held | Settled | Refunded | Level) -> bytes:
    fields = msgspec.structs.asdict(outcome)
    for name in ("above", "shadow"):
        if not fields.get(name, True):
            del fields[name]
    instants = {name: shown_instant(fields[name]) for name in INSTANTS if name in fields}
    return msgspec.json.encode(fields | instants)


def _limit_fields(plane: ClientPlane, answers: list[Consumed] | list[Held]) -> dict[str, str]:
    if not 0 < len(answers) <= LIMIT_FIELDS_MAX:
        return {}
    pairs = [
        plane.limit_fields(each.cap, each.remaining, each.total, each.resets_at) for each in answers
    ]
    return {
        "ratelimit-policy": listed(policy for policy, _ in pairs),
        "ratelimit": listed(limit for _, limit in pairs),
    }


def json_response(body: bytes, fields: dict[str, str]) -> Response:
    """JSON that nobody keeps, with these header fields."""
    headers = {"cache-control": "no-store", **fields}
    return Response(body, headers=headers, media_type="application/json")
