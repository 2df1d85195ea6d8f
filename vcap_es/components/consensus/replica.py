"""One master's copy of the log, as far as it must be in memory: its end, and what is not folded.

Whoever leads or follows extends it; the shell stores what was added, in order, and says when that
is durable. Only what is committed is folded, so a fold never has to be taken back.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from vcap_es.components.consensus.window import RECENT_ENTRIES
from vcap_es.events.chain import Stored
from vcap_es.events.codec import decode
from vcap_es.events.log import Head
from vcap_es.projections.replay import evolve
from vcap_es.projections.states.data_centre import Fold


class StoredLog(Struct, kw_only=True):
    """What a master finds on its log when it starts.

    `fold` is the state up to `folded`, which is not above `committed`; `tail` the events behind
    `folded` up to `head`; `history` the last position of each epoch; `recorded_at` the stamp of
    the last event, 0 where there is none.
    """

    head: Head
    committed: int
    fold: Fold
    folded: Head
    tail: list[Stored]
    history: list[tuple[int, int]]
    recorded_at: int = 0


class Store(Struct, frozen=True, gc=False):
    """Append these events to the log, durably; all up to `committed` is committed."""

    entries: list[Stored]
    committed: int


class Cut(Struct, frozen=True, gc=False):
    """Set aside all events after the position `after`; nobody was ever told of them."""

    after: int


class Replica:
    """The log's end here: `head` is durable, `end` has what is being stored as well."""

    def __init__(self, held: StoredLog, recent: int = RECENT_ENTRIES) -> None:
        """Go on where the log left off, and keep so many `recent` events at hand."""
        self.head = self.end = held.head
        self.committed = self._mark = held.committed
        self.fold = held.fold
        self.history = list(held.history)
        self.recorded_at = held.recorded_at
        self.is_leading = False
        self._base, self._recent_max = held.folded, recent
        self._recent: deque[Stored] = deque(held.tail)
        self._folded = held.folded.position
        self._under_way: deque[Head | None] = deque()
        assert len(held.tail) == held.head.position - held.folded.position, "the tail has a gap"
        assert held.folded.position <= held.committed <= held.head.position

    # ---- what is there

    @property
    def base(self) -> Head:
        """The event before the first one that is at hand."""
        return self._base

    @property
    def is_storing(self) -> bool:
        """Whether the shell has not answered for everything yet."""
        return bool(self._under_way)

    @property
    def unfolded(self) -> int:
        """How many events of the log are not in the fold."""
        return self.end.position - self._folded

    def link_at(self, position: int) -> bytes | None:
        """The link of the event at `position`, if that is at hand."""
        if position == self._base.position:
            return self._base.link
        if not self._base.position < position <= self.end.position:
            return None
        return self._recent[position - self._base.position - 1].link

    def epoch_at(self, position: int) -> int:
        """The epoch of the event at `position`; 0 for the beginning of the log."""
        if not position:
            return 0
        at = bisect_left(self.history, position, key=lambda each: each[1])
        return self.history[at][0]

    def entries(self, after: int, limit: int) -> list[Stored]:
        """Up to `limit` events after `after`, which must be at hand."""
        start = after - self._base.position
        assert start >= 0, f"the events behind {after} are not at hand"
        return list(islice(self._recent, start, start + limit))

    # ---- what changes

    def extend(self, entries: Sequence[Stored]) -> Store:
        """Add events at the end."""
        for entry in entries:
            assert entry.position == self.end.position + 1, "events are added without a gap"
            self._note_epoch(entry.epoch, entry.position)
            self._recent.append(entry)
            self.end = Head(position=entry.position, epoch=entry.epoch, link=entry.link)
        if entries:
            self.recorded_at = max(self.recorded_at, entries[-1].recorded_at)
        self._under_way.append(self.end)
        self._mark = self.committed
        return Store(list(entries), self.committed)

    def remember(self) -> Store | None:
        """Let the log know what is committed, where it does not and nothing is being stored."""
        return None if self.is_storing or self._mark >= self.committed else self.extend([])

    def stored(self) -> None:
        """The oldest store is durable."""
        head = self._under_way.popleft()
        if head is not None:
            self.head = head

    def cut(self, after: int) -> Cut:
        """Set aside what is after `after`: nothing of it was ever committed."""
        assert after >= self.committed, "what is committed is never set aside"
        while self._recent and self._recent[-1].position > after:
            self._recent.pop()
        last = self._recent[-1] if self._recent else None
        self.end = (
            self._base
            if last is None
            else Head(position=last.position, epoch=last.epoch, link=last.link)
        )
        self._under_way = deque(
            each if each and each.position <= after else None for each in self._under_way
        )
        if self.head.position > after:
            self.head = self.end
        self._under_way.append(None)
        self.history = [each for each in self.history if each[0] <= self.end.epoch]
        if self.history and self.end.position:
            self.history[-1] = (self.end.epoch, self.end.position)
        return Cut(after)

    def was_cut(self) -> None:
        """The oldest cut is done."""
        done = self._under_way.popleft()
        assert done is None

    def commit(self, position: int) -> None:
        """Everything up to `position` is committed here: fold it, unless it was folded already."""
        self.committed = max(self.committed, min(position, self.end.position))
        if not self.is_leading:
            self._fold(self.committed)
        self._trim()

    def lead(self) -> None:
        """From here on what is added was folded when it was decided; fold what was not yet."""
        self._fold(self.end.position)
        self.is_leading = True

    def follow(self) -> None:
        """Lead no more, with everything that was decided on the log and committed."""
        assert self.committed == self.end.position, "a fold with more than the log must go"
        self._folded = self.committed
        self.is_leading = False

    def _fold(self, until: int) -> None:
        start = self._folded - self._base.position
        for entry in islice(self._recent, start, until - self._base.position):
            evolve(self.fold, entry.position, decode(entry.fact))
        self._folded = max(self._folded, until)

    def _trim(self) -> None:
        """Let go of what is folded and durable, but for the last few thousand."""
        keep_from = min(self.committed, self.head.position, self.end.position - self._recent_max)
        while self._base.position < keep_from:
            entry = self._recent.popleft()
            self._base = Head(position=entry.position, epoch=entry.epoch, link=entry.link)

    def _note_epoch(self, epoch: int, position: int) -> None:
        if self.history and self.history[-1][0] == epoch:
            self.history[-1] = (epoch, position)
        else:
            self.history.append((epoch, position))


def common_position(own: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> int:
    """The last position that two logs surely share, by the last positions of their epochs.

    An epoch has one leader, so logs agree up to the lesser of its ends (KIP-101).
    """
    ends = dict(own)
    for epoch, last in reversed(other):
        if epoch in ends:
            return min(last, ends[epoch])
    return 0
