"""The answers to questions about the past, as the bytes that are sent to whoever asked.

An answer is a generator: it yields None after each page of the log that it has read, `Sheet` for
each part of the answer, and `Lookup` where it must be told something of the present; the last
sheet ends it. An error that it raises is the answer.
"""

from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vcap_es.adapters.http.callers import Scopes
from vcap_es.adapters.http.shapes.caps import Intervals, balances_of, books_of
from vcap_es.adapters.http.shapes.events import Event, Problematic, Verification, event_of
from vcap_es.adapters.http.shapes.statements import consume_explanation_of, explanation_of, line_of
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.messages import (
    AnyQuestion,
    BalancesThen,
    ConsumeOf,
    EventsOf,
    IntervalsOf,
    LogPage,
    OneEvent,
    Question,
    ReasonsOf,
    StatementOf,
    StreamPage,
    Verify,
)
from vcap_es.errors import InvalidInput, LogDamaged, RequestRefused
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import caps_of, part_of
from vcap_es.events.logs.sqlite_pages import PAGE_EVENTS, Page
from vcap_es.events.schemas import noun_of
from vcap_es.projections.balances import interval_balance
from vcap_es.projections.explanations import reasons_of
from vcap_es.projections.statement import Statement
from vcap_es.projections.verification import Verification as Books

SHEET_BYTES = 64 * 1024
"""A part of a long answer is sent as soon as it has this many bytes."""

STEP_EVENTS = 200
"""Events that are read and shown in one step: others who ask wait for no more than that."""

STREAM_STEPS = 50
"""A stream says how far it has come after this many steps that found nothing for it."""

EVENTS_BYTES_MAX = 4 * 2**20
"""A page of events ends with the one that brings it to this many bytes, whatever its limit."""


class Sheet(Struct, frozen=True, gc=False):
    """A part of an answer; `next` is where to go on with another question."""

    body: bytes
    is_last: bool = True
    next: int | None = None


class Lookup(Struct, frozen=True, gc=False):
    """What servers are called, or the groups of caps, is to be told, by these names."""

    what: Literal["names", "groups"]
    of: list[str]


Answer = Generator[Sheet | Lookup | None, Mapping[str, str], None]


def answer(archive: Archive, question: AnyQuestion, until: int) -> Answer:
    """The answer to `question` from what is on the log up to `until`."""
    return _ANSWERS[type(question)](archive, question, until)


# ---- one cap


def _balances(archive: Archive, asked: BalancesThen, until: int) -> Answer:
    position = until if asked.position is None else asked.position
    if position > until:
        raise InvalidInput(f"position {position} is not written yet: the log ends at {until}")
    life = yield from archive.life(asked.cap, position, asked.at)
    if life.meta is None:
        raise RequestRefused("unknown_cap", f"there was no cap {asked.cap} by then")
    yield Sheet(msgspec.json.encode(balances_of(life.meta, life.position)))


def _intervals(archive: Archive, asked: IntervalsOf, until: int) -> Answer:
    # One more than is asked for tells that there is another.
    limit = asked.limit + 1
    found = yield from archive.intervals(asked.cap, until, asked.behind, limit)
    page = [books_of(interval_balance(each)) for each in found[: asked.limit]]
    behind = page[-1].number if len(found) > asked.limit else None
    cursor = None if behind is None else str(behind)
    shown = Intervals(id=asked.cap, intervals=page, next=cursor)
    yield Sheet(msgspec.json.encode(shown), next=behind)


def _statement(archive: Archive, asked: StatementOf, until: int) -> Answer:
    cap, number = asked.cap, asked.interval
    statement, after = Statement(cap), 0
    if number is None:
        archive.check_known(cap, until)
    else:
        bounds = yield from archive.bounds(cap, number, until)
        if bounds is None:
            after = until  # its number was left out
        else:
            life = archive.index.chapter(cap, bounds.opened - 1)
            yield from archive.read_on(life, bounds.opened - 1)
            statement, after, until = life.statement, bounds.opened - 1, bounds.closed
    body, comma = bytearray(b'{"id":' + msgspec.json.encode(cap) + b',"lines":['), b""
    while after < until:
        page = archive.pages.of_cap(cap, after, until, limit=STEP_EVENTS)
        for event in page.events:
            for line in statement.feed(event):
                if number in (None, line.number):
                    body += comma + msgspec.json.encode(line_of(line))
                    comma = b",\n"
            if len(body) >= SHEET_BYTES:
                yield Sheet(bytes(body), is_last=False)
                body.clear()
        after = page.reached
        yield None
    yield Sheet(bytes(body) + b"]}\n")


def _reasons(archive: Archive, asked: ReasonsOf, until: int) -> Answer:
    interval, ledger = yield from archive.books_at(asked.cap, asked.at, until)
    servers = sorted({each for place in ledger.tallies.values() for each in place if each})
    names = yield Lookup("names", servers)
    told = explanation_of(asked.cap, reasons_of(interval, ledger.tallies, names))
    yield Sheet(msgspec.json.encode(told))


def _consume(archive: Archive, asked: ConsumeOf, until: int) -> Answer:
    wanted = parse_consume_id(asked.consume)
    trail = yield from archive.trail(wanted, until)
    names = yield Lookup("names", [wanted.incarnation])
    told = consume_explanation_of(asked.cap, trail.explanation(names))
    yield Sheet(msgspec.json.encode(told))


def _events(archive: Archive, asked: EventsOf, until: int) -> Answer:
    archive.check_known(asked.cap, until)
    body, after = bytearray(), 0
    while after < until:
        page = archive.pages.of_cap(asked.cap, after, until, limit=STEP_EVENTS)
        for event in page.events:
            body += msgspec.json.encode(event_of(event, part_of(event.fact, {asked.cap}))) + b"\n"
            if len(body) >= SHEET_BYTES:
                yield Sheet(bytes(body), is_last=False)
                body.clear()
        after = page.reached
        yield None
    yield Sheet(bytes(body))


