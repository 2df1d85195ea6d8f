"""Who has yet to hear of a changed definition: its answer waits for them, but not for ever.

A change that is answered holds everywhere, or the answer names the servers and data centres that
may serve on by the definition before, and the instant at which they surely stop.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct

from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.messages.server import Unheard
from vcap_es.components.remote_handler.serving import Serving
from vcap_es.events.facts import (
    Fact,
    HomeMoved,
    IntervalBounded,
    IntervalEnded,
    MetaChanged,
    MetaDefined,
    MetaPaused,
    MetaResumed,
    MetaRetired,
)

CONFIRM_US = 2_000_000
"""Microseconds that an answer waits for those connected or heard; then it names who may serve on.
"""

T = TypeVar("T")

_Change = MetaDefined | MetaChanged | MetaPaused | MetaResumed | MetaRetired | HomeMoved
_TAKES_AWAY = MetaPaused | MetaRetired | IntervalBounded | IntervalEnded


class Waiting(Struct, frozen=True):
    """An answer that waits for who serves a cap, until `until` at the latest."""

    cap: str
    facts: list[Fact]
    until: int


class Confirmations(Generic[T]):
    """The answers that wait, by who asked, in the order of their commits."""

    def __init__(self, locals_: LocalHandler, serving: Serving) -> None:
        self._locals, self._serving = locals_, serving
        self._waiting: dict[int, tuple[T, Waiting]] = {}
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether time alone may let an answer go."""
        return bool(self._waiting)

    def awaits(self, facts: list[Fact], now: int) -> Waiting | None:
        """What an answer to these facts has to wait for; None where nothing."""
        change = _change_in(facts)
        if change is None or not self._is_awaited(change.cap):
            return None
        return Waiting(change.cap, facts, now + CONFIRM_US)

    def wait(self, asked: T, waiting: Waiting) -> None:
        """Let an answer wait."""
        self._count += 1
        self._waiting[self._count] = asked, waiting

    def release(self, now: int) -> Iterator[T]:
        """The answers that may go now."""
        for number, (asked, waiting) in list(self._waiting.items()):
            if now >= waiting.until or not self._is_awaited(waiting.cap):
                del self._waiting[number]
                yield asked

    def unheard(self, facts: list[Fact], now: int, name_of: Callable[[str], str]) -> list[Unheard]:
        """Who may serve on what these facts have taken away, and until when.

        Another data centre serves by the definition before, whatever has changed.
        """
        taken = next((each for each in facts if isinstance(each, _TAKES_AWAY)), None)
        holders = {} if taken is None else self._locals.holders(taken.cap, now)
        change = _change_in(facts)
        centres = {} if change is None else self._serving.unheard(change.cap)
        return [
            *(
                Unheard(server=each, name=name_of(each), until=until)
                for each, until in sorted(holders.items())
            ),
            *(
                Unheard(server="", name="", until=until, centre=each)
                for each, until in sorted(centres.items())
            ),
        ]

    def _is_awaited(self, cap: str) -> bool:
        """Whether somebody who can be reached has yet to hear of the definition of a cap."""
        return bool(self._locals.unheard(cap)) or self._serving.awaited(cap)


def _change_in(facts: list[Fact]) -> _Change | None:
    return next((each for each in facts if isinstance(each, _Change)), None)
