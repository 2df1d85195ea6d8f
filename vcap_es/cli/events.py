"""`vcap events`: the log, event by event."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from vcap_es.adapters.past.messages import LogPage, OneEvent
from vcap_es.cli.control import DEFAULT, Control, Where
from vcap_es.cli.output import Json, print_json, print_json_line, print_row, print_table
from vcap_es.cli.past import LogFile, PastFile, opened
from vcap_es.cli.reading import LOG, LogPath, chunks
from vcap_es.events.instants import format_instant

events = App(name="events", help="Read the log of the data centre.")

PAGE = 1000
TAIL_SECONDS = 0.5
COLUMNS = ("position", "recorded_at", "kind", "actor", "fact")
WIDTHS = (8, 27, 20, 32, 0)
INSTANTS = {"start", "end", "expires_at"}

Cap = Annotated[str | None, Parameter(help="Only events of this cap.")]
Kind = Annotated[str | None, Parameter(help="Only facts of this kind, such as ToppedUp.")]
Fields = dict[str, Any]
PageOf = Callable[[int, int, str | None, str | None], Fields]
"""Gives a page of events after a position, up to a limit; only of a cap, only of a kind."""


@events.command
def read(
    *,
    after: Annotated[
        int, Parameter(help="Begin behind this position.", validator=Number(gte=0))
    ] = 0,
    limit: Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1))] = 100,
    cap: Cap = None,
    kind: Kind = None,
    log: LogFile = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Print events, oldest first."""
    with _source(log, where) as source:
        _print(_pages(source.page, after, limit, cap, kind), json=json)


@events.command
def tail(
    *,
    cap: Cap = None,
    kind: Kind = None,
    log: LogFile = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Print new events as they come, until Ctrl-C."""
    with _source(log, where) as source:
        after = source.page(0, 1, None, None)["head"]
        _print(_coming(source.page, after, cap, kind), json=json)


@events.command
def show(position: int, *, log: LogFile = None, where: Where = DEFAULT) -> None:
    """Print one event whole, as JSON."""
    with _source(log, where) as source:
        print_json(source.event(position))


@events.command
def stats(*, log: LogPath = LOG, json: Json = False) -> None:
    """Count the events of a log by kind."""
    counts: Counter[str] = Counter()

    async def count() -> None:
        async for chunk in chunks(log, "counting"):
            counts.update(type(event.fact).__name__ for event in await chunk.read())

    asyncio.run(count())
    print_json(counts) if json else print_table(("kind", "events"), counts.most_common())


class _Master:
    """The log as a master tells it."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def page(self, after: int, limit: int, cap: str | None, kind: str | None) -> Fields:
        """A page of the events after `after`."""
        found: Fields = self._control.call(
            "GET", "/v1/log", after=after, limit=limit, cap=cap, kind=kind
        )
        return found

    def event(self, position: int) -> Fields:
        """The event at `position`."""
        found: Fields = self._control.call("GET", f"/v1/log/{position}")
        return found


class _File:
    """The log as its file tells it."""

    def __init__(self, past: PastFile) -> None:
        self._past = past

    def page(self, after: int, limit: int, cap: str | None, kind: str | None) -> Fields:
        """A page of the events after `after`."""
        self._past.grow()
        found: Fields = self._past.ask(LogPage(after, limit, cap, kind))
        return found

    def event(self, position: int) -> Fields:
        """The event at `position`."""
        found: Fields = self._past.ask(OneEvent(position))
        return found


@contextmanager
def _source(log: Path | None, where: Where) -> Iterator[_Master | _File]:
    """Where events come from: a file, if one is given, or a master."""
    if log is None:
        with Control(where) as control:
            yield _Master(control)
    else:
        with opened(log) as past:
            yield _File(past)


def _pages(
    page_of: PageOf, after: int, limit: int, cap: str | None, kind: str | None
) -> Iterator[Fields]:
    """Up to `limit` events, page by page."""
    while limit > 0:
        page = page_of(after, min(limit, PAGE), cap, kind)
        yield from page["events"]
        if page["next"] is None:
            return
        after, limit = page["next"], limit - len(page["events"])


def _coming(page_of: PageOf, after: int, cap: str | None, kind: str | None) -> Iterator[Fields]:
    """The events after `after`, as they come, for ever."""
    while True:
        for each in _pages(page_of, after, PAGE, cap, kind):
            yield each
            after = each["position"]
        sys.stdout.flush()
        time.sleep(TAIL_SECONDS)


def _print(found: Iterator[Fields], *, json: bool) -> None:
    if json:
        for each in found:
            print_json_line(each)
        return
    first = list(islice(found, 1))  # what cannot be asked is said before a heading is printed
    print_row(COLUMNS, WIDTHS)
    for each in chain(first, found):
        print_row([*(str(each[name]) for name in COLUMNS[:4]), _told(each)], WIDTHS)


def _told(event: Fields) -> str:
    """What the fact says and the other columns do not, on one line."""
    fact = dict(event["fact"])
    del fact["type"]
    if fact.get("incarnation") == event["actor"]:
        del fact["incarnation"]
    if "entries" in fact:
        return "; ".join(map(_spend, fact["entries"]))
    words = [str(fact.pop("cap"))] if "cap" in fact else []
    definition = fact.pop("definition", {})
    return " ".join([*words, *_words(fact), *_words(definition)])


def _spend(entry: Fields) -> str:
    """What is told of one slice; totals that are 0 and `final`, where it is not, say nothing."""
    rest = {name: value for name, value in entry.items() if value or name in ("number", "spent")}
    cap = rest.pop("cap")
    return " ".join([cap, *_words(rest)])


def _words(fields: Fields) -> list[str]:
    return [
        f"{name}={_word(name, value)}"
        for name, value in fields.items()
        if value not in (None, {}, [])
    ]


def _word(name: str, value: object) -> str:
    if name in INSTANTS and isinstance(value, int):
        return format_instant(value)
    if isinstance(value, list):
        return ("." if name == "version" else ",").join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{key}:{each}" for key, each in value.items())
    return str(value)
