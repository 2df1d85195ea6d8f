"""Holds and refunds: giving back what a consume took, never more than it took.

A hold is a spend; its cancel and its expiry are refunds. Each consume is the range of running
totals that it spent, so a refund needs no record of the consume: the range names it.
"""

from functools import partial
from typing import Protocol

from vcap_es.components.messages.client import Cancel, Commit, Refund
from vcap_es.components.messages.outcomes import Outcome, Refunded, Refused, Settled
from vcap_es.components.messages.refusals import unavailable
from vcap_es.components.volumecap_server.refund_ages import RefundAges
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Entry, HoldNoted, Marked, Range
from vcap_es.components.volumecap_server.slices.slice import Slice
from vcap_es.events.consume_ids import find_consume_id


class Caller(Protocol):
    """Who asked, as far as a settlement knows it: the API key `owner`, "" where none is needed."""

    owner: str

    def entries(self, outcome: Outcome) -> list[Entry]:
        """What the journal keeps of this answer: nothing, or the key of the call."""

    def finish(self, outcome: Outcome) -> None:
        """Keep the answer for the key, and give it."""


def format_id(found: Slice, last: int, amount: int) -> str:
    """The id of the consume that raised the running total of `found` by `amount` to `last`."""
    return f"{found.id_prefix}{last - amount}-{last}"


