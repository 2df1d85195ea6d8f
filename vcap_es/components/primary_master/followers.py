"""Where each follower's copy stands, and what it is sent next.

A connection delivers in order or breaks, so nothing is sent twice to a follower that does not say
that it lacks it. Who is silent for a while is asked, in a message without events, what it has; its
answer tells where to go on. Whatever is waited for is asked for again after a while, and a late or
second answer changes nothing that a first one would not.
"""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.components.consensus.replica import Replica, common_position
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.components.messages.master import (
    BYTES_PER_MESSAGE,
    Append,
    Appended,
    Mismatch,
)
from vcap_es.events.chain import Stored

MESSAGES_UNDER_WAY_MAX = 32

DOUBLINGS_MAX = 4
"""How often, at most, the pause is doubled after something was asked for in vain."""

Tell = Callable[[str, Append], None]
Fetch = Callable[[str, int, int], None]


class Follower(Struct):
    """One follower of this leader.

    `match` is the last position that it surely has, `agreed` the last at which the logs agree as
    far as it told, and `next` the one after which sending goes on;
    `sequence` counts what was sent and `confirmed` is the last of it that was answered. While
    `is_probing`, it is not known where the logs agree. `turned` is the last that was sent before
    sending went back. `moved_ns` is when it last got on, or had nothing to do.

    `asked_ns` is since when an answer is waited for, and `asks` how often it was asked for in vain.
    `fetches` is how often the events after `next` were asked of the log, last at `fetching_ns`;
    both are 0 while they are not awaited.

    `put_offs` is how often it took too long to be let in sync, which is not tried before
    `put_off_ns`.
    """

    node: str
    next: int
    moved_ns: int
    heard_ns: int
    match: int = 0
    agreed: int = 0
    sequence: int = 0
    confirmed: int = 0
    turned: int = 0
    is_probing: bool = True
    is_linked: bool = True
    gone_ns: int = 0
    asked_ns: int = 0
    asks: int = 0
    fetching_ns: int = 0
    fetches: int = 0
    put_offs: int = 0
    put_off_ns: int = 0

    @property
    def is_outstanding(self) -> bool:
        """Whether something sent was not answered yet."""
        return self.confirmed < self.sequence

    @property
    def is_awaited(self) -> bool:
        """Whether it has not told that it has everything that it was sent."""
        return self.is_probing or self.is_outstanding or self.match < self.next

    @property
    def is_at_rest(self) -> bool:
        """Whether it has everything that it was sent, and nothing is fetched for it."""
        return not (self.is_awaited or self.fetches)

    def go_to(self, position: int) -> None:
        """Send what is after this position next; a fetch for another one is awaited no more."""
        if position != self.next:
            self.next = position
            self.has_fetched()

    def has_fetched(self) -> None:
        """Nothing is fetched for it any more."""
        self.fetches = self.fetching_ns = 0


