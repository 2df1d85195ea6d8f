"""Holds and refunds: giving back what a consume took, never more than it took.

A hold is a spend; its cancel and its expiry are refunds. Each consume is the range of running
totals that it spent, so a refund needs no record of the consume: the range names it.
"""

from collections.abc import Callable

from vcap_es.components.commands import Cancel, Commit, Refund
from vcap_es.components.holdings import Holdings
from vcap_es.components.journal_records import HoldNoted, Marked, Range
from vcap_es.components.outcomes import Outcome, Refunded, Refused, Settled
from vcap_es.components.slice import Slice

Finish = Callable[[Outcome], None]


def format_id(found: Slice, last: int, amount: int) -> str:
    """The id of the consume that raised the running total of `found` by `amount` to `last`."""
    return f"{found.id_prefix}{last - amount}-{last}"


def parse_id(text: str) -> tuple[str, str, int, Range] | None:
    """Incarnation, cap, interval number and range of a consume id; None where it is none."""
    incarnation, _, rest = text.partition(".")
    number, _, rest = rest.partition(".")
    cap, _, bounds = rest.rpartition(".")
    first, _, last = bounds.partition("-")
    if not (cap and all(each.isascii() and each.isdecimal() for each in (number, first, last))):
        return None
    if max(map(len, (number, first, last))) > 19 or int(first) >= int(last):
        return None
    return incarnation, cap, int(number), (int(first), int(last))


def incarnation_of(text: str) -> str | None:
    """The server incarnation that issued a consume id; None where it is none."""
    parsed = parse_id(text)
    return parsed and parsed[0]


