"""The command `vcap`: parse, call, print. Nothing is decided here."""

import sys
from typing import Annotated, Literal

from cyclopts import App, Parameter

from vcap_es import __version__
from vcap_es.cli.refusal import Refusal
from vcap_es.errors import VcapError

REFUSED, CANNOT, INTERRUPTED = 1, 2, 130

app = App(
    name="vcap",
    version=__version__,
    help="Exact volume caps across servers and data centres, on a log that can be replayed.",
    default_parameter=Parameter(negative=()),
)
# A verb's module is imported when the verb is used: `vcap consume` need not load the log.
for verb, place, summary in (
    ("up", "nodes:up", "Start a whole data centre on this machine, for a first look."),
    ("init", "nodes:init", "Found a cluster, once: let a master with an empty directory begin it."),
    ("run", "nodes:run", "Run one node in the foreground: a master or a server."),
    ("primacy", "primacy:primacy", "Show which master leads, and change it."),
    ("dc", "centres:dc", "Add, remove and list data centres."),
    ("placement", "placements:placement", "Name placements, for many caps at once."),
    ("cap", "caps:cap", "Define, list, show and change caps."),
    ("keys", "keys:keys", "Create, list and revoke API keys."),
    ("consume", "consume:consume", "Take and spend units of a cap."),
    ("balance", "audit:balance", "Show where the units of a cap are, now or as it was."),
    ("explain", "audit:explain", "Tell where every unit went, and by which events."),
    ("events", "events:events", "Read the log: its events, newest as they come, or counted."),
    ("verify", "audit:verify", "Check every link and every equation of a log."),
    ("audit", "order:audit", "Read the events of all data centres in one order."),
    ("rebuild", "audit:rebuild", "Fold a whole log, and print the digest of all balances."),
    ("backup", "backups:backup", "Write all that a master needs into one file."),
    ("restore", "backups:restore", "Begin a deployment anew from a backup."),
    ("backtest", "rehearsal:backtest", "Tell what caps would have done on recorded traffic."),
):
    app.command(f"vcap_es.cli.{place}", name=verb, help=summary)


@app.command
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Your shell.")] = "bash",
) -> None:
    """Print a completion script; put it where your shell looks for them."""
    sys.stdout.write(app.generate_completion(shell=shell))


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 refused or not as it should be, 2 cannot."""
    try:
        app()
    except Refusal as refusal:
        _end(REFUSED, refusal)
    except VcapError as error:
        _end(CANNOT, error)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has seen enough, and the interpreter need not complain
        sys.exit(0)
    except OSError as error:
        _end(CANNOT, f"{error.filename}: {error.strerror}" if error.filename else error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end(code: int, why: object) -> None:
    sys.stderr.write(f"vcap: {why}\n")
    sys.exit(code)


__all__ = ["app", "main"]
