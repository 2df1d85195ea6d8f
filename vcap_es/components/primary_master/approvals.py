"""What two operators must want within ten minutes, each by a key of their own."""

from collections.abc import Hashable

from msgspec import Struct

APPROVAL_US = 600_000_000
OPERATORS_NEEDED = 2
APPROVALS_MAX = 100


class Approved(Struct, frozen=True, kw_only=True, gc=False):
    """`approved_by` want it; with two who want the same, it is under way."""

    approved_by: list[str]
    is_under_way: bool


class Approvals:
    """Who wants what, in the memory of one epoch: a failover forgets it, and asks for it anew."""

    def __init__(self) -> None:
        self._wanted: dict[Hashable, dict[str, int]] = {}

    def approve(self, what: Hashable, operator: str, now: int) -> Approved:
        """`operator` wants `what`; once it is under way, it is forgotten here."""
        self._forget(now)
        wanted = self._wanted.pop(what, {})
        wanted[operator] = now + APPROVAL_US
        is_under_way = len(wanted) >= OPERATORS_NEEDED
        if not is_under_way:
            self._wanted[what] = wanted
        return Approved(approved_by=list(wanted), is_under_way=is_under_way)

    def _forget(self, now: int) -> None:
        for what, wanted in list(self._wanted.items()):
            kept = {operator: until for operator, until in wanted.items() if until > now}
            if kept:
                self._wanted[what] = kept
            else:
                del self._wanted[what]
        while len(self._wanted) >= APPROVALS_MAX:
            del self._wanted[next(iter(self._wanted))]
