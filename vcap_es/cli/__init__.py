"""The command `vcap`: parse, call, print. Nothing is decided here."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from vcap_es import __version__
from vcap_es.errors import VcapError

app = App(
    name="vcap",
    version=__version__,
    help="Exact volume caps across servers and data centres, on a log that can be replayed.",
)
# A verb's module is imported when the verb is used: `vcap consume` need not load the log.
for verb, place in {
    "up": "nodes:up",
    "run": "nodes:run",
    "cap": "caps:cap",
    "keys": "keys:keys",
    "consume": "consume:consume",
    "balance": "audit:balance",
    "explain": "audit:explain",
    "events": "audit:events",
    "verify": "audit:verify",
    "rebuild": "audit:rebuild",
    "backtest": "rehearsal:backtest",
}.items():
    app.command(f"vcap_es.cli.{place}", name=verb)


@app.command
def completion(
    shell: Annotated[str, Parameter(help="bash, zsh or fish")] = "bash",
) -> None:
    """Print a completion script; put it where your shell looks for them."""
    sys.stdout.write(app.generate_completion(shell=shell))  # type: ignore[arg-type]  # cyclopts checks the name


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 refused or not as it should be, 2 cannot."""
    try:
        app()
    except VcapError as error:
        sys.stderr.write(f"vcap: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


__all__ = ["app", "main"]
