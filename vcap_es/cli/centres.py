"""`vcap dc`: the data centres that share caps."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_fields, print_json, print_table

dc = App(name="dc", help="Add, remove and list data centres.")

COLUMNS = ("name", "membership", "weight", "caps", "in_transit", "heard_at", "trouble", "heir")

Fields = dict[str, Any]


def _path(centre: str, *rest: str) -> str:
    return "/".join(("/v1/centres", quote(centre, safe=""), *rest))


@dc.command(name="list")
def list_(*, where: Where = DEFAULT, json: Json = False) -> None:
    """List the data centres: whether they take part, and what is on its way to them from here."""
    with Control(where) as control:
        found = control.call("GET", "/v1/centres")
    if json:
        print_json(found)
        return
    if found["centres"]:
        print_table(COLUMNS, [_row(each) for each in found["centres"]])
    else:
        sys.stdout.write(f"{found['here']} is alone: add another one with vcap dc add\n")
    _print_namesakes(found)


def _print_namesakes(found: Fields) -> None:
    for why in found["namesakes"].values():
        sys.stdout.write(f"\n{why}\n")


def _row(centre: Fields) -> list[object]:
    name = f"{centre['name']} (here)" if centre["here"] else centre["name"]
    return [name, *(centre[column] for column in COLUMNS[1:])]


@dc.command
def status(*, where: Where = DEFAULT, json: Json = False) -> None:
    """Show how messages go to and from other data centres: what was lost, parked, or is stuck.

    Caps that two data centres have each defined under one name are listed last.
    """
    with Control(where) as control:
        found = control.call("GET", "/v1/centres")
    if json:
        print_json(found)
        return
    if found["post"] is None:
        sys.stdout.write(f"{found['here']} has no way to others: there is no [remote.centres]\n")
        return
    post = found["post"]
    troubles = post.pop("troubles")
    print_fields(post)
    for line, trouble in troubles.items():
        sys.stdout.write(f"\n{line}: {trouble}\n")
    _print_namesakes(found)
    for cap, centre in found["twins"].items():
        sys.stdout.write(f"\n{cap}: {centre} has another cap of this name: retire one of the two\n")
    for subject, why in found["doubts"].items():
        sys.stdout.write(f"\n{subject}: {why}\n")


@dc.command
def add(
    centre: str,
    *,
    weight: Annotated[
        int | None, Parameter(help="Its part of what is placed by weights; 1 by default.")
    ] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Let a data centre take part: it learns of every cap, and has shares from the next interval.

    The masters of both need each other in their settings, as [remote.centres.NAME]. It takes part
    once it was heard: until then, there is no cluster.
    """
    body = {} if weight is None else {"weight": weight}
    with Control(where) as control:
        _print(control.call("PUT", _path(centre), body), json=json)


@dc.command
def remove(centre: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let a data centre drain: it grants nothing more, and is out when nothing is left there.

    Move the caps that it decides first, with vcap cap move.
    """
    with Control(where) as control:
        _print(control.call("DELETE", _path(centre)), json=json)


@dc.command
def lose(
    centre: str,
    *,
    for_good: Annotated[
        bool, Parameter(negative=(), help="Say that it never comes back under this name.")
    ] = False,
    heir: Annotated[
        str | None, Parameter(help="The data centre that decides its caps from now on.")
    ] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Say that a data centre is gone for good: what it had counts as spent.

    Two operators must say so within ten minutes, each with a key of their own. If it decided any
    cap, stop it first: it would go on minting. Its heir opens the intervals of those caps from the
    second next one on, as the lost one may have opened those before.
    """
    if not for_good:
        sys.stdout.write(
            f"This cannot be taken back: {centre} will never be listened to again, and what it\n"
            "had of open intervals counts as spent. To go on, say so again with --for-good\n"
        )
        return
    with Control(where) as control:
        body = {} if heir is None else {"heir": heir}
        done = control.call("POST", _path(centre, "loss"), body)
    if json:
        print_json(done)
    elif done["done"]:
        sys.stdout.write(f"{centre} is lost\n")
    else:
        by = ", ".join(done["approved_by"])
        sys.stdout.write(f"{by} says so: one more operator has to, within ten minutes\n")


@dc.command
def readmit(centre: str, *, where: Where = DEFAULT, json: Json = False) -> None:
    """Let a data centre take part again, after its log or the one here was restored.

    Say so at both sides. They then tell each other what was sent and received before: what the
    restored log lacks is known again there, and withheld as long as it may have been served. It
    must have been heard here within the last minute, and cannot be taken back.
    """
    with Control(where) as control:
        _print(control.call("POST", _path(centre, "readmission")), json=json)


def _print(centre: Fields, *, json: bool) -> None:
    print_json(centre) if json else print_fields(centre)
