"""`vcap audit`: the events of all data centres in one order."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import print_json_line, print_row
from vcap_es.cli.reading import CHUNK
from vcap_es.errors import InvalidInput
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import CentreChanged
from vcap_es.events.instants import format_instant
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.projections.global_order import in_order

audit = App(name="audit", help="Read the events of all data centres in one order.")

WIDTHS = (8, 27, 12, 9, 22, 0)


@audit.command
def merge(
    *logs: Annotated[Path, Parameter(help="The log files, one of each data centre.")],
    limit: Annotated[int | None, Parameter(help="So many events, from the first one on.")] = None,
    where: Where = DEFAULT,
    json: Annotated[
        bool, Parameter(name="--json", negative=(), help="A JSON document a line.")
    ] = False,
) -> None:
    """Print the events of all data centres in one order, each with its number.

    From log files, up to the watermark that all of them have passed; without any, from the data
    centres themselves, which --url leads to. The numbers are the same, and for ever.
    """
    found = asyncio.run(_merged(logs, limit)) if logs else _asked(where, limit)
    if not json:
        print_row(("number", "at", "dc", "position", "kind", "about"), WIDTHS)
    for each in found:
        if json:
            print_json_line(each)
        else:
            print_row(_row(each), WIDTHS)


def _row(found: dict[str, Any]) -> list[str]:
    event = found["event"]
    about = event["fact"].get("cap") or event["fact"].get("centre") or ""
    return [
        str(found["number"]),
        event["recorded_at"],
        event["dc"],
        str(event["position"]),
        event["kind"],
        about,
    ]


def _asked(where: Where, limit: int | None) -> Iterator[dict[str, Any]]:
    """The events as the data centres tell them, page by page."""
    with Control(where) as control:
        after, left = None, limit
        while left is None or left > 0:
            size = 500 if left is None else min(500, left)
            page = control.call("GET", "/v1/audit/events", after=after, limit=size)
            yield from page["events"]
            left = None if left is None else left - len(page["events"])
            after = page["cursor"]
            if not page["more"]:
                return


async def _merged(paths: tuple[Path, ...], limit: int | None) -> list[dict[str, Any]]:
    logs = [await _events_of(path) for path in paths]
    names = [events[0].dc for events in logs]
    if len(set(names)) < len(names):
        raise InvalidInput(f"two logs are of the data centre {max(names, key=names.count)}")
    watermark = min(events[-1].recorded_at for events in logs)
    parts = [
        [each for each in _since_it_took_part(events) if each.recorded_at < watermark]
        for events in logs
    ]
    merged = islice(in_order(parts), limit)
    return [{"number": number, "event": _shown(each)} for number, each in enumerate(merged, 1)]


async def _events_of(path: Path) -> list[Recorded]:
    events: list[Recorded] = []
    async with AsyncExitStack() as stack:
        reader = await SqliteLog.open_reader(path)
        stack.push_async_callback(reader.close)
        while chunk := await reader.read(events[-1].position if events else 0, limit=CHUNK):
            events += chunk
    if not events:
        raise InvalidInput(f"{path}: there is no event in it")
    return events


def _since_it_took_part(events: list[Recorded]) -> list[Recorded]:
    """Who was added by another one has a part in the order from when it heard so."""
    for index, event in enumerate(events):
        fact = event.fact
        if isinstance(fact, CentreChanged) and fact.centre == event.dc:
            return events if fact.stamp.origin == event.dc else events[index:]
    return events


def _shown(event: Recorded) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(event, builtin_types=())
    shown["kind"] = type(event.fact).__name__
    shown["recorded_at"] = format_instant(event.recorded_at)
    shown["event_id"], shown["link"] = event.event_id.hex(), event.link.hex()
    return shown
