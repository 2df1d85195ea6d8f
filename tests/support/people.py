"""Those who call: clients of the servers, and who looks at the books."""

from collections.abc import Mapping
from typing import Any

import httpx2

from tests.support.deployment import Deployment, eventually

Fields = dict[str, Any]


class Caller:
    """A client with an API key, which calls any server of a deployment."""

    def __init__(self, deployment: Deployment, key: str) -> None:
        self._deployment = deployment
        self._http = httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=10.0)

    def close(self) -> None:
        """No more calls."""
        self._http.close()

    def post(
        self, server: int, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """A call of a server."""
        url = f"{self._deployment.server_urls[server]}{path}"
        return self._http.post(url, json=body, headers=dict(headers or {}))

    def consume(self, server: int, cap: str, amount: int = 1, **more: object) -> httpx2.Response:
        """Consume `amount` of `cap` at a server; with `key`, by that idempotency key."""
        headers = {"Idempotency-Key": str(more["key"])} if "key" in more else {}
        return self.post(server, f"/v1/caps/{cap}/consume", {"amount": amount}, headers)

    def refund(self, server: int, consumed: Fields, amount: int | None = None) -> httpx2.Response:
        """Undo a consume, in part or whole."""
        body = {"id": consumed["id"], **({} if amount is None else {"amount": amount})}
        return self.post(server, f"/v1/caps/{consumed['cap']}/refund", body)

    def look_up(self, server: int, cap: str) -> httpx2.Response:
        """What is left of a cap."""
        return self._http.get(f"{self._deployment.server_urls[server]}/v1/caps/{cap}")


def taken(response: httpx2.Response) -> Fields:
    """The answer of a call that was carried out."""
    assert response.status_code == 200, response.text
    answer: Fields = response.json()
    return answer


def refused(response: httpx2.Response, code: str) -> Fields:
    """The problem that answers a call that was refused with `code`."""
    problem: Fields = response.json()
    assert problem.get("code") == code, response.text
    assert response.status_code == problem["status"]
    assert response.headers["content-type"] == "application/problem+json"
    return problem


def define(deployment: Deployment, cap: str, total: int, **more: object) -> Fields:
    """Define a cap; `total` a month where `more` does not say otherwise."""
    body = {"interval": "month", **more, "total": total}
    cap_as_shown: Fields = deployment.control("PUT", f"/v1/caps/{cap}", body)
    return cap_as_shown


def intervals(deployment: Deployment, cap: str, **query: object) -> list[Fields]:
    """The books of all intervals of a cap that are not closed."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    found = deployment.control("GET", f"/v1/caps/{cap}/balances?{asked}".rstrip("?"))
    books: list[Fields] = found["intervals"]
    return books


def books(deployment: Deployment, cap: str, **query: object) -> Fields:
    """The books of the current interval of a cap."""
    return intervals(deployment, cap, **query)[0]


def settled(deployment: Deployment, cap: str, **wanted: int) -> Fields:
    """The books of the current interval, once they are as `wanted`."""
    found: Fields = {}

    def is_settled() -> bool:
        nonlocal found
        found = books(deployment, cap)
        return wanted.items() <= found.items()

    try:
        eventually(is_settled, "")
    except AssertionError:
        raise AssertionError(f"{cap} never came to {wanted}, but is {found}") from None
    return found


def events(deployment: Deployment, cap: str) -> list[Fields]:
    """Every event of a cap."""
    found: list[Fields] = deployment.control("GET", f"/v1/log?cap={cap}&limit=1000")["events"]
    return found


def drain(caller: Caller, cap: str, servers: range) -> int:
    """Consume unit by unit at every server in turn until each says capped; gives how many."""
    total = 0
    for server in servers:
        while (answer := caller.consume(server, cap)).status_code == 200:
            total += 1
        refused(answer, "capped")
    return total
