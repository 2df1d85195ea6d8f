"""`vcap cap`: define, look at and change caps."""

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from vcap_es.caps_file import parse_caps
from vcap_es.cli.control import DEFAULT, Control, Where, cap_path, decoded, read_text
from vcap_es.cli.output import Json, print_fields, print_json, print_table
from vcap_es.cli.refusal import Refusal
from vcap_es.events.definitions import describe

cap = App(name="cap", help="Define, list, show and change caps.")

Fields = dict[str, Any]


@cap.command
def apply(
    *,
    file: Annotated[
        Path,
        Parameter(
            name=["--file", "-f"],
            help="A TOML file of caps; - is standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Show the plan and change nothing.")
    ] = False,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Let every cap and template of a file be as the file says; shows the plan first.

    Caps that the file does not name stay as they are.
    """
    wanted = parse_caps(read_text(file), str(file))
    with Control(where) as control:
        steps = [
            _step(control, cap_path(name), name, describe(name, each))
            for name, each in wanted.caps.items()
        ]
        steps += [
            _step(control, f"/v1/templates/{quote(match, safe='')}", match, describe(match, each))
            for match, each in wanted.templates.items()
        ]
        if not json:
            _print_plan(steps)
        if not dry_run:
            for step in steps:
                _do(control, step)
    if json:
        print_json([{name: step[name] for name in ("id", "action", "changes")} for step in steps])


def _step(control: Control, path: str, name: str, body: Fields) -> Fields:
    body = {key: value for key, value in body.items() if key not in ("id", "match")}
    step = {"id": name, "path": path, "body": body, "etag": None, "changes": {}}
    try:
        response = control.response("GET", path)
    except Refusal as refusal:
        if refusal.status != 404:
            raise
        return {**step, "action": "create"}
    found = decoded(response)
    before = found.get("definition", found)
    if found.get("state") == "retired":
        return {**step, "action": "create", "etag": response.headers.get("ETag")}
    changes = _changes(before, body)
    action = "change" if changes else "keep"
    return {**step, "action": action, "changes": changes, "etag": response.headers.get("ETag")}


def _changes(before: Fields, after: Fields) -> Fields:
    names = [name for name in after if name in before or after[name] not in (None, {}, [])]
    # A start that the file leaves open stays as it is.
    return {
        name: [before.get(name), after[name]]
        for name in names
        if before.get(name) != after[name] and not (name == "start" and after[name] is None)
    }


def _do(control: Control, step: Fields) -> None:
    if step["action"] == "keep":
        return
    headers = {"If-Match": step["etag"]} if step["etag"] else {}
    try:
        control.call("PUT", step["path"], step["body"], headers)
    except Refusal as refusal:
        raise refusal.about(step["id"]) from None


_SIGNS = {"create": "+", "change": "~", "keep": "="}


def _print_plan(steps: list[Fields]) -> None:
    for step in steps:
        if step["action"] == "create":
            body = step["body"]
            what = f"create: {body['total']} per {body.get('interval', 'day')}"
        elif step["action"] == "change":
            parts = [f"{name} {old} -> {new}" for name, (old, new) in step["changes"].items()]
            what = "change: " + ", ".join(parts)
        else:
            what = "unchanged"
        sys.stdout.write(f"{_SIGNS[step['action']]} {step['id']}  {what}\n")


@cap.command(name="list")
def list_(
    *,
    group: Annotated[str | None, Parameter(help="Only caps of this group.")] = None,
    prefix: Annotated[str | None, Parameter(help="Only ids that begin so.")] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """List all caps, with what is left of them now."""
    with Control(where) as control:
        found = list(control.pages("/v1/caps", "caps", group=group, prefix=prefix, limit=1000))
    if json:
        print_json(found)
        return
    columns = ("id", "state", "total", "interval", "available", "held", "spent", "group")
    print_table(columns, [_row(each) for each in found])


def _row(found: Fields) -> list[object]:
    definition, current = found["definition"], found.get("current") or {}
    return [
        found["id"],
        found["state"],
        definition["total"],
        definition.get("interval", "day"),
        current.get("available"),
        current.get("held"),
        current.get("spent"),
        definition.get("group"),
    ]


@cap.command
def show(name: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Show one cap: its definition, its version, and its current interval."""
    with Control(where) as control:
        found = control.call("GET", cap_path(name))
    _print_cap(found, json=json)


def _print_cap(found: Fields, *, json: bool) -> None:
    if json:
        print_json(found)
        return
    current = found.get("current") or {}
    rest = {name: value for name, value in current.items() if name != "servers"}
    head = {"id": found["id"], "state": found["state"], "version": found["version"]}
    begins = {"begins": found["begins"]} if found.get("begins") else {}
    unheard: dict[str, str] = {}
    for each in found.get("unheard", ()):
        who = each["name"] or each["server"] or f"data centre {each['centre']}"
        told = f"may serve until {each['until']}"
        unheard[told] = f"{unheard[told]}, {who}" if told in unheard else f"not heard of it: {who}"
    print_fields({**head, **found["definition"], **rest, **begins, **unheard})


@cap.command
def change(
    name: str,
    *,
    total: Annotated[int | None, Parameter(help="Units in each interval.")] = None,
    end: Annotated[str | None, Parameter(help="A date or an RFC 3339 instant.")] = None,
    group: str | None = None,
    mode: str | None = None,
    pacing: str | None = None,
    placement: Annotated[
        str | None, Parameter(help="local, even, weighted, weighted dc1=3 dc2=1, or spread 2.")
    ] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Change what is given and keep the rest; refused where somebody else changes it meanwhile."""
    given = {
        "total": total,
        "end": end,
        "group": group,
        "mode": mode,
        "pacing": pacing,
        "placement": placement,
    }
    with Control(where) as control:
        response = control.response("GET", cap_path(name))
        definition = decoded(response)["definition"]
        body = {**definition, **{key: value for key, value in given.items() if value is not None}}
        body = {key: value for key, value in body.items() if value is not None}
        headers = {"If-Match": response.headers["ETag"]}
        _print_cap(control.call("PUT", cap_path(name), body, headers), json=json)


@cap.command
def pause(name: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let the total in force be 0 until the cap is resumed."""
    with Control(where) as control:
        _print_cap(control.call("POST", cap_path(name, "pause")), json=json)


@cap.command
def resume(name: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let the total of the definition be in force again."""
    with Control(where) as control:
        _print_cap(control.call("POST", cap_path(name, "resume")), json=json)


@cap.command
def move(
    name: str,
    *,
    to: Annotated[str, Parameter(help="The data centre that shall decide it.")],
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Move a cap to another home, from its first interval that is not open yet."""
    with Control(where) as control:
        _print_cap(control.call("POST", cap_path(name, "move"), {"home": to}), json=json)


@cap.command
def resolve(name: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Tell who serves a cap: its home, who has a share, and the servers here."""
    with Control(where) as control:
        found = control.call("GET", f"/v1/resolve/{quote(name, safe='')}")
    shares = {each["name"]: each["weight"] for each in found["centres"]}
    print_json(found) if json else print_fields({**found, "centres": shares})


@cap.command
def retire(name: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """End a cap and its open intervals. To stop for an hour, use pause."""
    with Control(where) as control:
        _print_cap(control.call("DELETE", cap_path(name)), json=json)
