"""The slice of one interval that a volumecap server holds, and its arithmetic.

balance = received - returned - spent + refunded (as fsynced)
usable  = min(balance, ceiling - spent) - pinned
"""

from collections import deque
from collections.abc import Callable

from vcap_es.components.journal_records import Cells, HoldNoted, Range
from vcap_es.components.messages import PoolVersion, Round, Verdict
from vcap_es.components.outcomes import Refused

CELLS_PER_SLOT = 2
NO_SLOT = -1
NEVER_NS = 1 << 62


class Waiter:
    """One consume in the queue of a slice: between `minimum` and `maximum` units.

    `taken(slice, amount)` is called when it fits, in the same step as the debit; `refused` when
    it never will. With `pins`, the units are set aside and not spent yet.
    """

    __slots__ = ("cap", "deadline_ns", "is_done", "maximum", "minimum", "pins", "refused", "taken")

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
    ) -> None:
        self.cap, self.minimum, self.maximum = cap, minimum, maximum
        self.deadline_ns = deadline_ns
        self.taken, self.refused = taken, refused
        self.pins = pins
        self.is_done = False


class Slice:
    """All that a server knows of its part of one interval. Running totals only grow."""

    __slots__ = (
        "answered",
        "answering",
        "cap",
        "ceiling",
        "closed",
        "deadline_ns",
        "desired",
        "dirty",
        "end",
        "ended",
        "ended_at_ns",
        "heard_ns",
        "holds",
        "id_prefix",
        "keys",
        "limit",
        "lookups",
        "marks",
        "number",
        "opens_ns",
        "pinned",
        "pool_available",
        "rate",
        "rated_ns",
        "rated_spent",
        "recall",
        "received",
        "refunded",
        "refunded_kept",
        "refused_before",
        "returned",
        "returned_heard",
        "returned_kept",
        "slot",
        "start",
        "told",
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
        self.limit = -1
        self.waiters: deque[Waiter] = deque()
        self.lookups: list[int] = []
        self.marks: dict[Range, int] | None = None
        self.holds: dict[Range, HoldNoted] | None = None
        self.keys: list[str] | None = None
        self.ended = self.closed = self.dirty = False
        self.ended_at_ns = 0
        self.version: PoolVersion = (0, 0)
        self.verdict: Verdict | None = None
        self.recall: tuple[Round, int] | None = None
        self.answering: Round | None = None
        self.answered: Round = (0, 0)
        self.heard_ns = -NEVER_NS
        self.pool_available = 0
        self.deadline_ns, self.opens_ns = -1, NEVER_NS
        self.desired = self.want = 0
        self.rate = self.rated_spent = 0
        self.rated_ns = 0
        self.refused_before = 0
        self.told: tuple[int, int, int, int] = (-1, 0, 0, 0)

    @property
    def key(self) -> tuple[str, int]:
        """The cap and the number of the interval."""
        return (self.cap, self.number)

    def spent(self, cells: Cells) -> int:
        """The running total spent, as the cell has it."""
        return cells[self.slot] if self.slot >= 0 else 0

    def balance(self, cells: Cells) -> int:
        """The units that are here and not pinned by an all-or-none consume."""
        here = self.received - self.returned - self.spent(cells) + self.refunded_kept
        return here - self.pinned

    def within_ceiling(self, cells: Cells, amount: int) -> bool:
        """Whether `amount` more may be spent without raising the ceiling first."""
        return self.spent(cells) + self.pinned + amount <= self.ceiling

    def ceiling_wanted(self, cells: Cells, waiting: int, step: int) -> int:
        """The ceiling to write next: a step above what is spent, within what is here."""
        spent = self.spent(cells) + self.pinned
        within = self.received - self.returned + self.refunded
        return max(spent, min(spent + max(step, waiting), within))

    def is_open(self, now_ns: int) -> bool:
        """Whether it may be spent from now: surely inside the interval's bounds."""
        return self.opens_ns <= now_ns < self.deadline_ns and not self.ended

    def has_open_hold(self) -> bool:
        """Whether a hold is neither committed nor cancelled nor expired."""
        return any(hold.is_open for hold in (self.holds or {}).values())

    def hold_amount(self) -> int:
        """The units in open holds."""
        return sum(
            last - first for (first, last), each in (self.holds or {}).items() if each.is_open
        )
