"""`vcap up` and `vcap run`: start nodes."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from vcap_es import app as composition
from vcap_es.cli.control import DATA
from vcap_es.settings import load
from vcap_es.single import Single

run = App(name="run", help="Run one node in the foreground, until SIGINT or SIGTERM.")

Config = Annotated[Path | None, Parameter(help="A TOML file of settings.")]
Name = Annotated[str | None, Parameter(help="How it is called in logs and lists.")]
Host = Annotated[str | None, Parameter(help="The address to listen at.")]
Port = Annotated[int | None, Parameter(help="The port to listen at.")]
Secret = Annotated[str | None, Parameter(help="The file with the secret that all nodes share.")]


def up(
    *,
    data: Annotated[Path, Parameter(help="Where everything is kept.")] = DATA,
    servers: Annotated[
        int, Parameter(help="How many volumecap servers.", validator=Number(gte=1, lte=64))
    ] = 2,
    port: Annotated[
        int,
        Parameter(
            help="The primary's port; servers take the next ones.",
            validator=Number(gte=1, lte=65_000),
        ),
    ] = 7100,
    demo: Annotated[
        bool, Parameter(negative=(), help="Define a few caps and make gentle traffic.")
    ] = False,
) -> None:
    """Start a whole data centre on this machine: a primary master and its volumecap servers."""
    Single(data, servers=servers, port=port, demo=demo).run()


@run.command
def primary(
    *,
    config: Config = None,
    name: Name = None,
    data: Annotated[str | None, Parameter(help="The directory of the log.")] = None,
    host: Host = None,
    port: Port = None,
    node_secret_file: Secret = None,
) -> None:
    """Run the primary master."""
    given = {
        "primary.name": name,
        "primary.directory": data,
        "primary.host": host,
        "primary.port": port,
        "node_secret_file": node_secret_file,
    }
    composition.run_primary(load(config, os.environ, given))


@run.command
def server(
    *,
    config: Config = None,
    name: Name = None,
    data: Annotated[str | None, Parameter(help="The directory of the journal.")] = None,
    host: Host = None,
    port: Port = None,
    master: Annotated[str | None, Parameter(help="The primary master, as ws://host:port.")] = None,
    node_secret_file: Secret = None,
) -> None:
    """Run a volumecap server."""
    given = {
        "server.name": name,
        "server.directory": data,
        "server.host": host,
        "server.port": port,
        "server.master": master,
        "node_secret_file": node_secret_file,
    }
    composition.run_server(load(config, os.environ, given))
