"""`vcap backup` and `vcap restore`: keep a deployment, and begin it anew from what was kept."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from msgspec import to_builtins

from vcap_es.app import LOG_FILE
from vcap_es.backup import take
from vcap_es.cli.control import DATA, DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_fields, print_json
from vcap_es.errors import SettingsError
from vcap_es.restore import Restored
from vcap_es.restore import restore as restore_from
from vcap_es.settings import Settings, load

restore = App(name="restore", help="Begin a deployment anew from a backup.")

NODE_SECRET, SETTINGS = "node.secret", "settings.toml"


def backup(
    *,
    to: Annotated[Path, Parameter(help="The file to write; it must not be there.")],
    data: Annotated[Path, Parameter(help="The directory of a master.")] = DATA / "master0",
    config: Annotated[Path | None, Parameter(help="The settings of that master.")] = None,
    json: Json = False,
) -> None:
    """Write all that a master needs into one file, while it serves or not.

    That is its log, the first admin key, its settings, and the secrets that those name: keep the
    file as you keep secrets. It has no ballot and no server's journal, which are never restored.
    """
    if config is None:
        # `vcap up` keeps them beside the directory.
        config = next((each for each in [data.with_suffix(".toml")] if each.exists()), None)
    settings = load(config, os.environ)
    files, missing = _named(settings, data)
    if config is not None:
        files[SETTINGS] = config
    made = take(data, to, files)
    if json:
        print_json({**to_builtins(made), "file": str(to), "missing": missing})
        return
    print_fields(
        {
            "file": to,
            "cluster": made.cluster,
            "position": made.position,
            "taken at": made.taken_at,
            "parts": [f"{each.name} ({each.bytes} bytes)" for each in made.parts],
            "not there": missing,
        }
    )


def _named(settings: Settings, data: Path) -> tuple[dict[str, Path], list[str]]:
    """The secrets that the settings name, by their names in the backup; and which are missing."""
    beside = data.parent / NODE_SECRET
    secret = Path(settings.node_secret_file)
    wanted = {NODE_SECRET: secret if secret.exists() else beside}
    remote = settings.remote
    if remote.password_file:
        wanted["broker.password"] = Path(remote.password_file)
    if settings.feed.password_file:
        wanted["feed.password"] = Path(settings.feed.password_file)
    for name, centre in sorted(remote.centres.items()):
        wanted[f"centre-{name}.secret"] = Path(centre.secret_file)
        if centre.password_file:
            wanted[f"centre-{name}.password"] = Path(centre.password_file)
    missing = [f"{name} ({path})" for name, path in wanted.items() if not path.exists()]
    return {name: path for name, path in wanted.items() if path.exists()}, missing


@restore.default
def from_backup(
    file: Annotated[Path, Parameter(help="The backup.")],
    /,
    *,
    data: Annotated[Path, Parameter(help="The directory to make, for a master.")],
    slot: Annotated[
        Literal[0, 1], Parameter(help="Which of the two masters of the data centre it will be.")
    ] = 0,
    old: Annotated[
        list[Path] | None,
        Parameter(
            negative=(),
            help="What is left of the generation before, to tell how much is missing: a directory "
            "of one of its nodes, or another backup; may be given again.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a master's directory from a backup, as a new generation of that deployment.

    Nobody of the generation before belongs to it. What was available is withheld: whoever had it
    may have served it after the backup. Periods that could not be open yet serve as usual.
    """
    if data.resolve() == Path.cwd():
        raise SettingsError("--data is where you are: name a directory that is not there yet")
    made = restore_from(file, data, slot=slot, old=old or [])
    if json:
        print_json({**to_builtins(made), "data": str(data)})
        return
    print_fields(_told(made, data))
    sys.stdout.write(
        "\nStart it with `vcap run primary`, then an empty second master and servers. Old servers\n"
        "come back with `vcap restore readmit`; `vcap restore accept` releases what is withheld.\n"
    )


def _told(made: Restored, data: Path) -> dict[str, Any]:
    return {
        "data": data,
        "cluster": made.cluster,
        "was": made.of.cluster,
        "position": made.of.position,
        "taken at": made.of.taken_at,
        "events lacking": "nobody could tell" if made.lacks is None else made.lacks,
        "kept beside it": [each.name for each in made.of.parts if each.name != LOG_FILE],
        "open intervals": made.intervals,
        "units withheld": made.withheld,
    }


@restore.command
def status(*, where: Where = DEFAULT, json: Json = False) -> None:
    """Show how the log was restored, what is withheld, and which old servers knock."""
    with Control(where) as control:
        found = control.call("GET", "/v1/restore")
    if json:
        print_json(found)
    elif found["was"] is None and not found["withheld"]:
        sys.stdout.write(f"{found['cluster']} was never restored: nothing is withheld\n")
    else:
        found["knocking"] = [
            f"{each['name']} ({each['incarnation']})" for each in found["knocking"]
        ]
        found["centres missing"] = [
            f"{name}: {why}" for name, why in found.pop("centres_missing").items()
        ]
        found["readmitted"] = [f"{name} ({each})" for each, name in found["readmitted"].items()]
        print_fields({name.replace("_", " "): value for name, value in found.items()})


@restore.command
def readmit(
    name: Annotated[str, Parameter(help="The server's name, or its incarnation.")],
    *,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Let a server of the generation before belong to this one, with all that it holds.

    It must be running, and knock at the masters of this generation. From then on it is refused by
    the generation before.
    """
    with Control(where) as control:
        done = control.call("POST", "/v1/restore/servers", {"server": name})
    if json:
        print_json(done)
    else:
        sys.stdout.write(f"{done['name']} ({done['incarnation']}) belongs to {done['cluster']}\n")


@restore.command
def accept(
    *,
    cap: Annotated[str | None, Parameter(help="Only of this cap.")] = None,
    if_told: Annotated[
        bool,
        Parameter(
            negative=(), help="Only what no server and no data centre that is known can have."
        ),
    ] = False,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Release what is withheld, though the generation before may have served it.

    Two operators must say the same within ten minutes, each with a key of their own. Without
    --cap, nothing that opens later is withheld either. With --if-told, only what is proven to be
    free is released: as far as all servers and data centres that the log knows of have told.
    """
    with Control(where) as control:
        done = control.call("POST", "/v1/restore/releases", {"cap": cap, "if_told": if_told})
    if json:
        print_json(done)
        return
    approved = " and ".join(done["approved_by"])
    if done["under_way"]:
        sys.stdout.write(
            f"Released {done['released']} units of {done['intervals']} intervals, by {approved}\n"
        )
    else:
        sys.stdout.write(
            f"Approved by {approved}; nothing has changed. {done['withheld']} units are withheld, "
            "which may\nhave been served: with the second operator, totals can be exceeded by as "
            "many.\nAnother operator has to say the same, with a key of their own, within ten "
            "minutes.\n"
        )
