"""Count the departures of 2013 independently, and hold a backtest's report against the counts.

    python examples/flights/check.py report.json

It shares no code with what it checks: days are those that the data give, totals are read from
`caps.toml` here. Every carrier must have served exactly min(departures of the day, total) on each
day, with nothing stranded; the days of clock change must have 23 and 25 hours.
"""

import json
import sys
import tomllib
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from make_trace import departures

NEW_YORK = ZoneInfo("America/New_York")
HOURS = {date(2013, 3, 10): 23, date(2013, 11, 3): 25}

Day = tuple[str, date]


def wanted() -> dict[Day, tuple[int, int]]:
    """For each carrier and day: the departures, and the total of its cap."""
    text = Path(__file__).with_name("caps.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)["cap"]
    totals = {table["id"]: table["total"] for table in tables if "id" in table}
    others = next(table["total"] for table in tables if "match" in table)
    flown = Counter(
        (row["carrier"], date(int(row["year"]), int(row["month"]), int(row["day"])))
        for row in departures()
    )
    return {day: (flights, totals.get(day[0], others)) for day, flights in flown.items()}


def reported(report: dict[str, Any]) -> dict[Day, dict[str, Any]]:
    """The intervals of the report by carrier and local day."""
    return {
        (carrier, _instant(interval["start"]).astimezone(NEW_YORK).date()): interval
        for carrier, cap in report["caps"].items()
        for interval in cap["intervals"]
    }


def differences(report: dict[str, Any]) -> list[str]:
    """Everything in which the report is not what it must be."""
    found, counts = reported(report), wanted()
    wrong = [f"{day}: no interval in the report" for day in counts.keys() - found.keys()]
    for (carrier, day), interval in found.items():
        flights, total = counts.get((carrier, day), (0, interval["total"]))
        served = min(flights, total)
        exact = {"total": total, "consumed": served, "refused": flights - served, "stranded": 0}
        shown = {name: interval[name] for name in exact}
        if shown != exact:
            wrong.append(f"{carrier} on {day}: {shown}, but it is {exact}")
        hours = (_instant(interval["end"]) - _instant(interval["start"])).total_seconds() / 3600
        if hours != HOURS.get(day, 24):
            wrong.append(f"{carrier} on {day}: {hours} hours")
    flown = sum(flights for flights, _ in counts.values())
    totals = report["totals"]
    if totals["consumed"] + totals["refused"] != flown or totals["outside"]:
        wrong.append(f"{totals} do not add up to {flown} departures")
    return sorted(wrong)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wrong = differences(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    days = len(wanted())
    print("\n".join(wrong[:20]) or f"exact: {days} days of carriers, every departure accounted for")
    sys.exit(1 if wrong else 0)
