"""What can be found out from one log: its pages, and the index that says where to begin.

Everything here goes step by step: a generator that yields after each page of the log, so that
whoever drives several of them can share the machine among them, and let go of any.
"""

from bisect import bisect_right
from collections.abc import Generator
from typing import Any, TypeVar

from vcap_es.adapters.past.index import ClosedInterval, Index
from vcap_es.errors import RequestRefused
from vcap_es.events.consume_ids import ConsumeId
from vcap_es.events.logs.sqlite_pages import SqlitePages
from vcap_es.projections.consumes import Lifetime, Purse, Trail
from vcap_es.projections.explanations import not_open
from vcap_es.projections.lives import CapLife, IntervalLedger
from vcap_es.projections.states.interval import Interval

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Yields after each page, and gives what was found at the end."""

AnySteps = Generator[Any, Any, T]


class Archive:
    """The past of one log. Nothing after the `until` of a question is ever looked at."""

    def __init__(self, pages: SqlitePages, index: Index) -> None:
        self.pages, self.index = pages, index

    def life(self, cap: str, until: int, at: int | None = None) -> Steps[CapLife]:
        """The life of `cap` after its last event up to `until`, and before the first after `at`."""
        life = self.index.chapter(cap, until, at)
        yield from self.read_on(life, until, at, keeps=True)
        return life

    def read_on(
        self, life: CapLife, until: int, at: int | None = None, *, keeps: bool = False
    ) -> Steps[None]:
        """Let `life` go on; what closes stays in it, unless chapters are kept on the way."""
        after, events = life.position, 0
        while after < until:
            page = self.pages.of_cap(life.cap, after, until)
            for event in page.events:
                if at is not None and event.recorded_at > at:
                    return
                life.feed(event)
                events += 1
                if keeps and events >= self.index.apart(life.cap):
                    self.index.keep(life, event.link)
                    events = 0
            after = page.reached
            yield

    def known_life(self, cap: str, until: int) -> Steps[CapLife]:
        """The life of `cap`; raises RequestRefused where there is no such cap."""
        life = yield from self.life(cap, until)
        if life.meta is None:
            raise unknown(cap)
        return life

    def check_known(self, cap: str, until: int) -> None:
        """Raise RequestRefused where there is no such cap."""
        page = self.pages.of_cap(cap, 0, until, limit=1)
        if not page.events:
            raise unknown(cap)

    # ---- intervals

    def intervals(self, cap: str, until: int, behind: int, limit: int) -> Steps[list[Interval]]:
        """Up to `limit` intervals that `cap` ever had, with numbers above `behind`, in order."""
        life = yield from self.known_life(cap, until)
        assert life.meta is not None, "the cap is known"
        kept = self.index.closed(cap, until, behind=behind, limit=limit)
        late = [*(each.interval for each in life.closed), *life.meta.intervals]
        found = {each.interval.number: each.interval for each in kept}
        found.update({each.number: each for each in late if each.number > behind})
        return [found[number] for number in sorted(found)[:limit]]

    def bounds(self, cap: str, number: int, until: int) -> Steps[ClosedInterval | None]:
        """Where the interval `number` begins, and ends at the latest; None where it never opened.

        Of one that is not closed by then, `closed` is the last event of the cap.
        """
        found = self.index.closed_one(cap, number, until)
        if found is not None:
            return found
        life = yield from self.known_life(cap, until)
        assert life.meta is not None, "the cap is known"
        if number >= life.meta.next_number:
            raise RequestRefused("not_found", f"{cap} has had no interval {number}")
        for each in life.closed:
            if each.interval.number == number:
                return ClosedInterval(each.ledger.opened, each.closed, each.interval, each.ledger)
        interval, ledger = life.meta.interval(number), life.ledgers.get(number)
        if interval is None or ledger is None:
            return self.index.closed_one(cap, number, until)  # kept while the life was read
        return ClosedInterval(ledger.opened, life.position, interval, ledger)

    def books_at(self, cap: str, at: int, until: int) -> Steps[tuple[Interval, IntervalLedger]]:
        """The interval whose period contains the instant `at`, as it was then, and its ledger."""
        life = yield from self.life(cap, until, at)
        if life.meta is None:
            self.check_known(cap, until)
            raise not_open(cap, at)
        found: dict[int, ClosedInterval] = {}
        kept = self.index.closed_at(cap, at, life.position)
        if kept is not None:
            found[kept.interval.number] = kept
        for each in life.closed:
            number = each.interval.number
            found[number] = ClosedInterval(
                each.ledger.opened, each.closed, each.interval, each.ledger
            )
        for interval in life.meta.intervals:
            ledger = life.ledgers[interval.number]
            found[interval.number] = ClosedInterval(ledger.opened, life.position, interval, ledger)
        for number in sorted(found):
            bounds = found[number]
            if bounds.interval.start <= at < bounds.interval.end:
                return bounds.interval, (yield from self.ledger(cap, bounds))
        raise not_open(cap, at)

    def ledger(self, cap: str, bounds: ClosedInterval) -> Steps[IntervalLedger]:
        """The ledger of an interval: the one that was kept, or read again."""
        if bounds.ledger is not None:
            return bounds.ledger
        life = self.index.chapter(cap, bounds.opened - 1)
        yield from self.read_on(life, bounds.closed)
        (found,) = (each for each in life.closed if each.closed == bounds.closed)
        return found.ledger

    # ---- one consume

    def trail(self, wanted: ConsumeId, until: int) -> Steps[Trail]:
        """What the log knows of one consume: read where it was given out and told of, no more."""
        trail, cap = Trail(wanted), wanted.cap
        try:
            bounds = yield from self.bounds(cap, wanted.number, until)
        except RequestRefused as refused:
            if refused.code != "not_found":
                raise
            bounds = None  # an id may say anything
        if bounds is None:
            return trail
        chapters = self.index.positions(cap, bounds.opened - 1, bounds.closed)
        position = bounds.opened - 1
        while position < bounds.closed:
            if trail.is_told and bounds.ledger is not None:
                trail.lifetime, trail.purse = _known(bounds.ledger, wanted)
                break
            position = self._leap(trail, chapters, position)
            page = self.pages.of_cap(cap, position, bounds.closed)
            for event in page.events:
                trail.feed(event)
            position = page.reached
            yield
        return trail

    def _leap(self, trail: Trail, chapters: list[int], position: int) -> int:
        """Bring `trail` on to the last chapter at which nothing of the consume is told besides."""
        wanted = trail.wanted
        told = max(trail.purse.spent, wanted.start)
        found: tuple[int, IntervalLedger] | None = None

        def is_beyond(chapter: int) -> bool:
            nonlocal found
            life = self.index.chapter(wanted.cap, chapter)
            ledger = life.ledgers.get(wanted.number)
            if ledger is None or _known(ledger, wanted)[1].spent > told:
                return True
            found = (life.position, ledger)
            return False

        first = bisect_right(chapters, position)
        bisect_right(chapters, 0, lo=first, key=is_beyond)
        if found is None or found[0] <= position:
            return position
        trail.lifetime, trail.purse = _known(found[1], wanted)
        return found[0]


def _known(ledger: IntervalLedger, wanted: ConsumeId) -> tuple[Lifetime, Purse]:
    return ledger.lifetime, ledger.purses.get(wanted.incarnation) or Purse()


def unknown(cap: str) -> RequestRefused:
    """What is raised where a cap was never defined."""
    return RequestRefused("unknown_cap", f"no cap {cap}: define it first")
