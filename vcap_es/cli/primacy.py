"""`vcap primacy`: who leads, and what to do about it."""

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App, Parameter

from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_fields, print_json, print_table
from vcap_es.cli.refusal import Refusal
from vcap_es.components.decisions.primacy import is_witness
from vcap_es.errors import InvalidInput, Unreachable, VcapError

primacy = App(name="primacy", help="Show which master leads, and change it.")

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.2
COLUMNS = ("name", "slot", "role", "epoch", "in sync", "position", "committed", "lag", "address")

Fields = dict[str, Any]


@primacy.command
def status(*, where: Where = DEFAULT, json: Json = False) -> None:
    """Show each master: its role, its epoch, whether it is in sync; and who votes."""
    with Control(where) as control:
        asked = control.call("GET", "/v1/primacy")
        masters = {url: _asked(control, url) for url in asked["masters"] or where.urls[:1]}
    known = [each for each in masters.values() if isinstance(each, dict)]
    view = next((each for each in known if each["role"] == "primary"), asked)
    if json:
        shown = [_shown(url, each) for url, each in masters.items()]
        print_json({**view, "masters": shown})
        return
    print_table(COLUMNS, (_row(url, each, view) for url, each in masters.items()))
    sys.stdout.write("\n")
    print_fields(_about(view, known))


def _asked(control: Control, url: str) -> "Fields | VcapError":
    try:
        found: Fields = control.ask(url, "GET", "/v1/primacy")
    except VcapError as error:
        return error
    return found


def _shown(url: str, found: "Fields | VcapError") -> Fields:
    error = str(found) if isinstance(found, VcapError) else None
    return {"address": url, "error": error} if error else {"address": url, **_fields(found)}


def _fields(found: "Fields | VcapError") -> Fields:
    return found if isinstance(found, dict) else {}


def _row(url: str, found: "Fields | VcapError", view: Fields) -> list[object]:
    """A master's line of the table; who does not answer is told as that."""
    if isinstance(found, VcapError):
        role = f"refuses ({found.problem.get('code')})" if isinstance(found, Refusal) else "silent"
        return [None, None, role, None, None, None, None, None, url]
    role = found["role"] if found["active"] or found["role"] != "primary" else "isolated"
    in_sync = found["node"] in view["isr"]
    told = (found[name] for name in ("position", "committed", "lag"))
    return [found["name"], found["slot"], role, found["epoch"], in_sync, *told, url]


def _about(view: Fields, known: list[Fields]) -> Fields:
    """What is to be said of all of them together."""
    names = {each["node"]: each["name"] for each in known}
    witnesses = dict.fromkeys([*filter(is_witness, view["voters"]), *view["witnesses"]])
    about = {
        "cluster": view["cluster"] or "none yet: it waits to be admitted to one",
        "leader": view["leader"]["name"] if view["leader"] else "nobody is known to lead",
        "voters": [_name(node, names) for node in view["voters"]],
        "witnesses": [
            _name(node, names) + ("" if node in view["witnesses"] else " (not reachable)")
            for node in witnesses
        ],
        "secondaries started": view["spawned"],
        "switchovers": view["switchovers"],
        "forced promotions": len(view["forced"]),
    }
    for each in known:
        if each["suspicion"]:
            about[f"suspicion of {each['name']}"] = each["suspicion"]
        if each["approved_by"]:
            about[f"promotion of {each['name']}"] = f"approved by {', '.join(each['approved_by'])}"
    return about


def _name(node: str, names: dict[str, str]) -> str:
    """A node by its name: ids are its kind, its name and random digits."""
    return names.get(node) or node.removeprefix("w-").rpartition("-")[0]


@primacy.command
def switchover(
    *,
    wait: Annotated[
        bool, Parameter(negative=(), help="Wait until the master that led is in sync again.")
    ] = False,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Let the secondary master lead. No acknowledged event is lost, and servers go on."""
    with Control(where) as control:
        done = control.call("POST", "/v1/primacy/switchovers")
        if wait:
            address = done["leader"]["address"]
            _until(lambda: _is_redundant(control, address), "no second master came into sync")
    if json:
        print_json(done)
    else:
        sys.stdout.write(f"{done['leader']['name']} leads, at {done['leader']['address']}\n")


def _is_redundant(control: Control, address: str) -> bool:
    found = _fields(_asked(control, address))
    return found.get("role") == "primary" and len(found["isr"]) > 1


@primacy.command
def force_promote(
    *,
    accept_loss: Annotated[
        bool, Parameter(negative=(), help="Say that what this master lacks may be gone.")
    ] = False,
    gone: Annotated[
        list[str] | None,
        Parameter(
            negative=(),
            help="A voter that never comes back, such as m0 or w-s1; it must never be started.",
        ),
    ] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Let the master at --url lead, though it may lack what was acknowledged.

    The last resort, for when the disks of all masters that have everything are gone for good. Two
    operators must say the same within ten minutes, each with a key of their own. A majority of the
    voters has to answer, but for those that are --gone.
    """
    url = _only(where)
    with Control(where) as control:
        found = control.ask(url, "GET", "/v1/primacy")
        if not accept_loss:
            raise InvalidInput(f"{_warning(found)}\nTo go on, say so again with --accept-loss")
        wanted = {"accept_loss": True, "gone": gone or []}
        done = control.ask(url, "POST", "/v1/primacy/promotions", wanted)
        if done["under_way"]:
            voters = ", ".join(found["voters"])
            reason = (
                f"it does not lead: a majority of the voters ({voters}) has to answer; start them, "
                "or name with --gone those that never come back,"
            )
            _until(lambda: _leads(control, url), f"{found['name']} was approved, and {reason}")
    if json:
        print_json(done)
        return
    if done["under_way"]:
        sys.stdout.write(f"{found['name']} leads, by {' and '.join(done['approved_by'])}\n")
        return
    approved = ", ".join(done["approved_by"])
    sys.stdout.write(
        f"{_warning(found)}\n"
        f"Approved by {approved}; nothing has changed. Another operator has to say the same, with\n"
        "a key of their own, within ten minutes.\n"
    )


def _only(where: Where) -> str:
    if len(where.urls) != 1:
        raise InvalidInput("--url has to be the one master that shall lead")
    return where.urls[0]


def _warning(found: Fields) -> str:
    """What is known of what may be lost."""
    holders = ", ".join(each for each in found["isr"] if each != found["node"])
    if not holders and not found["suspicion"]:
        return f"{found['name']} has everything that was acknowledged: it needs no force to lead."
    whose = f"Only {holders} surely had everything" if holders else found["suspicion"]
    copy = f"a copy up to position {found['position']}, and lacks at least {found['lag']} events"
    return (
        f"{found['name']} has {copy} that were acknowledged.\n{whose}. If it leads, what its copy"
        " lacks is gone: caps, keys,\nand what servers were given, so that totals can be exceeded."
    )


def _leads(control: Control, url: str) -> bool:
    return _fields(_asked(control, url)).get("role") == "primary"


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Unreachable(
                f"{otherwise} within {PATIENCE_SECONDS:.0f} s: see vcap primacy status"
            )
        time.sleep(POLL_SECONDS)
