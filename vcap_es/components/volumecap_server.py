"""The volumecap server: answers clients from its slices, and refills them ahead of need.

Plain code around `Holdings`: every input is told the boot clock, and `take` gives what must be
sent, written and answered, in that order.
"""

from collections.abc import Callable

from vcap_es.components.commands import (
    Cancel,
    Command,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.holdings import MS, Holdings, Limits, Output, Reply
from vcap_es.components.idempotency import KeyStore, sticks
from vcap_es.components.journal_records import Journal, Keyed
from vcap_es.components.messages import Broadcast, FromMaster, Standing
from vcap_es.components.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Outcome,
    Refused,
)
from vcap_es.components.settlement import Settlement, format_id, incarnation_of
from vcap_es.components.slice import Cells, Slice, Waiter

Finish = Callable[[Outcome], None]
Taken = Callable[[Slice, int], None]

_SHADOWED = ("capped", "paced")


class VolumecapServer:
    """One incarnation of a volumecap server."""

    def __init__(self, journal: Journal, cells: Cells, limits: Limits | None = None) -> None:
        """Go on where `journal` and `cells` left off; `cells` must outlive the process."""
        self.limits = limits or Limits()
        self.holdings = Holdings(journal, cells, self.limits)
        self.incarnation = journal.incarnation
        self._cells = cells
        self._current = self.holdings.current
        self._settlement = Settlement(self.holdings)
        self._keys = KeyStore(self.limits.keys_max, journal.keyed)
        self.holdings.dropped = self._keys.forget
        for key, keyed in journal.keyed.items():
            found = self.holdings.slices.get((keyed.cap, keyed.number))
            if found is not None:
                self._keys.adopt(key, found)
        self._lookups: dict[int, str] = {}

    # ---- clients

    def consume_now(self, cap: str, amount: int, now_ns: int) -> Consumed | None:
        """Take `amount` units of `cap` if the slice suffices without a thought; else None.

        The check and the debit are one synchronous stretch, and the debit is in the journal's
        shared memory when this returns.
        """
        found = self._current.get(cap)
        if found is None or now_ns >= found.deadline_ns:
            return None
        cells, slot = self._cells, found.slot
        spent = cells[slot] + amount
        if spent > found.limit:
            return None
        cells[slot] = spent
        return Consumed(
            id=f"{found.id_prefix}{spent - amount}-{spent}",
            cap=cap,
            consumed=amount,
            remaining=found.received
            - found.returned
            + found.refunded_kept
            - spent
            + found.pool_available,
            total=found.total,
            resets_at=found.end,
        )

    def submit(
        self, token: int, command: Command, idempotency: Idempotency | None, now_ns: int
    ) -> None:
        """Do what a client asks; `token` is answered by a `Reply` in the outputs."""
        self.holdings.tick(now_ns)
        if idempotency is None:
            self._do(command, lambda outcome: self._reply(token, outcome), None, now_ns)
            return
        admitted = self._keys.admit(idempotency, token)
        if admitted is True:
            self._do(command, lambda outcome: None, idempotency, now_ns)
        elif admitted is not False:
            self._reply(token, admitted)

    def lookup(self, token: int, cap: str, now_ns: int) -> None:
        """Tell what is left of `cap`, as the master knows it now, or a refusal."""
        self.holdings.tick(now_ns)
        self._lookups[token] = cap
        self.holdings.alarm(
            now_ns + self.limits.max_wait_ms * MS, lambda at: self._look_given_up(token, at)
        )
        self._look(token, cap, now_ns)

    def _reply(self, token: int, outcome: object) -> None:
        self.holdings.outputs.append(Reply(token, outcome))

    def _do(
        self, command: Command, reply: Finish, idempotency: Idempotency | None, now_ns: int
    ) -> None:
        touched: list[Slice] = []

        def finish(outcome: Outcome) -> None:
            if idempotency is not None:
                self._finish_key(idempotency, outcome, touched)
            reply(outcome)

        match command:
            case Consume():
                self._consume(command, finish, touched, now_ns)
            case Hold():
                self._hold(command, finish, touched, now_ns)
            case ConsumeAll():
                AllOrNone(self, command.items, finish, touched, now_ns).go_on(now_ns)
            case ConsumeEach():
                self._consume_each(command, finish, touched, now_ns)
            case Commit():
                self._touch(command.id, touched)
                self._settlement.commit(command, finish)
            case Cancel():
                self._touch(command.id, touched)
                self._settlement.cancel(command, finish)
            case Refund():
                self._touch(command.id, touched)
                self._settlement.refund(command, finish)

    def _touch(self, text: str, touched: list[Slice]) -> None:
        """The slice of an id keeps the key of the call."""
        _, _, rest = text.partition(".")
        number, _, rest = rest.partition(".")
        cap = rest.rpartition(".")[0]
        if number.isdecimal() and len(number) < 20:
            found = self.holdings.slices.get((cap, int(number)))
            touched += [found] if found else []

    def _finish_key(self, idempotency: Idempotency, outcome: Outcome, touched: list[Slice]) -> None:
        found = touched[0] if touched else self._slice_of_refusal(outcome)
        waiting = self._keys.finish(idempotency.key, outcome, found)
        if found is not None and sticks(outcome):
            keyed = Keyed(
                key=idempotency.key,
                fingerprint=idempotency.fingerprint,
                outcome=outcome,
                cap=found.cap,
                number=found.number,
                spent=[(each.cap, each.number, each.spent(self._cells)) for each in touched],
            )
            self.holdings.note(keyed)
        for token in waiting:
            self._reply(token, outcome)

    def _slice_of_refusal(self, outcome: Outcome) -> Slice | None:
        return self._current.get(outcome.cap) if isinstance(outcome, Refused) else None

    def _consume(self, command: Consume, finish: Finish, touched: list[Slice], now_ns: int) -> None:
        def taken(found: Slice, amount: int) -> None:
            touched.append(found)
            finish(self.consumed(found, amount))

        self._enqueue(command, taken, self._or_shadow(command, finish), now_ns)

    def _enqueue(
        self, command: Consume, taken: Taken, refused: Callable[[Refused], None], now_ns: int
    ) -> None:
        deadline_ns = now_ns + self.limits.max_wait_ms * MS
        waiter = Waiter(command.cap, command.minimum, command.maximum, deadline_ns, taken, refused)
        self.holdings.enqueue(waiter, now_ns)

    def _or_shadow(self, command: Consume, finish: Finish) -> Callable[[Refused], None]:
        """A shadow cap says yes where a hard one would refuse, and says so."""

        def refused(refusal: Refused) -> None:
            notice = self.holdings.notice_of(command.cap)
            if notice is None or notice.mode != "shadow" or refusal.code not in _SHADOWED:
                finish(refusal)
                return
            found = self._current.get(command.cap)
            finish(
                Consumed(
                    id="",
                    cap=command.cap,
                    consumed=command.maximum,
                    remaining=0,
                    total=found.total if found else 0,
                    resets_at=found.end if found else 0,
                    shadow=refusal.code,
                )
            )

        return refused

    def consumed(self, found: Slice, amount: int) -> Consumed:
        """The answer to a consume that has just been taken from `found`."""
        last = found.spent(self._cells)
        return Consumed(
            id=format_id(found, last, amount),
            cap=found.cap,
            consumed=amount,
            remaining=found.balance(self._cells) + found.pool_available,
            total=found.total,
            resets_at=found.end,
        )

    def _hold(self, command: Hold, finish: Finish, touched: list[Slice], now_ns: int) -> None:
        def taken(found: Slice, amount: int) -> None:
            touched.append(found)
            last = found.spent(self._cells)
            expires_ns = now_ns + command.lifetime_ms * MS
            self._settlement.hold(found, (last - amount, last), expires_ns)
            finish(self._held(found, last, amount, command.lifetime_ms))

        consume = Consume(cap=command.cap, minimum=command.amount, maximum=command.amount)
        self._enqueue(consume, taken, finish, now_ns)

    def _held(self, found: Slice, last: int, amount: int, lifetime_ms: int) -> Held:
        return Held(
            id=format_id(found, last, amount),
            cap=found.cap,
            held=amount,
            remaining=found.balance(self._cells) + found.pool_available,
            total=found.total,
            resets_at=found.end,
            lifetime_ms=lifetime_ms,
        )

    def _consume_each(
        self, command: ConsumeEach, finish: Finish, touched: list[Slice], now_ns: int
    ) -> None:
        answers: list[Consumed | Refused | None] = [None] * len(command.items)
        missing = len(answers)

        def put(index: int, outcome: Outcome) -> None:
            nonlocal missing
            assert isinstance(outcome, Consumed | Refused)
            answers[index] = outcome
            missing -= 1
            if missing == 0:
                finish(ConsumedEach(items=[each for each in answers if each is not None]))

        for index, item in enumerate(command.items):
            fast = None
            if item.minimum == item.maximum:
                fast = self.consume_now(item.cap, item.maximum, now_ns)
            if fast is not None:
                touched.append(self._current[item.cap])
                put(index, fast)
            else:
                self._consume(item, lambda each, at=index: put(at, each), touched, now_ns)  # type: ignore[misc]  # mypy cannot type a lambda's default

    # ---- lookups

    def _look(self, token: int, cap: str, now_ns: int) -> None:
        refusal = self.holdings.refusal_of(cap)
        found = self.holdings.slice_at(cap, now_ns)
        if refusal is not None:
            self._answer_look(token, refusal)
        elif found is not None:
            self.holdings.look(found, token)
        # else: nothing is known yet; a broadcast or the deadline will decide

    def _look_again(self, now_ns: int) -> None:
        for token, cap in list(self._lookups.items()):
            found = self.holdings.slice_at(cap, now_ns)
            if found is None or token not in found.lookups:
                self._look(token, cap, now_ns)

    def _look_given_up(self, token: int, now_ns: int) -> None:
        cap = self._lookups.get(token)
        if cap is None:
            return
        found = self.holdings.slice_at(cap, now_ns)
        if found is not None:
            self._answer_look(token, self._level(found))
        else:
            detail = "the primary master did not answer in time"
            self._answer_look(token, Refused(code="unavailable", cap=cap, detail=detail))

    def _answer_look(self, token: int, answer: Level | Refused) -> None:
        if self._lookups.pop(token, None) is not None:
            self._reply(token, answer)

    def _level(self, found: Slice) -> Level:
        notice = self.holdings.notice_of(found.cap)
        here = found.balance(self._cells)
        return Level(
            cap=found.cap,
            here=here,
            remaining=here + found.pool_available,
            total=found.total,
            start=found.start,
            resets_at=found.end,
            name=notice.interval if notice else "",
            mode=notice.mode if notice else "hard",
        )

    # ---- the master, the journal, the clock

    def received(self, message: FromMaster, now_ns: int) -> None:
        """A message has come from the primary master."""
        self.holdings.tick(now_ns)
        match message:
            case Broadcast():
                self.holdings.broadcast(message, now_ns)
                self._look_again(now_ns)
            case Standing():
                self.holdings.standing(message, now_ns)

    def connected(self, now_ns: int) -> None:
        """The primary master is connected."""
        self.holdings.connected(now_ns)

    def disconnected(self) -> None:
        """The primary master is gone."""
        self.holdings.disconnected()

    def written(self, ticket: int, now_ns: int) -> None:
        """The record with that ticket is fsynced."""
        self.holdings.written(ticket, now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        self.holdings.tick(now_ns)

    def stop(self, now_ns: int) -> None:
        """Serve no more, and give everything back."""
        self.holdings.stop(now_ns)

    def take(self, now_ns: int) -> list[Output]:
        """All outputs so far, in order."""
        return [self._finished(each) for each in self.holdings.take(now_ns)]

    def _finished(self, output: Output) -> Output:
        if isinstance(output, Reply) and isinstance(output.outcome, Slice):
            self._lookups.pop(output.token, None)
            return Reply(output.token, self._level(output.outcome))
        return output


class AllOrNone:
    """A consume of several caps: each slice sets its units aside, in the order of cap ids, and
    only when all have are they spent."""

    def __init__(
        self,
        server: VolumecapServer,
        items: list[Consume],
        finish: Finish,
        touched: list[Slice],
        now_ns: int,
    ) -> None:
        self._server = server
        self._items = items
        self._order = sorted(range(len(items)), key=lambda index: items[index].cap)
        self._finish = finish
        self._touched = touched
        self._deadline_ns = now_ns + server.limits.max_wait_ms * MS
        self._pinned: dict[int, Slice] = {}

    def go_on(self, now_ns: int) -> None:
        """Set the next item aside, or spend them all."""
        if len(self._pinned) == len(self._items):
            self._spend(now_ns)
            return
        index = self._order[len(self._pinned)]
        item = self._items[index]

        def taken(found: Slice, amount: int) -> None:
            self._pinned[index] = found
            self.go_on(self._server.holdings.now_ns)

        waiter = Waiter(
            item.cap,
            item.minimum,
            item.maximum,
            self._deadline_ns,
            taken,
            self._refuse,
            pins=True,
        )
        self._server.holdings.enqueue(waiter, now_ns)

    def _spend(self, now_ns: int) -> None:
        answers: list[Consumed] = []
        for index, item in enumerate(self._items):
            found = self._pinned[index]
            self._touched.append(found)
            self._server.holdings.unpin(found, item.maximum, spend=True)
            answers.append(self._server.consumed(found, item.maximum))
        self._finish(ConsumedAll(items=answers))
        self._pump(now_ns)

    def _refuse(self, refusal: Refused) -> None:
        for index, found in self._pinned.items():
            self._server.holdings.unpin(found, self._items[index].maximum, spend=False)
        self._finish(refusal)
        self._pump(self._server.holdings.now_ns)

    def _pump(self, now_ns: int) -> None:
        for found in self._pinned.values():
            self._server.holdings.pump(found, now_ns)


__all__ = ["VolumecapServer", "incarnation_of"]
