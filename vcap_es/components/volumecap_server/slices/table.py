"""The table of a volumecap server: its slices, and what it knows of the caps they are of."""

from collections.abc import Callable

from msgspec import Struct

from vcap_es.components.messages.outcomes import Refused
from vcap_es.components.messages.refusals import BY_STATE
from vcap_es.components.messages.server import Notice
from vcap_es.components.volumecap_server.slices.journal import Cells
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.slice import Slice, Waiter
from vcap_es.events.units import MS


class WatchedCap(Struct):
    """A cap that the server has been asked for: what is known of it, and who waits to know.

    `heard` is the (epoch, number) of the message with the newest notice, `asked_ns` when the master
    was last asked for it. `begins_ns` is when it surely serves next, 0 where that is not known.
    """

    notice: Notice | None
    heard: tuple[int, int]
    asked_ns: int
    slices: dict[int, Slice]
    waiters: dict[Waiter, None]
    lookups: dict[int, None]
    begins_ns: int = 0


class SliceTable:
    """All slices by cap and interval, and for each cap the one that may be spent from now."""

    def __init__(self, incarnation: str, cells: Cells, limits: Limits) -> None:
        self.incarnation, self.cells, self.limits = incarnation, cells, limits
        self.slices: dict[tuple[str, int], Slice] = {}
        self.current: dict[str, Slice] = {}
        self.watched: dict[str, WatchedCap] = {}
        self.is_stopping = self.is_abandoned = False
        self.now_ns = 0
        self.became_current: Callable[[Slice], None] = lambda _: None
        self._strangers: dict[str, None] = {}

    def watch(self, cap: str) -> WatchedCap:
        """What is known of `cap`; a place for it is made where that is nothing."""
        watched = self.watched.get(cap)
        if watched is None:
            watched = self.watched[cap] = WatchedCap(None, (0, 0), 0, {}, {}, {})
            self._strangers[cap] = None
            self._forget_strangers()
        return watched

    def noted(self, watched: WatchedCap, notice: Notice) -> None:
        """The master has told what the cap is."""
        watched.notice = notice
        if notice.state == "active":
            self._strangers.pop(notice.cap, None)
        else:
            self._strangers[notice.cap] = None

    def _forget_strangers(self) -> None:
        """Junk ids must not fill the memory: the oldest of them is forgotten."""
        if len(self._strangers) <= self.limits.strangers_max:
            return
        oldest = next(iter(self._strangers))
        del self._strangers[oldest]
        watched = self.watched[oldest]
        if watched.waiters or watched.lookups or watched.slices:
            self._strangers[oldest] = None
        else:
            del self.watched[oldest]

    def slice_at(self, cap: str) -> Slice | None:
        """The slice of `cap` that may be spent from now."""
        found = self.current.get(cap)
        if found is not None and found.is_open(self.now_ns):
            return found
        watched = self.watched.get(cap)
        for each in watched.slices.values() if watched else ():
            if each.is_open(self.now_ns):
                self.current[cap] = each
                self.became_current(each)
                return each
        self.current.pop(cap, None)
        return None

    def refusal(self, cap: str) -> Refused | None:
        """Why `cap` is refused whatever is asked, as far as is known."""
        watched = self.watched.get(cap)
        notice = watched.notice if watched else None
        if notice is None or notice.state == "active":
            return None
        if notice.state == "not_started" and self.slice_at(cap) is not None:
            return None
        return BY_STATE[notice.state](cap, self._begins_in_ms(watched))

    def _begins_in_ms(self, watched: WatchedCap | None) -> int | None:
        """How long it is until a cap serves next, as far as that is known."""
        begins_ns = watched.begins_ns if watched else 0
        return max(1, -(-(begins_ns - self.now_ns) // MS)) if begins_ns else None

    def put(self, cap: str, number: int, start: int, end: int, total: int) -> Slice:
        """A slice of an interval that is new here; it holds nothing yet."""
        prefix = f"{self.incarnation}.{number}.{cap}."
        found = Slice(cap, number, start, end, total, prefix)
        found.desired = total // 256
        self.slices[found.key] = found
        self.watch(cap).slices[number] = found
        return found

    def remove(self, found: Slice) -> None:
        """The interval is closed, or nothing of it was ever here."""
        del self.slices[found.key]
        watched = self.watched.get(found.cap)
        if watched is not None:
            watched.slices.pop(found.number, None)
        if self.current.get(found.cap) is found:
            del self.current[found.cap]