class Settlement:
    """Commits, cancels and refunds by id."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._marks = 0
        for found in holdings.slices.values():
            for span, hold in (found.holds or {}).items():
                if hold.is_open and hold.expires_ns > 0:
                    self._expire_later(found, span, hold.expires_ns)

    def hold(self, found: Slice, span: Range, expires_ns: int) -> None:
        """The units of `span` are held until `expires_ns`, on the boot clock."""
        self._note_hold(found, span, expires_ns, is_open=True)
        self._expire_later(found, span, expires_ns)

    def commit(self, command: Commit, finish: Finish) -> None:
        """Spend up to what was held, and more if it is here and nobody waits for it."""
        self._settle(command.id, command.amount, finish)

    def cancel(self, command: Cancel, finish: Finish) -> None:
        """Give the whole hold back."""
        self._settle(command.id, 0, finish)

    def refund(self, command: Refund, finish: Finish) -> None:
        """Give units of a consume back, from the fsynced record on."""
        place = self._find(command.id)
        if isinstance(place, Refused):
            finish(place)
            return
        found, span = place
        hold = (found.holds or {}).get(span)
        if hold is not None and hold.is_open:
            finish(_settled(found.cap, "the hold is open: commit or cancel it"))
            return
        left = span[1] - span[0] - (found.marks or {}).get(span, 0)
        amount = left if command.amount is None else command.amount
        if amount > left or amount == 0:
            finish(_settled(found.cap, f"{left} units of it are left to refund, not {amount}"))
        elif self._marks >= self._holdings.limits.marks_max:
            finish(_full(found.cap))
        else:
            self._give_back(
                found, span, amount, lambda: finish(self._refunded(found, span, amount))
            )

    def _settle(self, text: str, wanted: int | None, finish: Finish) -> None:
        place = self._find(text)
        if isinstance(place, Refused):
            finish(place)
            return
        found, span = place
        hold = (found.holds or {}).get(span)
        if hold is None:
            finish(_unknown(found.cap, text))
        elif not hold.is_open:
            finish(_settled(found.cap, "the hold is committed, cancelled or expired already"))
        else:
            self._settle_hold(found, span, wanted, finish)

    def _settle_hold(self, found: Slice, span: Range, wanted: int | None, finish: Finish) -> None:
        held = span[1] - span[0]
        committed = held if wanted is None else wanted
        back, more = max(0, held - committed), max(0, committed - held)
        extra = more if self._take_more(found, more) else 0
        self._note_hold(found, span, 0, is_open=False)
        outcome = Settled(
            id=format_id(found, span[1], held),
            cap=found.cap,
            committed=held - back + extra,
            refunded=back,
            short=more - extra,
        )
        if back:
            self._give_back(found, span, back, lambda: finish(outcome))
        else:
            finish(outcome)

    def _take_more(self, found: Slice, amount: int) -> bool:
        """Whether a commit above its hold got the difference: if it is here and nobody waits."""
        cells = self._holdings.cells
        usable = not found.ended and not found.waiters and amount <= found.balance(cells)
        if not amount or not usable or not found.within_ceiling(cells, amount):
            return False
        cells[found.slot] += amount
        return True

    def _find(self, text: str) -> tuple[Slice, Range] | Refused:
        parsed = parse_id(text)
        if parsed is None:
            return _unknown("", text)
        incarnation, cap, number, span = parsed
        if incarnation != self._holdings.incarnation:
            return _unknown(cap, text)
        found = self._holdings.slices.get((cap, number))
        if found is None:
            return Refused(code="ended", cap=cap, detail=f"interval {number} of {cap} is closed")
        if span[1] > found.spent(self._holdings.cells) or self._overlaps(found, span):
            return _unknown(cap, text)
        return found, span

    def _overlaps(self, found: Slice, span: Range) -> bool:
        """Whether the range is not a consume's: it cuts into one that is known."""
        known = (*(found.marks or ()), *(found.holds or ()))
        return any(each != span and each[0] < span[1] and span[0] < each[1] for each in known)

    def _give_back(self, found: Slice, span: Range, amount: int, then: Callable[[], None]) -> None:
        if found.marks is None:
            found.marks = {}
        self._marks += span not in found.marks
        refunded = found.marks[span] = found.marks.get(span, 0) + amount
        found.refunded += amount
        mark = Marked(
            cap=found.cap, number=found.number, first=span[0], last=span[1], refunded=refunded
        )
        self._holdings.keep_with(mark, found, then)

    def _note_hold(self, found: Slice, span: Range, expires_ns: int, *, is_open: bool) -> None:
        noted = HoldNoted(
            cap=found.cap,
            number=found.number,
            first=span[0],
            last=span[1],
            expires_ns=expires_ns,
            is_open=is_open,
            spent=found.spent(self._holdings.cells),
        )
        if found.holds is None:
            found.holds = {}
        found.holds[span] = noted
        self._holdings.note(noted)

    def _expire_later(self, found: Slice, span: Range, expires_ns: int) -> None:
        self._holdings.alarm(expires_ns, lambda _: self._expire(found, span))

    def _expire(self, found: Slice, span: Range) -> None:
        hold = (found.holds or {}).get(span)
        if hold is not None and hold.is_open and not found.closed:
            self._note_hold(found, span, 0, is_open=False)
            self._give_back(found, span, span[1] - span[0], lambda: None)

    def _refunded(self, found: Slice, span: Range, amount: int) -> Refunded:
        return Refunded(
            id=format_id(found, span[1], span[1] - span[0]),
            cap=found.cap,
            refunded=amount,
            refunded_in_all=(found.marks or {})[span],
        )


def _unknown(cap: str, text: str) -> Refused:
    return Refused(code="unknown_id", cap=cap, detail=f"{text!r} is not an id given by this server")


def _settled(cap: str, detail: str) -> Refused:
    return Refused(code="settled", cap=cap, detail=detail)


def _full(cap: str) -> Refused:
    return Refused(code="unavailable", cap=cap, detail="the journal is full of refunds")


__all__ = ["HoldNoted", "Settlement", "format_id", "incarnation_of", "parse_id"]
