"""`vcap keys`: the API keys of clients, auditors, operators and administrators."""

from typing import Annotated, Literal
from urllib.parse import quote

from cyclopts import App, Parameter

from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_fields, print_json, print_table

keys = App(name="keys", help="Create, list and revoke API keys.")


@keys.command
def create(
    role: Literal["client", "auditor", "operator", "admin"],
    *,
    scope: Annotated[
        list[str] | None,
        Parameter(help="A pattern of cap ids, or group:NAME; may be given again. All by default."),
    ] = None,
    expires: Annotated[str | None, Parameter(help="An RFC 3339 instant; never by default.")] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Create a key and print it: this once, for only its digest is kept."""
    body = {"role": role, "scopes": scope or ["*"], "expires_at": expires}
    body = {name: value for name, value in body.items() if value is not None}
    with Control(where) as control:
        made = control.call("POST", "/v1/keys", body)
    print_json(made) if json else print_fields(made)


@keys.command(name="list")
def list_(*, where: Where = DEFAULT, json: Json = False) -> None:
    """List the keys in force; secrets are not known."""
    with Control(where) as control:
        found = control.call("GET", "/v1/keys")["keys"]
    if json:
        print_json(found)
        return
    columns = ("id", "role", "scopes", "expires_at")
    print_table(columns, [[each.get(name) for name in columns] for each in found])


@keys.command
def revoke(key: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let a key open nothing any more, at every server within about a second."""
    with Control(where) as control:
        answer = control.call("DELETE", f"/v1/keys/{quote(key, safe='')}")
    if json:
        print_json(answer or {"id": key})