# ---- the log


class _Sight:
    """What of the events may be seen: by key, and only of `cap` where one is asked for.

    A fact that speaks of no cap is of the whole data centre: it takes a key that opens all.
    """

    def __init__(self, scopes: list[str] | None, cap: str | None) -> None:
        self._scopes = None if scopes is None else Scopes(scopes)
        self._cap = cap
        self._groups: dict[str, str | None] = {}

    def learn(self, events: list[Recorded]) -> Answer:
        """Ask for the groups of the caps that only their group may open."""
        scopes = self._scopes
        if self._cap is not None or scopes is None or not scopes.has_groups:
            return
        caps = {cap for event in events for cap in caps_of(event.fact)}
        wanted = sorted(
            cap for cap in caps if cap not in self._groups and not scopes.hold(cap, None)
        )
        if wanted:
            told = yield Lookup("groups", wanted)
            self._groups.update({cap: told.get(cap) for cap in wanted})

    def shown(self, event: Recorded) -> Event | None:
        """The event as far as it may be seen; None where nothing of it may."""
        if self._cap is None and self._scopes is None:
            return event_of(event, event.fact)
        caps = {each for each in caps_of(event.fact) if self._opens(each)}
        return event_of(event, part_of(event.fact, caps)) if caps else None

    def _opens(self, cap: str) -> bool:
        if self._cap is not None:
            return cap == self._cap  # whether the key opens that one was looked at
        return self._scopes is None or self._scopes.hold(cap, self._groups.get(cap))


def _read(
    archive: Archive, asked: LogPage | StreamPage, after: int, until: int, limit: int
) -> Page[Recorded]:
    if asked.cap is not None:
        return archive.pages.of_cap(asked.cap, after, until, limit=limit, kind=asked.kind)
    return archive.pages.events(after, until, limit=limit, kind=asked.kind)


def _log_page(archive: Archive, asked: LogPage, until: int) -> Answer:
    sight, after, found, size = _Sight(asked.scopes, asked.cap), asked.after, 0, 0
    shown: list[bytes] = []
    while after < until and found < asked.limit and size < EVENTS_BYTES_MAX:
        limit = PAGE_EVENTS if asked.kind else min(PAGE_EVENTS, asked.limit - found)
        page = _read(archive, asked, after, until, limit)
        yield from sight.learn(page.events)
        after = page.reached
        for event in page.events:
            seen = sight.shown(event)
            if seen is not None:
                shown.append(msgspec.json.encode(seen))
                size += len(shown[-1])
            found += 1
            if found == asked.limit or size >= EVENTS_BYTES_MAX:
                after = event.position
                break
        yield None
    behind = after if after < until else None
    body = {"events": [msgspec.Raw(each) for each in shown], "head": until, "next": behind}
    yield Sheet(msgspec.json.encode(body), next=behind)


def _one_event(archive: Archive, asked: OneEvent, until: int) -> Answer:
    position = asked.position
    events: list[Recorded] = []
    if 0 < position <= until:
        events = archive.pages.events(position - 1, position, limit=1).events
    sight = _Sight(asked.scopes, None)
    yield from sight.learn(events)
    shown = [seen for seen in map(sight.shown, events) if seen is not None]
    if not shown:
        raise RequestRefused("not_found", f"no event at position {position} that your key opens")
    yield Sheet(msgspec.json.encode(shown[0]))


def _stream_page(archive: Archive, asked: StreamPage, until: int) -> Answer:
    sight, after, body = _Sight(asked.scopes, asked.cap), asked.after, bytearray()
    for _ in range(STREAM_STEPS):
        if after >= until or len(body) >= SHEET_BYTES:
            break
        page = _read(archive, asked, after, until, STEP_EVENTS)
        yield from sight.learn(page.events)
        for event in page.events:
            if asked.noun in (None, noun_of(type(event.fact))):
                seen = sight.shown(event)
                body += b"" if seen is None else sent(seen)
        after = page.reached
        yield None
    yield Sheet(bytes(body), next=after)


def sent(event: Event) -> bytes:
    """An event as a stream of server-sent events has it; its id is its position."""
    data = msgspec.json.encode(event)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.kind.encode(), data)


def _verify(archive: Archive, _: Verify, until: int) -> Answer:
    books, after = Books(), 0
    while after < until and not books.is_over:
        stored = archive.pages.stored(after, until, limit=PAGE_EVENTS)
        if not stored.events:
            books.broken(f"the log ends before position {until}, which was written")
            break
        books.feed_links(stored.events)
        last = stored.events[-1].position
        try:
            while after < last:
                page = archive.pages.events(after, last)
                books.feed_books(page.events)
                after = page.reached
        except LogDamaged as damage:
            books.broken(str(damage))
        yield None
    flaws = [
        Problematic(position=each.position, rule=each.rule, detail=each.detail)
        for each in books.flaws()
    ]
    verdict = Verification(
        sound=not flaws, position=books.position, link=books.link.hex(), findings=flaws
    )
    yield Sheet(msgspec.json.encode(verdict))


_ANSWERS: dict[type[Question], Callable[[Archive, Any, int], Answer]] = {
    BalancesThen: _balances,
    IntervalsOf: _intervals,
    StatementOf: _statement,
    ReasonsOf: _reasons,
    ConsumeOf: _consume,
    EventsOf: _events,
    LogPage: _log_page,
    OneEvent: _one_event,
    StreamPage: _stream_page,
    Verify: _verify,
}
