"""Who has yet to hear of a changed definition: its answer waits for them, but not for ever.

A change that is answered holds everywhere, or the answer names the servers that may serve on by the
definition before, and the instant at which they surely stop.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct

from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.messages.server import Unheard
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
"""An answer waits so long for servers that are connected; then it names those that may serve on."""

T = TypeVar("T")

_CHANGES = MetaDefined | MetaChanged | MetaPaused | MetaResumed | MetaRetired | HomeMoved
_TAKES_AWAY = MetaPaused | MetaRetired | IntervalBounded | IntervalEnded


class Waiting(Struct, frozen=True):
    """An answer that waits for the servers of a cap, until `until` at the latest."""

    cap: str
    facts: list[Fact]
    until: int


class Confirmations(Generic[T]):
    """The answers that wait, by who asked, in the order of their commits."""

    def __init__(self, locals_: LocalHandler) -> None:
        self._locals = locals_
        self._waiting: dict[int, tuple[T, Waiting]] = {}
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether time alone may let an answer go."""
        return bool(self._waiting)

    def awaits(self, facts: list[Fact], now: int) -> Waiting | None:
        """What an answer to these facts has to wait for; None where nothing."""
        change = next((each for each in facts if isinstance(each, _CHANGES)), None)
        if change is None or not self._locals.unheard(change.cap):
            return None
        return Waiting(change.cap, facts, now + CONFIRM_US)

    def wait(self, asked: T, waiting: Waiting) -> None:
        """Let an answer wait."""
        self._count += 1
        self._waiting[self._count] = asked, waiting

    def release(self, now: int) -> Iterator[T]:
        """The answers that may go now."""
        for number, (asked, waiting) in list(self._waiting.items()):
            if now >= waiting.until or not self._locals.unheard(waiting.cap):
                del self._waiting[number]
                yield asked

    def unheard(self, facts: list[Fact], now: int, name_of: Callable[[str], str]) -> list[Unheard]:
        """Who may serve on what these facts have taken away, and until when."""
        taken = next((each for each in facts if isinstance(each, _TAKES_AWAY)), None)
        if taken is None:
            return []
        holders = self._locals.holders(taken.cap, now)
        return [
            Unheard(server=each, name=name_of(each), until=until)
            for each, until in sorted(holders.items())
        ]
