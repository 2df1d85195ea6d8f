"""Holds and refunds: giving back what a consume took, never more than it took.

A hold is a spend; its cancel and its expiry are refunds. Each consume is the range of running
totals that it spent, so a refund needs no record of the consume: the range names it. What a commit
takes above its hold is a range of its own, and the hold knows which.
"""

from collections.abc import Iterator
from functools import partial
from typing import Protocol

from msgspec import structs

from vcap_es.components.messages.client import Cancel, Commit, Refund
from vcap_es.components.messages.outcomes import (
    Outcome,
    Refunded,
    RefusalCode,
    Refused,
    Settled,
)
from vcap_es.components.messages.refusals import unavailable
from vcap_es.components.volumecap_server.refund_ages import RefundAges
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Entry, HoldNoted, Marked, Range
from vcap_es.components.volumecap_server.slices.slice import Slice, Waiter
from vcap_es.events.consume_ids import ConsumeId, find_consume_id
from vcap_es.events.units import MS


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
        self._settling: set[tuple[Slice, Range]] = set()
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
        noted = HoldNoted(
            cap=found.cap,
            number=found.number,
            first=span[0],
            last=span[1],
            expires_ns=expires_ns,
            is_open=True,
            spent=found.spent(self._holdings.cells),
            owner=owner,
        )
        if found.holds is None:
            found.holds = {}
        found.holds[span] = noted
        self._holdings.journal_writer.note(noted)
        self._expire_later(found, span, expires_ns)

    def commit(self, command: Commit, caller: Caller) -> None:
        """Spend up to what was held, and what there is of more, in the turn of those who wait.

        While it waits for more the hold stays open, but does not expire, and nothing else settles
        it. Where the process dies meanwhile it was not settled at all.
        """
        self._settle(command.id, command.amount, caller)

    def cancel(self, command: Cancel, caller: Caller) -> None:
        """Give the whole hold back."""
        self._settle(command.id, 0, caller)

    def answer_shadow(self, command: Commit | Cancel | Refund, shadow: ConsumeId) -> Outcome:
        """The answer for a yes that took nothing: nothing comes back, and nothing is kept of it."""
        if isinstance(command, Refund):
            return Refunded(id=command.id, cap=shadow.cap, refunded=0, refunded_in_all=0)
        committed = 0
        if isinstance(command, Commit):
            committed = shadow.end if command.amount is None else command.amount
        return Settled(
            id=command.id, cap=shadow.cap, committed=committed, refunded=0, shadow="capped"
        )

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
        parts = self._parts(found, span)
        left, taken = self._left(found, parts), sum(last - first for first, last in parts)
        amount = left if command.amount is None else command.amount
        refunded = Refunded(
            id=format_id(found, span[1], span[1] - span[0]),
            cap=found.cap,
            refunded=amount,
            refunded_in_all=taken - left + amount,
        )
        self._give_back(found, span, amount, refunded, caller)

    def _parts(self, found: Slice, span: Range) -> list[Range]:
        """The units of a consume: its own, and what its commit took above it, if it was a hold."""
        hold = (found.holds or {}).get(span)
        return [span, hold.above] if hold is not None and hold.above is not None else [span]

    def _left(self, found: Slice, parts: list[Range]) -> int:
        """How many units of these ranges have not come back."""
        marks = found.marks or {}
        back = sum(marks[each].refunded for each in parts if each in marks)
        return sum(last - first for first, last in parts) - back

    def _refund_refused(
        self, found: Slice, span: Range, amount: int | None, owner: str
    ) -> Refused | None:
        hold = (found.holds or {}).get(span)
        left = self._left(found, self._parts(found, span))
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
        elif (found, span) in self._settling:
            caller.finish(_settled(found.cap, "a commit of the hold waits for its answer"))
        else:
            held = span[1] - span[0]
            committed = held if wanted is None else wanted
            if committed > held:
                self._ask_more(found, span, committed - held, caller)
            else:
                self._settle_within(found, span, committed, caller)

    def _settle_within(self, found: Slice, span: Range, committed: int, caller: Caller) -> None:
        """Commit some of what was held, and give the rest back."""
        held = span[1] - span[0]
        back = held - committed
        outcome = Settled(
            id=format_id(found, span[1], held), cap=found.cap, committed=committed, refunded=back
        )
        self._close(found, span)
        if back:
            self._give_back(found, span, back, outcome, caller)
        else:
            noted = self._noted_settled(found, span)
            self._holdings.journal_writer.note(noted, *caller.entries(outcome))
            caller.finish(outcome)

    # ---- a commit above its hold

    def _ask_more(self, found: Slice, span: Range, more: int, caller: Caller) -> None:
        """Wait for up to `more` units of the interval of a hold, and then settle it."""
        assert found.holds is not None, "only what was held is settled"
        refusal = self.full(found.cap, found.holds[span].owner)
        if refusal is not None:
            caller.finish(refusal)
            return
        self._settling.add((found, span))
        until_ns = self._holdings.now_ns + self._holdings.limits.max_wait_ms * MS
        settle = partial(self._settle_above, found, span, more, caller)

        def taken(_: Slice, amount: int) -> None:
            settle(amount, None)

        def refused(refusal: Refused) -> None:
            settle(0, refusal)

        waiter = Waiter(found.cap, 1, more, until_ns, taken, refused, only=found)
        self._holdings.enqueue(waiter)

    def _settle_above(
        self,
        found: Slice,
        span: Range,
        more: int,
        caller: Caller,
        amount: int,
        refusal: Refused | None,
    ) -> None:
        """Commit what was held, and `amount` units of the `more` that were asked above it."""
        self._settling.discard((found, span))
        if found.closed:
            caller.finish(_ended(found.cap, found.number))
            return
        held, last = span[1] - span[0], found.spent(self._holdings.cells)
        above = (last - amount, last) if amount else None
        short = more - amount
        code = self._shadowed_code(found, refusal, short)
        outcome = Settled(
            id=format_id(found, span[1], held),
            cap=found.cap,
            committed=held + (more if code else amount),
            refunded=0,
            short=0 if code else short,
            above=format_id(found, last, amount) if amount else "",
            shadow=code,
        )
        self._close(found, span)
        noted = self._noted_settled(found, span, above)
        entries: list[Entry] = [noted, *self._mark_above(found, above, noted.owner)]
        self._holdings.journal_writer.note(*entries, *caller.entries(outcome))
        # That the hold knows what was taken above it must outlive the machine, as ids do.
        self._holdings.keep_with([], found, partial(caller.finish, outcome))

    def _shadowed_code(
        self, found: Slice, refusal: Refused | None, short: int
    ) -> RefusalCode | None:
        """Why a hard cap would be short, where a shadow cap says yes."""
        if not short:
            return None
        return self._holdings.shadowed_code(
            refusal or Refused(code="capped", cap=found.cap, detail="there was less than was asked")
        )

    def _mark_above(self, found: Slice, above: Range | None, owner: str) -> Iterator[Marked]:
        """The units above a hold are known by themselves, and none of them came back yet."""
        if above is not None:
            self._know(found, above, owner)
            yield self._mark(found, above, 0, owner)

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
        """Let `amount` units of a consume come back, with the answer and its key in one record."""
        hold, mark = (found.holds or {}).get(span), (found.marks or {}).get(span)
        known = hold or mark
        owner = known.owner if known is not None else caller.owner if caller is not None else ""
        self._know(found, span, owner)
        entries: list[Entry] = [*self._marks(found, self._parts(found, span), amount, owner)]
        found.refunded += amount
        if hold is not None:
            entries.append(self._noted_settled(found, span))
        if caller is None:
            self._holdings.keep_with(entries, found, lambda: None)
        else:
            entries += caller.entries(outcome)
            total, finish = found.refunded, partial(caller.finish, outcome)
            when_free = partial(self._holdings.when_free, found, total, finish)
            self._holdings.keep_with(entries, found, when_free)

    def _marks(self, found: Slice, parts: list[Range], amount: int, owner: str) -> Iterator[Marked]:
        """Mark `amount` more units of these ranges as come back, of the first ones first."""
        for part in parts:
            left = self._left(found, [part])
            back = min(amount, left)
            if back:
                yield self._mark(found, part, part[1] - part[0] - left + back, owner)
            amount -= back

    def _mark(self, found: Slice, span: Range, refunded: int, owner: str) -> Marked:
        if found.marks is None:
            found.marks = {}
        mark = found.marks[span] = Marked(
            cap=found.cap,
            number=found.number,
            first=span[0],
            last=span[1],
            refunded=refunded,
            owner=owner,
        )
        return mark

    def _noted_settled(self, found: Slice, span: Range, above: Range | None = None) -> HoldNoted:
        """The hold is open no more, and stays in the share of its owner."""
        assert found.holds is not None, "only what was held is settled"
        hold = found.holds[span]
        noted = found.holds[span] = structs.replace(
            hold,
            expires_ns=0,
            is_open=False,
            spent=found.spent(self._holdings.cells),
            above=above or hold.above,
        )
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
        if found.closed or (found, span) in self._settling:
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
