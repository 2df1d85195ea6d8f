"""The OpenAPI 3.1 document, made from the route table: what it says is what is checked.

`docs/openapi.json` is kept equal to it by a test.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vcap_es.adapters.http.control_plane.routes import REQUEST_ID, ROLES, Route
from vcap_es.adapters.http.problems import MEDIA_TYPE
from vcap_es.adapters.http.request_bodies import CAP_ID
from vcap_es.adapters.http.shapes.problems import Problem
from vcap_es.events.placements import CENTRE, NAME
from vcap_es.version import __version__

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_IN_PATH: dict[str, Json] = {
    "cap": {"type": "string", "pattern": f"^{CAP_ID}$"},
    "match": {
        "type": "string",
        "pattern": r"^[A-Za-z0-9._:*-]{0,127}\*[A-Za-z0-9._:*-]{0,127}$",
        "maxLength": 128,
    },
    "key": {"type": "string", "pattern": r"^[A-Za-z0-9._:-]{1,64}$"},
    "centre": {"type": "string", "pattern": f"^{CENTRE}$"},
    "placement": {"type": "string", "pattern": f"^{NAME}$"},
    "position": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
}
_CONDITIONS: dict[str, Json] = {
    "If-Match": {
        "description": "The version that is to be changed, as `ETag` told it; 412 if it is not.",
        "schema": {"type": "string", "pattern": r'^("[0-9]{1,18}\.[0-9]{1,18}"|\*)$'},
    },
    "If-None-Match": {
        "description": "`*`: only where it does not exist; 412 if it does.",
        "schema": {"type": "string", "const": "*"},
    },
}


def document(routes: Iterable[Route]) -> Json:
    """The OpenAPI document of `routes`."""
    routes = list(routes)
    types = [each for route in routes for each in (route.body, route.answer) if each is not None]
    types = list(dict.fromkeys([*types, Problem]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vcap_es control plane",
            "version": __version__,
            "description": "Caps, their balances and their history, at the masters.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, vcap_..."}
            },
            "schemas": dict(sorted(components.items())),
        },
    }


def _operation(route: Route, schema_of: Mapping[Any, Json]) -> Json:
    operation: Json = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": _description(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": _responses(route, schema_of),
    }
    if route.access == "public":
        operation["security"] = []
    else:
        operation["x-vcap-roles"] = sorted(ROLES[route.access])
    if route.body is not None:
        example = {} if route.example is None else {"example": route.example}
        content = {"application/json": {"schema": schema_of[route.body], **example}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _description(route: Route) -> str:
    told = " ".join((route.handler.__doc__ or "").split())
    if route.access == "public":
        return f"{told} No key is needed."
    scope = " whose key opens all caps" if route.needs_all else ""
    return f"{told} Roles: {', '.join(sorted(ROLES[route.access]))}{scope}."


def _path_parameters(route: Route) -> list[Json]:
    names = re.findall(r"{(\w+)", route.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH[name]} for name in names
    ]


def _query_parameters(route: Route) -> list[Json]:
    (_,), components = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)
    properties = components[route.query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: Json) -> Json:
    """A parameter that is not given is left out: it is never null."""
    kept = {name: each for name, each in schema.items() if each is not None}
    if "enum" in kept:
        kept["enum"] = [each for each in kept["enum"] if each is not None]
    choices = [each for each in kept.pop("anyOf", []) if each != {"type": "null"}]
    assert len(choices) < 2, f"a parameter has one type, not {schema}"
    return {**kept, **(choices[0] if choices else {})}


def _headers(route: Route) -> list[Json]:
    conditions = [{"name": name, "in": "header", **_CONDITIONS[name]} for name in route.conditions]
    if route.method == "GET":
        return conditions
    request_id = {
        "name": REQUEST_ID,
        "in": "header",
        "description": (
            "The id of the request, kept with the events that it causes: 1 to 128 of"
            " A-Z a-z 0-9 . _ : -. One is made where there is none, or another."
        ),
        "schema": {"type": "string"},
    }
    return [*conditions, request_id]


def _responses(route: Route, schema_of: Mapping[Any, Json]) -> Json:
    answer: Json = {"description": "Done."}
    if route.answer is not None:
        answer["content"] = {route.media: {"schema": schema_of[route.answer]}}
    refusal = {
        "description": "Not carried out; `code` and `detail` say why.",
        "content": {MEDIA_TYPE: {"schema": schema_of[Problem]}},
    }
    return {**{str(status): answer for status in route.statuses}, "default": refusal}


def encoded(routes: Iterable[Route]) -> bytes:
    """The document as it is written and served: indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(document(routes)), indent=2) + b"\n"
