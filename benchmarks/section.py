"""One section of the benchmarks, in a process of its own: `python -m benchmarks.section NAME FILE`.

It writes its rows to the file in JSON. Where something that a section needs cannot be had on this
machine, each of its aims is a row that says so.
"""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from msgspec import json

from benchmarks.rows import Row
from compose.packages import Unavailable


def main(name: str, results: Path) -> None:
    """Measure, and write what was found."""
    section = import_module(f"benchmarks.{name}")
    try:
        rows: list[Row] = section.figures()
    except Unavailable as reason:
        rows = [
            Row(figure, f"NOT MEASURED: {reason}", "", aim=aim)
            for figure, aim in section.AIMS.items()
        ]
    found = {row.figure: row.aim for row in rows if row.aim}
    assert found == section.AIMS, f"{name} gives the aims {found}, and names {section.AIMS}"
    results.write_bytes(json.encode(rows))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except BaseException:  # noqa: BLE001  # whatever it is, it is shown, and this process ends
        # Whatever was begun is undone by now. A thread that is left all the same, as of a log that
        # nobody has closed, would keep this process alive without an end.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