class Followers:
    """All followers of one leader in one epoch."""

    def __init__(
        self,
        epoch: int,
        replica: Replica,
        tell: Tell,
        fetch: Fetch,
        patience_ns: int,
        window: LogWindow = WINDOW,
    ) -> None:
        """Send what `replica` has at hand by `tell`; have older events fetched by `fetch`.

        What does not come for `patience_ns` nanoseconds is asked for again.
        """
        self.known: dict[str, Follower] = {}
        self._epoch, self._replica = epoch, replica
        self._tell, self._fetch = tell, fetch
        self._patience_ns, self._window = patience_ns, window

    def linked(self, node: str, now_ns: int) -> None:
        """A follower is connected, or connected anew: ask whether it has our last event."""
        end = self._replica.end.position
        found = self.known.setdefault(node, Follower(node, end, now_ns, now_ns))
        found.is_linked = found.is_probing = True
        found.moved_ns = found.heard_ns = now_ns
        found.go_to(end)
        self._question(found, now_ns)

    def rerouted(self, node: str, now_ns: int) -> None:
        """The connection on which it was sent to is gone, and there is another one."""
        if node in self.known:
            self.linked(node, now_ns)

    def unlinked(self, node: str, now_ns: int) -> None:
        """Its connection is gone."""
        found = self.known.get(node)
        if found is not None:
            found.is_linked, found.gone_ns = False, now_ns

    def heard(self, node: str, now_ns: int) -> None:
        """It gave a sign of life."""
        found = self.known.get(node)
        if found is not None:
            found.heard_ns = now_ns

    def appended(self, node: str, message: Appended, now_ns: int) -> None:
        """It has everything up to a position, durably."""
        found = self.known.get(node)
        if found is None or message.epoch != self._epoch:
            return
        assert message.position <= self._replica.end.position, "it has what was never sent"
        found.heard_ns = now_ns
        if message.position > found.match or message.sequence > found.confirmed:
            _got_on(found, now_ns)
        found.is_probing = False
        found.match = max(found.match, message.position)
        found.agreed = max(found.agreed, found.match)
        found.confirmed = max(found.confirmed, message.sequence)
        found.go_to(max(found.next, found.match))
        self.pump(found, now_ns)

    def mismatched(self, node: str, message: Mismatch, now_ns: int) -> None:
        """It has not the event that we asked for: go on from where the logs surely agree.

        A disk may have lost what it had acknowledged: that is sent again, and waited for again.
        What was sent before sending went back for this very reason says nothing new.
        """
        found = self.known.get(node)
        if found is None or message.epoch != self._epoch or message.sequence <= found.confirmed:
            return
        found.heard_ns = now_ns
        _got_on(found, now_ns)
        found.confirmed = message.sequence
        common = common_position(self._replica.history, message.history)
        found.match = min(found.match, common)
        if message.sequence > found.turned:
            found.turned = found.sequence
            found.agreed = common
            found.is_probing = False
            found.go_to(common)
        self.pump(found, now_ns)

    def fetched(
        self, node: str, after: int, link: bytes, entries: list[Stored], now_ns: int
    ) -> None:
        """Older events have come from the log; nothing happens where they are not awaited."""
        found = self.known.get(node)
        if found is None or not found.is_linked or not found.fetches or found.next != after:
            return
        found.has_fetched()
        if entries:
            self._append(found, after, link, _fitting(entries), now_ns)
        self.pump(found, now_ns)

    def pump(self, found: Follower, now_ns: int) -> None:
        """Send what it has not, as far as it may be under way."""
        if found.is_at_rest:
            found.moved_ns = now_ns
        while self._may_send(found):
            if found.next < self._replica.base.position:
                self._fetch_once(found, now_ns)
                return
            link = self._replica.link_at(found.next)
            assert link is not None, "what is at hand has a link"
            entries = self._replica.entries(found.next, self._window.message)
            self._append(found, found.next, link, _fitting(entries), now_ns)

    def ask(self, node: str, now_ns: int) -> int:
        """Send what is new, or ask without; gives the sequence whose answer says it was heard."""
        found = self.known[node]
        before = found.sequence
        self.pump(found, now_ns)
        if found.sequence == before and found.is_linked and not found.fetches:
            self._question(found, now_ns)
        return max(found.sequence, before + 1)

    def retry(self, now_ns: int) -> None:
        """See to everybody: what was waited for long enough is asked for again."""
        for found in self.known.values():
            if not found.is_linked:
                continue
            self.pump(found, now_ns)
            if found.is_awaited and now_ns - found.asked_ns > self._pause_ns(found.asks):
                asks = found.asks + 1
                self._question(found, now_ns)
                found.asked_ns, found.asks = now_ns, asks

    # ---- inside

    def _may_send(self, found: Follower) -> bool:
        return (
            found.is_linked
            and not found.is_probing
            and found.next < self._replica.end.position
            and found.next - found.agreed < self._window.under_way
            and found.sequence - found.confirmed < MESSAGES_UNDER_WAY_MAX
        )

    def _fetch_once(self, found: Follower, now_ns: int) -> None:
        """Have the events after `next` fetched, unless they are awaited, and not for too long."""
        if found.fetches and now_ns - found.fetching_ns <= self._pause_ns(found.fetches - 1):
            return
        found.fetches, found.fetching_ns = found.fetches + 1, now_ns
        self._fetch(found.node, found.next, self._window.message)

    def _pause_ns(self, times: int) -> int:
        """How long to wait before something is asked for again that was so often in vain."""
        return self._patience_ns << min(times, DOUBLINGS_MAX)

    def _question(self, found: Follower, now_ns: int) -> None:
        """Ask whether it has all that it was sent; if that is not at hand any more, the oldest."""
        base = self._replica.base
        at, link = found.next, self._replica.link_at(found.next)
        if link is None:
            at, link = base.position, base.link
        self._append(found, at, link, [], now_ns)

    def _append(
        self, found: Follower, after: int, link: bytes, entries: list[Stored], now_ns: int
    ) -> None:
        if not found.is_outstanding:
            found.asked_ns, found.asks = now_ns, 0
        found.sequence += 1
        self._tell(
            found.node,
            Append(
                epoch=self._epoch,
                sequence=found.sequence,
                after=after,
                prior=self._replica.epoch_at(after),
                link=link,
                entries=entries,
                committed=self._replica.committed,
            ),
        )
        if entries:
            found.go_to(after + len(entries))


def _got_on(found: Follower, now_ns: int) -> None:
    """It has answered: whatever else is waited for may take its time anew."""
    found.moved_ns = found.asked_ns = now_ns
    found.asks = 0


def _fitting(entries: list[Stored]) -> list[Stored]:
    """As many of the first events as fit in one message, at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.fact)
        if count and size > BYTES_PER_MESSAGE:
            return entries[:count]
    return entries
