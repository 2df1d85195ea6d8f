"""`vcap placement`: names for placements, so that many caps are placed anew by one change."""

import sys
from typing import Any
from urllib.parse import quote

from cyclopts import App

from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_fields, print_json, print_table

placement = App(name="placement", help="Name placements, and change what the names stand for.")

COLUMNS = ("name", "terms", "version", "origin")

Fields = dict[str, Any]


def _path(name: str) -> str:
    return f"/v1/placements/{quote(name, safe='')}"


@placement.command(name="list")
def list_(*, where: Where = DEFAULT, json: Json = False) -> None:
    """List the placements that have a name of their own."""
    with Control(where) as control:
        found = control.call("GET", "/v1/placements")
    if json:
        print_json(found)
    else:
        rows = [[each[column] for column in COLUMNS] for each in found["placements"]]
        print_table(COLUMNS, rows)


@placement.command(name="set")
def set_(name: str, terms: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let a name stand for a placement, such as "weighted dc1=3 dc2=1", from the next intervals on.

    All data centres hear of it. A cap has it as its placement by --placement NAME.
    """
    with Control(where) as control:
        found: Fields = control.call("PUT", _path(name), {"terms": terms})
    print_json(found) if json else print_fields(found)


@placement.command
def retire(name: str, *, where: Where = DEFAULT) -> None:
    """Let a name stand for nothing; refused while a cap has it."""
    with Control(where) as control:
        control.call("DELETE", _path(name))
    sys.stdout.write(f"{name} is retired\n")
