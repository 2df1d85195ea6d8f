"""The slice of one interval that a volumecap server holds, and its arithmetic.

balance = received - returned - spent + refunded
usable  = min(balance, ceiling - spent) - pinned
ceiling <= MAX_AMOUNT

The balance has refunds and returns as they are decided. The ceiling is that of a fsynced record,
within what that record has: so nothing is spent of a refund that a crash may take back.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from vcap_es.components.messages.outcomes import Refused
from vcap_es.components.messages.server import NEVER_BOUNDED, PoolVersion, RecallRoundId, Verdict
from vcap_es.components.timing_wheel import Alarm
from vcap_es.components.volumecap_server.slices.journal import Cells, HoldNoted, Marked, Range
from vcap_es.events.amounts import MAX_AMOUNT

CELLS_PER_SLOT = 2
NO_SLOT = -1
NEVER_NS = 1 << 62


class Waiter:
    """One consume in the queue of a slice: between `minimum` and `maximum` units.

    `taken(slice, amount)` is called when it fits, in the same step as the debit; `refused` when
    it never will. With `pins`, the units are set aside and not spent yet. It takes from no other
    slice than `only`, where that is given.
    """

    __slots__ = (
        "alarm",
        "cap",
        "deadline_ns",
        "is_done",
        "maximum",
        "minimum",
        "only",
        "pins",
        "refused",
        "taken",
    )

    def __init__(
        self,
        cap: str,
        minimum: int,
        maximum: int,
        deadline_ns: int,
        taken: Callable[["Slice", int], None],
        refused: Callable[[Refused], None],
        *,
        pins: bool = False,
        only: "Slice | None" = None,
    ) -> None:
        self.cap, self.minimum, self.maximum = cap, minimum, maximum
        self.deadline_ns = deadline_ns
        self.taken, self.refused = taken, refused
        self.pins, self.only = pins, only
        self.is_done = False
        self.alarm: Alarm | None = None


class Slice:
    """All that a server knows of its part of one interval. Running totals only grow.

    `spans` are the ranges of consumes that are known by themselves (held or refunded), in order,
    and `owners` says how many are whose; `expiries` are the alarms of those that are held still.
    `free` are the refunds, as a running total, that can be had everywhere, and `freeing` the
    answers that wait for that.
    `told_ns` is when the master was first told of it since the start or since the server stops.
    `bounded` is the version of the bounds. `deadline_ns` and `opens_ns` surely lie inside the
    interval; `end_ns` is surely not before its end. A slice from the journal `is_confirmed` when
    the master has said what it knows of it.
    """

    __slots__ = (
        "answered",
        "answering",
        "bounded",
        "cap",
        "ceiling",
        "closed",
        "deadline_ns",
        "desired",
        "end",
        "end_ns",
        "ended",
        "ended_at_ns",
        "expiries",
        "floor",
        "free",
        "freeing",
        "heard_ns",
        "holds",
        "id_prefix",
        "is_confirmed",
        "is_final",
        "is_paused",
        "limit",
        "lookups",
        "marks",
        "name",
        "named_in",
        "number",
        "opens_ns",
        "owners",
        "pinned",
        "pool_available",
        "pool_withheld",
        "rate",
        "rated_ns",
        "rated_spent",
        "reach",
        "recall",
        "received",
        "refunded",
        "refunded_kept",
        "refused_before",
        "returned",
        "returned_heard",
        "returned_kept",
        "seen",
        "slot",
        "spans",
        "start",
        "told",
        "told_ns",
        "total",
        "verdict",
        "version",
        "waiters",
        "want",
    )

    def __init__(self, cap: str, number: int, start: int, end: int, total: int, id_prefix: str):
        self.cap, self.number = cap, number
        self.start, self.end, self.total = start, end, total
        self.id_prefix = id_prefix
        self.slot = NO_SLOT
        self.received = 0
        self.returned = self.returned_kept = self.returned_heard = 0
        self.refunded = self.refunded_kept = self.ceiling = 0
        self.pinned = 0
        # Up to `limit` a consume needs no thought; `reach` less what is spent is what remains.
        self.limit, self.reach = -1, 0
        self.waiters: deque[Waiter] = deque()
        self.lookups: dict[int, None] = {}
        self.marks: dict[Range, Marked] | None = None
        self.holds: dict[Range, HoldNoted] | None = None
        self.spans: list[Range] | None = None
        self.owners: dict[str, int] | None = None
        # What was spent below `floor` is too old to be refunded; `seen` are totals noted since.
        self.floor = 0
        self.seen: tuple[tuple[int, int], ...] = ()
        self.expiries: dict[Range, Alarm] | None = None
        # What the records of answered keys call it, and the key file that was told so last.
        self.name = self.named_in = 0
        self.ended = self.closed = self.is_final = self.is_paused = False
        self.bounded = NEVER_BOUNDED
        self.free = 0
        self.freeing: list[tuple[int, Alarm, Callable[[], None]]] | None = None
        self.is_confirmed = True
        self.ended_at_ns = 0
        self.version: PoolVersion = (0, 0)
        self.verdict: Verdict | None = None
        self.recall: tuple[RecallRoundId, int] | None = None
        self.answering: RecallRoundId | None = None
        self.answered: RecallRoundId = (0, 0)
        self.heard_ns = -NEVER_NS
        self.pool_available = self.pool_withheld = 0
        self.deadline_ns, self.opens_ns, self.end_ns = -1, NEVER_NS, NEVER_NS
        self.desired = self.want = 0
        self.rate = self.rated_spent = 0
        self.rated_ns = 0
        self.refused_before = 0
        self.told: tuple[int, int, int, int] = (-1, 0, 0, 0)
        self.told_ns = NEVER_NS

    @property
    def key(self) -> tuple[str, int]:
        """The cap and the number of the interval."""
        return (self.cap, self.number)

    @property
    def open_holds(self) -> int:
        """How many holds are neither settled nor expired."""
        return len(self.expiries or ())

    def spent(self, cells: Cells) -> int:
        """The running total spent, as the cell has it."""
        return cells[self.slot] if self.slot >= 0 else 0

    def net_spent(self, cells: Cells) -> int:
        """Units that were spent here and are nowhere any more."""
        return self.spent(cells) - self.refunded

    def balance(self, cells: Cells) -> int:
        """The units that are here and not pinned by an all-or-none consume."""
        here = self.received - self.returned - self.spent(cells) + self.refunded
        return here - self.pinned

    @property
    def spendable(self) -> int:
        """The running total that may be spent of what is here, as far as a cell can count it."""
        return min(self.received - self.returned + self.refunded, MAX_AMOUNT)

    def countable(self, cells: Cells) -> int:
        """The most that consumes may still take here before a running total is at its bound.

        What is spent is counted up to `MAX_AMOUNT`, and so is what was moved here.
        """
        here = self.balance(cells) + self.pinned
        return min(MAX_AMOUNT - self.spent(cells), here + MAX_AMOUNT - self.received)

    def within_ceiling(self, cells: Cells, amount: int) -> bool:
        """Whether `amount` more may be spent without raising the ceiling first."""
        return self.spent(cells) + self.pinned + amount <= self.ceiling

    def ceiling_wanted(self, cells: Cells, waiting: int, step: int) -> int:
        """The ceiling to write next: a step above what is spent, within what is here."""
        spent = self.spent(cells) + self.pinned
        return max(spent, min(spent + max(step, waiting), self.spendable))

    def is_open(self, now_ns: int) -> bool:
        """Whether it may be spent from now: surely inside the interval's bounds."""
        is_served = not (self.ended or self.is_paused)
        return is_served and self.opens_ns <= now_ns < self.deadline_ns

    def totals(self, cells: Cells) -> tuple[int, int, int, int]:
        """Spent, returned, refunded (both as fsynced) and refused."""
        refused = cells[self.slot + 1] if self.slot >= 0 else self.refused_before
        return (self.spent(cells), self.returned_kept, self.refunded_kept, refused)

    def is_back(self, cells: Cells) -> bool:
        """Whether nothing is here, the master has heard of all returns, and sends no more."""
        return (
            self.balance(cells) <= 0
            and self.pinned == 0
            and self.returned == self.returned_heard
            and self.heard_ns >= self.told_ns
        )

    def know_span(self, span: Range, owner: str) -> bool:
        """Remember that a consume spent exactly this range; whether that is news."""
        if self.spans is None:
            self.spans = []
        at = bisect_left(self.spans, span)
        if at < len(self.spans) and self.spans[at] == span:
            return False
        insort(self.spans, span)
        if self.owners is None:
            self.owners = {}
        self.owners[owner] = self.owners.get(owner, 0) + 1
        return True

    def forget_span(self, span: Range) -> str:
        """Let go what is known of a consume, but for its place in `spans`; gives its owner."""
        mark = self.marks.pop(span, None) if self.marks else None
        hold = self.holds.pop(span, None) if self.holds else None
        known = hold or mark
        assert known is not None, "a span is held or refunded"
        assert self.owners is not None, "every span has an owner"
        self.owners[known.owner] -= 1
        return known.owner

    def overlaps(self, span: Range) -> bool:
        """Whether the range is not a consume's: it cuts into one that is known."""
        spans = self.spans or []
        at = bisect_left(spans, span)
        if at < len(spans) and spans[at] == span:
            return False
        return (at > 0 and spans[at - 1][1] > span[0]) or (
            at < len(spans) and spans[at][0] < span[1]
        )
