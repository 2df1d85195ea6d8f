"""`vcap up` and `vcap run`: start nodes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from vcap_es import app as composition
from vcap_es.cli.control import DATA
from vcap_es.settings import Settings, load
from vcap_es.up import LocalDeployment

run = App(name="run", help="Run one node in the foreground, until SIGINT or SIGTERM.")

Config = Annotated[Path | None, Parameter(help="A TOML file of settings.")]
Name = Annotated[str | None, Parameter(help="How it is called in logs and lists.")]
Host = Annotated[str | None, Parameter(help="The address to listen at.")]
Port = Annotated[int | None, Parameter(help="The port to listen at.")]
Secret = Annotated[str | None, Parameter(help="The file with the secret that all nodes share.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MasterOptions:
    """What a master can be told on the command line, whichever role it has."""

    config: Config = None
    slot: Annotated[
        Literal[0, 1] | None, Parameter(help="Which of the two masters of the data centre it is.")
    ] = None
    name: Name = None
    data: Annotated[str | None, Parameter(help="The directory of the log.")] = None
    host: Host = None
    port: Port = None
    address: Annotated[
        str | None, Parameter(help="How other nodes reach it, as http://host:port.")
    ] = None
    join: Annotated[
        list[str] | None,
        Parameter(help="A node to ask who leads, as http://host:port; may be given again."),
    ] = None
    node_secret_file: Secret = None
    clock_behind_max_s: Annotated[
        int | None,
        Parameter(help="Start though the log is up to so many seconds ahead of the clock here."),
    ] = None

    def settings(self, slot: int) -> Settings:
        """All settings, with these above the others; `slot` where nothing says which."""
        given = {
            "master.slot": self.slot,
            "master.name": self.name,
            "master.directory": self.data,
            "master.host": self.host,
            "master.port": self.port,
            "master.address": self.address,
            "master.peers": self.join,
            "master.clock_behind_max_s": self.clock_behind_max_s,
            "node_secret_file": self.node_secret_file,
        }
        return load(self.config, os.environ, given, slot=slot)


AS_SET = MasterOptions()


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
    LocalDeployment(data, servers=servers, port=port, demo=demo).run()


def init(*, options: MasterOptions = AS_SET) -> None:
    """Found a cluster: let the master of these settings be its first one.

    Once in the life of a data centre, in an empty directory. Every other master, and this one if it
    ever loses its directory, joins by `vcap run`, and gets a copy of the log.
    """
    settings = options.settings(slot=0)
    cluster = composition.found_cluster(settings)
    own = settings.master
    print(
        f"founded cluster {cluster} in {own.directory}\n"
        f"start its first master: vcap run primary --slot {own.slot} --data {own.directory} "
        f"--node-secret-file {settings.node_secret_file}"
    )


@run.command
def primary(*, options: MasterOptions = AS_SET) -> None:
    """Run the master of slot 0: it leads if it may; with an empty directory it joins.

    A new data centre is founded by `vcap init`, once.
    """
    composition.run_master(options.settings(slot=0))


@run.command
def secondary(*, options: MasterOptions = AS_SET) -> None:
    """Run the master of slot 1: the same, for the other machine.

    With an empty directory it joins the cluster of the node that `--join` names.
    """
    composition.run_master(options.settings(slot=1))


@run.command
def server(
    *,
    config: Config = None,
    name: Name = None,
    data: Annotated[str | None, Parameter(help="The directory of the journal.")] = None,
    host: Host = None,
    port: Port = None,
    master: Annotated[
        list[str] | None,
        Parameter(help="A master, as http://host:port; given again for the other one."),
    ] = None,
    join: Annotated[
        list[str] | None,
        Parameter(help="Any node, as http://host:port, to ask where the masters are."),
    ] = None,
    witness: Annotated[
        bool | None, Parameter(help="Vote when a master is gone: one or three servers should.")
    ] = None,
    node_secret_file: Secret = None,
) -> None:
    """Run a volumecap server."""
    given = {
        "server.name": name,
        "server.directory": data,
        "server.host": host,
        "server.port": port,
        "server.masters": master,
        "server.join": join,
        "server.witness": witness,
        "node_secret_file": node_secret_file,
    }
    composition.run_server(load(config, os.environ, given))