class Holds:
    """Commits, cancels and refunds by id. The consumes that are known by themselves are bounded.

    `known` says how many of them are in whose share. A share is as large as what is left for all:
    so no API key has more than half of the room, and there is always some for the next one. The
    rule is the dynamic threshold of A. Choudhury and E. Hahne, "Dynamic Queue Length Thresholds
    for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998. Who asks
    without an API key is the process that the server is a part of, and has all the room there is.
    """

    def __init__(self, holdings: SliceEngine) -> None:
        self._holdings = holdings
        self.known: dict[str, int] = {}
        self.known_in_all = self.refused = 0
        RefundAges(holdings, lambda owner: self._count(owner, -1))
        for found in holdings.slices.values():
            for owner, count in (found.owners or {}).items():
                self._count(owner, count)
            for span, hold in (found.holds or {}).items():
                if hold.is_open:
                    self._expire_later(found, span, hold.expires_ns)

    def full(self, cap: str, owner: str) -> Refused | None:
        """The refusal of one more hold or refund of `owner`, where its share is full."""
        left = self._holdings.limits.marks_max - self.known_in_all
        mine = self.known.get(owner, 0)
        if left > (mine if owner else 0):
            return None
        self.refused += 1
        detail = (
            f"this API key has {mine} holds and refunds of open intervals at this server, and has "
            "filled its share: there is room again when an interval closes"
        )
        return Refused(code="share_full", cap=cap, detail=detail, retry_after_ms=1000)

    def forget(self, found: Slice) -> None:
        """The slice is gone, and what was known of its consumes."""
        for owner, count in (found.owners or {}).items():
            self._count(owner, -count)

    def _know(self, found: Slice, span: Range, owner: str) -> None:
        if found.know_span(span, owner):
            self._count(owner, 1)

    def _count(self, owner: str, more: int) -> None:
        self.known_in_all += more
        known = self.known[owner] = self.known.get(owner, 0) + more
        if not known:
            del self.known[owner]

    def hold(self, found: Slice, span: Range, expires_ns: int, owner: str) -> None:
        """The units of `span` are held until `expires_ns`, on the boot clock."""
        self._know(found, span, owner)
        noted = self._noted(found, span, expires_ns, owner, is_open=True)
        self._holdings.keeper.note(noted)
        self._expire_later(found, span, expires_ns)

    def commit(self, command: Commit, caller: Caller) -> None:
        """Spend up to what was held, and more if it is here and nobody waits for it."""
        self._settle(command.id, command.amount, caller)

    def cancel(self, command: Cancel, caller: Caller) -> None:
        """Give the whole hold back."""
        self._settle(command.id, 0, caller)

    def refund(self, command: Refund, caller: Caller) -> None:
        """Give units of a consume back, from the fsynced record on."""
        place = self._find(command.id)
        if isinstance(place, Refused):
            caller.finish(place)
            return
        found, span = place
        refusal = self._refund_refused(found, span, command.amount, caller.owner)
        if refusal is not None:
            caller.finish(refusal)
            return
        left = self._left(found, span)
        amount = left if command.amount is None else command.amount
        refunded = Refunded(
            id=format_id(found, span[1], span[1] - span[0]),
            cap=found.cap,
            refunded=amount,
            refunded_in_all=span[1] - span[0] - left + amount,
        )
        self._give_back(found, span, amount, refunded, caller)

    def _left(self, found: Slice, span: Range) -> int:
        mark = (found.marks or {}).get(span)
        return span[1] - span[0] - (mark.refunded if mark is not None else 0)

    def _refund_refused(
        self, found: Slice, span: Range, amount: int | None, owner: str
    ) -> Refused | None:
        hold, left = (found.holds or {}).get(span), self._left(found, span)
        if found.is_final:
            return _ended(found.cap, found.number)
        if not found.is_confirmed:
            return unavailable(found.cap, "whether its books are closed is not known yet")
        if hold is not None and hold.is_open:
            return _settled(found.cap, "the hold is open: commit or cancel it")
        if left == 0 or (amount is not None and not 0 < amount <= left):
            asked = "more" if amount is None else amount
            return _settled(found.cap, f"{left} units of it are left to refund, not {asked}")
        is_new = span not in (found.marks or ()) and hold is None
        return self.full(found.cap, owner) if is_new else None

    def _settle(self, text: str, wanted: int | None, caller: Caller) -> None:
        place = self._find(text)
        if isinstance(place, Refused):
            caller.finish(place)
            return
        found, span = place
        hold = (found.holds or {}).get(span)
        if hold is None:
            caller.finish(_unknown(found.cap, text))
        elif not hold.is_open:
            detail = "the hold is committed, cancelled or expired already"
            caller.finish(_settled(found.cap, detail))
        else:
            self._settle_hold(found, span, wanted, caller)

    def _settle_hold(self, found: Slice, span: Range, wanted: int | None, caller: Caller) -> None:
        held = span[1] - span[0]
        committed = held if wanted is None else wanted
        back, more = max(0, held - committed), max(0, committed - held)
        extra = more if self._take_more(found, more) else 0
        outcome = Settled(
            id=format_id(found, span[1], held),
            cap=found.cap,
            committed=held - back + extra,
            refunded=back,
            short=more - extra,
        )
        self._close(found, span)
        if back:
            self._give_back(found, span, back, outcome, caller)
        else:
            self._holdings.keeper.note(self._noted_settled(found, span))
            caller.finish(outcome)

    def _take_more(self, found: Slice, amount: int) -> bool:
        """Whether a commit above its hold got the difference: if it is here and nobody waits."""
        cells = self._holdings.cells
        is_open = found.is_open(self._holdings.now_ns) and not self._holdings.is_stopping
        usable = is_open and not found.waiters and amount <= found.balance(cells)
        if not amount or not usable or not found.within_ceiling(cells, amount):
            return False
        cells[found.slot] += amount
        return True

    def slice_of(self, text: str) -> Slice | None:
        """The slice that a consume id speaks of, if it is here."""
        named = find_consume_id(text)
        return self._holdings.slices.get((named.cap, named.number)) if named else None

    def _find(self, text: str) -> tuple[Slice, Range] | Refused:
        named = find_consume_id(text)
        if named is None:
            return _unknown("", text)
        if named.incarnation != self._holdings.incarnation:
            return _unknown(named.cap, text)
        found = self._holdings.slices.get((named.cap, named.number))
        if found is None:
            return _ended(named.cap, named.number)
        span = (named.start, named.end)
        if named.start < found.floor:
            return Refused(code="ended", cap=named.cap, detail="it is too old to be refunded")
        if named.end > found.spent(self._holdings.cells) or found.overlaps(span):
            return _unknown(named.cap, text)
        return found, span

    def _give_back(
        self, found: Slice, span: Range, amount: int, outcome: Outcome, caller: Caller | None
    ) -> None:
        """Let `amount` units of `span` come back, with the answer and its key in one record."""
        if found.marks is None:
            found.marks = {}
        known = found.marks.get(span) or (found.holds or {}).get(span)
        owner = known.owner if known is not None else caller.owner if caller is not None else ""
        self._know(found, span, owner)
        mark = found.marks[span] = Marked(
            cap=found.cap,
            number=found.number,
            first=span[0],
            last=span[1],
            refunded=span[1] - span[0] - self._left(found, span) + amount,
            owner=owner,
        )
        found.refunded += amount
        entries: list[Entry] = [mark]
        if span in (found.holds or ()):
            entries.append(self._noted_settled(found, span))
        if caller is None:
            self._holdings.keep_with(entries, found, lambda: None)
        else:
            entries += caller.entries(outcome)
            total, finish = found.refunded, partial(caller.finish, outcome)
            when_free = partial(self._holdings.when_free, found, total, finish)
            self._holdings.keep_with(entries, found, when_free)

    def _noted_settled(self, found: Slice, span: Range) -> HoldNoted:
        """The hold is open no more, and stays in the share of its owner."""
        assert found.holds is not None, "only what was held is settled"
        return self._noted(found, span, 0, found.holds[span].owner, is_open=False)

    def _noted(
        self, found: Slice, span: Range, expires_ns: int, owner: str, *, is_open: bool
    ) -> HoldNoted:
        noted = HoldNoted(
            cap=found.cap,
            number=found.number,
            first=span[0],
            last=span[1],
            expires_ns=expires_ns,
            is_open=is_open,
            spent=found.spent(self._holdings.cells),
            owner=owner,
        )
        if found.holds is None:
            found.holds = {}
        found.holds[span] = noted
        return noted

    def _expire_later(self, found: Slice, span: Range, expires_ns: int) -> None:
        if found.expiries is None:
            found.expiries = {}
        alarm = self._holdings.alarm(expires_ns, partial(self._expire, found, span))
        found.expiries[span] = alarm

    def _close(self, found: Slice, span: Range) -> None:
        """The hold is open no more, and need not expire."""
        assert found.expiries is not None, "every open hold expires"
        self._holdings.alarms.call_off(found.expiries.pop(span))

    def _expire(self, found: Slice, span: Range, _now_ns: int) -> None:
        if found.closed:
            return
        self._close(found, span)
        held = span[1] - span[0]
        id_ = format_id(found, span[1], held)
        expired = Settled(id=id_, cap=found.cap, committed=0, refunded=held)
        self._give_back(found, span, held, expired, None)


def _unknown(cap: str, text: str) -> Refused:
    return Refused(code="unknown_id", cap=cap, detail=f"{text!r} is not an id given by this server")


def _settled(cap: str, detail: str) -> Refused:
    return Refused(code="settled", cap=cap, detail=detail)


def _ended(cap: str, number: int) -> Refused:
    return Refused(code="ended", cap=cap, detail=f"the books of interval {number} are closed")
