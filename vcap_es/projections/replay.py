"""Drives a projection from the log: fast at the start, then event by event, and loud when it stops.

A fact that cannot be folded is never skipped: what comes after it would be folded onto a state that
is not true. The projection stands still at the position before, and says so.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from vcap_es.errors import ProjectionStopped
from vcap_es.events.chain import Stored, verify
from vcap_es.events.codec import decode
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact
from vcap_es.events.log import EventLog, Head
from vcap_es.projections.snapshots import Discarded, head_of, restore
from vcap_es.projections.states.data_centre import Fold

REPLAY_CHUNK = 5000


class Projection(Protocol):
    """Whatever folds facts; a fact that cannot be folded raises and leaves it as it was."""

    def evolve(self, fact: Fact) -> None:
        """`fact` has become true."""
        ...


class Source(Protocol):
    """Batches of events in order, without a gap, as a `Subscription` gives them."""

    def __aiter__(self) -> AsyncIterator[Sequence[Recorded]]:
        """The next batch, and the next, for as long as there are any."""
        ...


class Lag(Struct, frozen=True, kw_only=True, gc=False):
    """How far a projection is behind its log: `events` to fold, the oldest at most `age_us` old."""

    events: int
    age_us: int


class Runner:
    """Folds what a source gives into a projection.

    `position` is that of the last event folded. `failed` is "" while all is well, and else says
    which event could not be folded and why; then nothing is folded any more.
    """

    def __init__(self, projection: Projection, source: Source, position: int = 0) -> None:
        self.position = position
        self.failed = ""
        self._projection = projection
        self._source = source
        self._current_at = 0

    async def run(self) -> None:
        """Fold until the source ends, or for ever.

        Raises ProjectionStopped at the first fact that cannot be folded, and again whenever it is
        called after that; a source that cannot be read raises what it raises.
        """
        if self.failed:
            raise ProjectionStopped(self.failed)
        async for batch in self._source:
            for event in batch:
                self._fold(event)

    def _fold(self, event: Recorded) -> None:
        try:
            evolve(self._projection, event.position, event.fact)
        except ProjectionStopped as stop:
            self.failed = str(stop)
            raise
        self.position = event.position
        self._current_at = event.recorded_at

    def lag(self, head: Head, now: int) -> Lag:
        """How far behind `head` this is at the instant `now` (microseconds UTC).

        Positions may have holes, so `events` is never too low.
        """
        events = max(0, head.position - self.position)
        if events == 0:
            self._current_at = max(self._current_at, now)
        return Lag(events=events, age_us=max(0, now - self._current_at) if events else 0)


def evolve(projection: Projection, position: int, fact: Fact) -> None:
    """Fold one fact. Raises ProjectionStopped, which names position, kind and cause."""
    try:
        projection.evolve(fact)
    except Exception as cause:  # whatever it is, the state must not go on
        reason = f"{type(cause).__name__}: {cause}"
        raise ProjectionStopped(
            f"the {type(fact).__name__} at position {position} cannot be folded ({reason}); nothing"
            f" after position {position - 1} is shown: verify the log, then upgrade or report it"
        ) from cause


async def replay(
    log: EventLog, projection: Projection, after: Head | None = None, until: int | None = None
) -> Head:
    """Fold what is on `log` after `after` (None: from the beginning), and say where it ended.

    `until` is the last position to fold (None: the last there is). Every link of the chain is
    checked on the way. Raises LogDamaged where it breaks and ProjectionStopped at a fact that
    cannot be folded.
    """
    head = after or Head()
    while chunk := await log.read_stored(head.position, limit=_room(head.position, until)):
        link = verify(chunk, head.link)
        for event in chunk:
            evolve(projection, event.position, decode(event.fact))
        head = Head(position=chunk[-1].position, epoch=chunk[-1].epoch, link=link)
    return head


def _room(position: int, until: int | None) -> int:
    """How many events to read at once behind `position`; 0 at `until`."""
    return REPLAY_CHUNK if until is None else max(0, min(REPLAY_CHUNK, until - position))


class Recovered(Struct, frozen=True, kw_only=True):
    """The state that a log gives, and the end of the log.

    `replayed_after` is the position that the replay went on from: 0, or that of the snapshot.
    `discarded` says why a snapshot was not used; "" where it was, or there was none.
    """

    fold: Fold
    head: Head
    replayed_after: int
    discarded: str


async def recover(
    log: EventLog, snapshot: bytes | None = None, until: int | None = None
) -> Recovered:
    """The state of `log`: from a snapshot if it fits, and by replay of the rest up to `until`.

    A snapshot that does not fit is discarded and the whole log replayed. One that was taken behind
    `until` holds all the same: only what is committed is ever folded. Raises like `replay`.
    """
    if snapshot is None:
        return await _replayed(log, Fold(), Head(), until, "")
    head = head_of(snapshot)
    if isinstance(head, Discarded):
        return await _replayed(log, Fold(), Head(), until, head.reason)
    restored = restore(snapshot, await link_at(log, head.position))
    if isinstance(restored, Discarded):
        return await _replayed(log, Fold(), Head(), until, restored.reason)
    return await _replayed(log, Fold(restored.state), restored.head, until, "")


async def _replayed(
    log: EventLog, fold: Fold, after: Head, until: int | None, discarded: str
) -> Recovered:
    head = await replay(log, fold, after, until)
    return Recovered(fold=fold, head=head, replayed_after=after.position, discarded=discarded)


async def link_at(log: EventLog, position: int) -> bytes | None:
    """The link of the event at `position`; None where there is none. Before the first: genesis."""
    if position == 0:
        return Head().link
    found: list[Stored] = await log.read_stored(position - 1, limit=1)
    return found[0].link if found and found[0].position == position else None
