"""Whatever number a caller sends is an answer with words, at every route, and ends nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.primary import Primary, with_primary
from vcap_es.events.amounts import MAX_AMOUNT

DOCUMENT = json.loads((Path(__file__).parents[4] / "docs" / "openapi.json").read_text())
BOUNDS = (-(2**63), -1, 0, 10**18, MAX_AMOUNT, MAX_AMOUNT + 1, 10**19 - 1, 2**64, 10**400)
STREAMS = {"/v1/events"}
"""They answer and go on for ever."""


def _calls() -> Iterator[str]:
    """Every GET of the control plane, with each of its parameters at each bound."""
    for path, methods in DOCUMENT["paths"].items():
        if "get" not in methods or path in STREAMS:
            continue
        parameters: list[dict[str, Any]] = methods["get"].get("parameters", [])
        filled = path
        for each in parameters:
            if each["in"] == "path":
                filled = filled.replace(f"{{{each['name']}}}", "c")
        for each in parameters:
            if each["in"] == "query":
                yield from (f"{filled}?{each['name']}={number}" for number in BOUNDS)
        for number in BOUNDS:
            if filled != path:
                yield path.replace(path[path.index("{") : path.index("}") + 1], str(number), 1)


def test_no_parameter_of_any_route_is_too_large(tmp_path: Path) -> None:
    """Each call is answered, and what is out of bounds is refused as the caller's fault."""

    async def scenario(primary: Primary) -> None:
        await primary.define("c", total=MAX_AMOUNT)
        wrong = []
        for call in _calls():
            answer = await primary.call("GET", call)
            if answer.status_code >= 500:
                wrong.append((call, answer.status_code, answer.text))
        assert not wrong
        assert (await primary.http.get("/readyz")).status_code == 200

    with_primary(tmp_path, scenario)


def test_no_body_of_an_operator_is_too_large(tmp_path: Path) -> None:
    """A total, a weight, a version or a bound beyond what can be kept is refused with words."""

    async def scenario(primary: Primary) -> None:
        for number in BOUNDS:
            bodies = {
                "/v1/caps/big": ("total", "initial_total", "start", "end"),
                "/v1/templates/big:*": ("total", "initial_total"),
                "/v1/centres/north": ("weight",),
            }
            for path, fields in bodies.items():
                for field in fields:
                    body = {"total": 1, field: number} if field != "weight" else {field: number}
                    answer = await primary.call("PUT", path, body)
                    assert answer.status_code < 500, (path, field, number, answer.text)
            tag = {"If-Match": f'"{number}.{number}"'}
            answer = await primary.call("PUT", "/v1/caps/big", {"total": 1}, headers=tag)
            assert answer.status_code < 500, (number, answer.text)
        assert (await primary.http.get("/readyz")).status_code == 200

    with_primary(tmp_path, scenario)
