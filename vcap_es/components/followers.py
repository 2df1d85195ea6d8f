"""Where each follower's copy stands, and what it is sent next."""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.components.primacy_messages import (
    BYTES_PER_MESSAGE,
    ENTRIES_PER_MESSAGE,
    Append,
    Appended,
    Mismatch,
)
from vcap_es.components.replica import Replica, common_position
from vcap_es.events.chain import Stored

ENTRIES_UNDER_WAY_MAX = 8 * ENTRIES_PER_MESSAGE
MESSAGES_UNDER_WAY_MAX = 32

Tell = Callable[[str, Append], None]
Fetch = Callable[[str, int, int], None]


class Follower(Struct):
    """One follower of this leader.

    `match` is the last position that it surely has, `agreed` the last at which the logs agree as
    far as it told, and `next` the one behind which sending goes on;
    `sequence` counts what was sent and `confirmed` is the last of it that was answered. While
    `is_probing`, it is not known where the logs agree. `moved_ns` is when it last got on, or had
    nothing to do; `resent_ns` when something was sent to it again.
    """

    node: str
    next: int
    moved_ns: int
    heard_ns: int
    resent_ns: int = 0
    match: int = 0
    agreed: int = 0
    sequence: int = 0
    confirmed: int = 0
    is_probing: bool = True
    is_linked: bool = True
    gone_ns: int = 0
    fetching_ns: int = 0

    @property
    def is_outstanding(self) -> bool:
        """Whether something sent was not answered yet."""
        return self.confirmed < self.sequence


class Followers:
    """All followers of one leader in one epoch."""

    def __init__(
        self, epoch: int, replica: Replica, tell: Tell, fetch: Fetch, patience_ns: int
    ) -> None:
        """Send what `replica` has at hand by `tell`; have older events fetched by `fetch`."""
        self.known: dict[str, Follower] = {}
        self._epoch, self._replica = epoch, replica
        self._tell, self._fetch = tell, fetch
        self._patience_ns = patience_ns

    def linked(self, node: str, now_ns: int) -> None:
        """A follower is connected: ask whether it has our last event."""
        found = self.known.get(node)
        if found is None:
            found = Follower(node, self._replica.end.position, now_ns, now_ns)
            self.known[node] = found
        found.is_linked, found.is_probing, found.fetching_ns = True, True, 0
        found.next, found.moved_ns, found.heard_ns = self._replica.end.position, now_ns, now_ns
        self._send(found, [])

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
            found.moved_ns = now_ns
        found.is_probing = False
        found.match = max(found.match, message.position)
        found.agreed = max(found.agreed, found.match)
        found.next = max(found.next, found.match)
        found.confirmed = max(found.confirmed, message.sequence)
        self.pump(found, now_ns)

    def mismatched(self, node: str, message: Mismatch, now_ns: int) -> None:
        """It has not the event that we asked for: go on from where the logs surely agree.

        A disk may have lost what it had acknowledged: that is sent again, and waited for again.
        """
        found = self.known.get(node)
        if found is None or message.epoch != self._epoch or message.sequence <= found.confirmed:
            return
        found.heard_ns = found.moved_ns = now_ns
        found.confirmed = message.sequence
        common = common_position(self._replica.history, message.history)
        found.match = min(found.match, common)
        found.agreed = found.next = common
        found.is_probing, found.fetching_ns = False, 0
        self.pump(found, now_ns)

    def fetched(
        self, node: str, after: int, link: bytes, entries: list[Stored], now_ns: int
    ) -> None:
        """Older events have come from the log."""
        found = self.known.get(node)
        if found is None or not found.fetching_ns or found.next != after:
            return
        found.fetching_ns = 0
        if entries:
            self._append(found, link, _fitting(entries))
        self.pump(found, now_ns)

    def pump(self, found: Follower, now_ns: int) -> None:
        """Send what it has not, as far as it may be under way."""
        if not found.is_outstanding:
            found.moved_ns = now_ns
        while (
            found.is_linked
            and not found.is_probing
            and not found.fetching_ns
            and found.next < self._replica.end.position
            and found.next - found.agreed < ENTRIES_UNDER_WAY_MAX
            and found.sequence - found.confirmed < MESSAGES_UNDER_WAY_MAX
        ):
            if found.next < self._replica.base.position:
                found.fetching_ns = now_ns
                self._fetch(found.node, found.next, ENTRIES_PER_MESSAGE)
            else:
                entries = self._replica.entries(found.next, ENTRIES_PER_MESSAGE)
                self._send(found, _fitting(entries))

    def ask(self, node: str, now_ns: int) -> int:
        """Send what is new, or ask without; gives the sequence whose answer says it was heard."""
        found = self.known[node]
        before = found.sequence
        self.pump(found, now_ns)
        if found.sequence == before and found.is_linked and not found.fetching_ns:
            self._send(found, [])
        return max(found.sequence, before + 1)

    def retry(self, now_ns: int) -> None:
        """Send again to whom nothing has got through for a while."""
        for found in self.known.values():
            stalled = found.is_outstanding or found.fetching_ns or found.is_probing
            since_ns = max(found.moved_ns, found.resent_ns)
            if found.is_linked and stalled and now_ns - since_ns > self._patience_ns:
                found.resent_ns, found.fetching_ns = now_ns, 0
                found.next = found.next if found.is_probing else found.agreed
                self._again(found, now_ns)

    # ---- inside

    def _again(self, found: Follower, now_ns: int) -> None:
        before = found.sequence
        if not found.is_probing:
            self.pump(found, now_ns)
        if found.sequence == before and not found.fetching_ns:
            self._send(found, [])

    def _send(self, found: Follower, entries: list[Stored]) -> None:
        link = self._replica.link_at(found.next)
        if link is None:  # it is older than what is at hand: ask about the oldest of that
            found.next = self._replica.base.position
            link, entries = self._replica.base.link, []
            found.is_probing = True
        self._append(found, link, entries)

    def _append(self, found: Follower, link: bytes, entries: list[Stored]) -> None:
        found.sequence += 1
        self._tell(
            found.node,
            Append(
                epoch=self._epoch,
                sequence=found.sequence,
                after=found.next,
                prior=self._replica.epoch_at(found.next),
                link=link,
                entries=entries,
                committed=self._replica.committed,
            ),
        )
        found.next += len(entries)


def _fitting(entries: list[Stored]) -> list[Stored]:
    """As many of the first events as fit in one message, at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.fact)
        if count and size > BYTES_PER_MESSAGE:
            return entries[:count]
    return entries
