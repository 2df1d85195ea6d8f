"""What auditors ask: balances, explanations, events, and whether the log is sound."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from vcap_es.cli.control import DATA, DEFAULT, Control, Where, cap_path
from vcap_es.cli.output import (
    Json,
    print_fields,
    print_json,
    print_json_line,
    print_table,
)
from vcap_es.errors import LogDamaged
from vcap_es.events.chain import GENESIS
from vcap_es.events.chain import verify as verify_links
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_reader import SqliteReader
from vcap_es.projections.audit import Audit
from vcap_es.projections.balances import encode
from vcap_es.projections.states.data_centre import Fold

CHUNK = 5000
TAIL_SECONDS = 0.5

LogPath = Annotated[Path, Parameter(name="--log", help="The log file; nothing is changed in it.")]
LOG = DATA / "primary" / "log.sqlite"
Fields = dict[str, Any]


def balance(
    cap: str,
    *,
    at: Annotated[str | None, Parameter(help="As it was at this RFC 3339 instant.")] = None,
    position: Annotated[int | None, Parameter(help="As it was after this event.")] = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Show where the units of a cap are, now or as it was, interval by interval."""
    with Control(where) as control:
        found = control.call("GET", cap_path(cap, "balances"), at=at, position=position)
    if json:
        print_json(found)
        return
    columns = (
        "number",
        "start",
        "end",
        "total",
        "available",
        "held",
        "spent",
        "refused",
        "expired",
        "unreported",
    )
    print_table(columns, [[each.get(name) for name in columns] for each in found["intervals"]])


def explain(
    cap: str,
    *,
    at: Annotated[str | None, Parameter(help="As it was at this RFC 3339 instant.")] = None,
    id: Annotated[str | None, Parameter(help="The id of a consume.")] = None,  # noqa: A002  # the option's name
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Tell where every unit of a cap went, or what became of one consume, event by event."""
    with Control(where) as control:
        found = control.call("GET", cap_path(cap, "explain"), at=at, id=id)
    print_json(found) if json else sys.stdout.write(found["text"] + "\n")


# ---- events

events = App(name="events", help="Read the log of the data centre.")

Cap = Annotated[str | None, Parameter(help="Only events of this cap.")]
Kind = Annotated[str | None, Parameter(help="Only facts of this kind, such as ToppedUp.")]


@events.command
def read(
    *,
    after: Annotated[int, Parameter(help="Begin behind this position.")] = 0,
    limit: int = 100,
    cap: Cap = None,
    kind: Kind = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Print events, oldest first."""
    with Control(where) as control:
        found = _page(control, after, limit, cap, kind)
    _print_events(found, json=json)


@events.command
def tail(*, cap: Cap = None, kind: Kind = None, where: Where = DEFAULT, json: Json = False) -> None:
    """Print new events as they come, until Ctrl-C."""
    with Control(where) as control:
        after = control.call("GET", "/v1/log", limit=1, after=0)["head"]
        while True:
            found = _page(control, after, 1000, cap, kind)
            _print_events(found, json=json, head=False)
            sys.stdout.flush()
            after = found[-1]["position"] if found else after
            if not found:
                time.sleep(TAIL_SECONDS)


@events.command
def show(position: int, *, where: Where = DEFAULT) -> None:
    """Print one event whole."""
    with Control(where) as control:
        print_json(control.call("GET", f"/v1/log/{position}"))


@events.command
def stats(*, log: LogPath = LOG, json: Json = False) -> None:
    """Count the events of a log by kind."""
    counts: dict[str, int] = {}

    async def count() -> None:
        async for chunk in _chunks(log):
            for event in chunk:
                kind = type(event.fact).__name__
                counts[kind] = counts.get(kind, 0) + 1

    asyncio.run(count())
    if json:
        print_json(counts)
        return
    print_table(("kind", "events"), sorted(counts.items(), key=lambda each: -each[1]))


def _page(
    control: Control, after: int, limit: int, cap: str | None, kind: str | None
) -> list[Fields]:
    found = control.call("GET", "/v1/log", after=after, limit=limit, cap=cap, kind=kind)
    return found["events"]  # type: ignore[no-any-return]  # the API says it is a list of events


def _print_events(found: list[Fields], *, json: bool, head: bool = True) -> None:
    if json:
        for each in found:
            print_json_line(each)
        return
    columns = ("position", "recorded_at", "kind", "actor", "fact")
    rows = [[*(each[name] for name in columns[:4]), _told(each["fact"])] for each in found]
    if rows:
        print_table(columns if head else [""] * len(columns), rows)


def _told(fact: Fields, prefix: str = "") -> str:
    """The fields of a fact that say something, on one line."""
    words = [
        _told(value, f"{name}.") if isinstance(value, dict) else f"{prefix}{name}={value}"
        for name, value in fact.items()
        if name not in ("type", "cap") and value not in (None, {}, [])
    ]
    return " ".join(filter(None, [str(fact.get("cap", "")), *words]))


# ---- the whole log


def verify(*, log: LogPath = LOG, json: Json = False) -> None:
    """Check every link of the chain and every equation of the books. Exit code 1 on a finding."""
    result = asyncio.run(_verify(log))
    print_json(result) if json else print_fields(
        {name: each for name, each in result.items() if name != "findings"}
    )
    if not json:
        for finding in result["findings"]:
            sys.stdout.write(
                f"position {finding['position']}: {finding['rule']}: {finding['detail']}\n"
            )
    if result["findings"]:
        sys.exit(1)


async def _verify(path: Path) -> Fields:
    audit, link, broken = Audit(), GENESIS, []
    reader = await SqliteLog.open_reader(path)
    try:
        with _progress("verifying") as (progress, task):
            head = await reader.head()
            progress.update(task, total=head.position)
            after = 0
            while stored := await reader.read_stored(after, limit=CHUNK):
                try:
                    link = verify_links(stored, link)
                except LogDamaged as damage:
                    broken.append({"position": after, "rule": "chain", "detail": str(damage)})
                    break
                for event in await reader.read(after, limit=CHUNK):
                    audit.feed(event)
                after = stored[-1].position
                progress.update(task, completed=after)
    finally:
        await reader.close()
    findings = broken + [
        {"position": each.position, "rule": each.rule, "detail": each.detail}
        for each in audit.findings
    ]
    return {
        "log": str(path),
        "events": after,
        "link": link.hex(),
        "sound": not findings,
        "findings": findings,
    }


def rebuild(*, log: LogPath = LOG, json: Json = False) -> None:
    """Fold the whole log from the beginning and print what is true, as a digest of all balances."""
    result = asyncio.run(_rebuild(log))
    print_json(result) if json else print_fields(result)


async def _rebuild(path: Path) -> Fields:
    fold, position, began = Fold(), 0, time.monotonic()
    async for chunk in _chunks(path):
        for event in chunk:
            fold.evolve(event.fact)
        position = chunk[-1].position
    seconds = time.monotonic() - began
    return {
        "log": str(path),
        "events": position,
        "caps": len(fold.state.metas),
        "balances": sha256(encode(fold.state)).hexdigest(),
        "seconds": round(seconds, 3),
        "events_per_second": round(position / seconds) if seconds else 0,
    }


async def _chunks(path: Path) -> AsyncIterator[list[Any]]:
    """All events of a log, with a bar that shows how far it is."""
    reader: SqliteReader = await SqliteLog.open_reader(path)
    try:
        with _progress("reading") as (progress, task):
            progress.update(task, total=(await reader.head()).position)
            after = 0
            while chunk := await reader.read(after, limit=CHUNK):
                yield chunk
                after = chunk[-1].position
                progress.update(task, completed=after)
    finally:
        await reader.close()


class _progress:  # noqa: N801  # used like a function
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self, what: str) -> None:
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            TaskProgressColumn(),
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> tuple[Progress, Any]:
        self._bar.start()
        return self._bar, self._bar.add_task("")

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


__all__ = ["balance", "events", "explain", "rebuild", "verify"]
