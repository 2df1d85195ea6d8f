"""The volumecap server: answers clients from its slices, and refills them ahead of need.

Plain code around `SliceEngine`: every input is told the boot clock, and `take` gives what must be
sent, written and answered, in that order.
"""

from collections.abc import Callable
from functools import partial

from vcap_es.components.messages.client import (
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
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Refused,
)
from vcap_es.components.messages.server import Broadcast, FromMaster, Grants
from vcap_es.components.volumecap_server.all_or_none import AllOrNone
from vcap_es.components.volumecap_server.client_call import ClientCall, KeyedCall
from vcap_es.components.volumecap_server.holds import Holds, format_id
from vcap_es.components.volumecap_server.idempotency import IdempotencyKeys, Pending
from vcap_es.components.volumecap_server.lookups import Lookups
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Cells, Journal
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import Reply, ServerOutput
from vcap_es.components.volumecap_server.slices.slice import Slice, Waiter
from vcap_es.events.consume_ids import find_shadow_id
from vcap_es.events.units import MS


class VolumecapServer:
    """One incarnation of a volumecap server."""

    def __init__(
        self,
        journal: Journal,
        cells: Cells,
        limits: Limits | None = None,
        *,
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Go on where `journal` and `cells` left off; `cells` must outlive the process.

        `has_room` says whether the cells of the first so many slots may be touched.
        """
        self.limits = limits or Limits()
        self.holdings = SliceEngine(journal, cells, self.limits, has_room)
        self.incarnation = journal.incarnation
        self._cells = cells
        self._current = self.holdings.current
        self.settlement = Holds(self.holdings)
        self._lookups = Lookups(self.holdings, self._reply)
        self.keys = IdempotencyKeys(self.holdings, journal)
        self.holdings.dropped = self._dropped

    def _dropped(self, found: Slice) -> None:
        self.keys.forget(found)
        self.settlement.forget(found)

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
            cap=cap,
            origin=found.id_prefix,
            last=spent,
            consumed=amount,
            remaining=found.reach - spent,
            total=found.total,
            resets_at=found.end,
        )

    def submit(
        self,
        token: int,
        command: Command,
        idempotency: Idempotency | None,
        now_ns: int,
        owner: str = "",
    ) -> None:
        """Do what a client asks; `token` is answered by a `Reply` in the outputs.

        What the call makes grow here is in the share of `owner`, the API key that it came with.
        """
        self.holdings.tick(now_ns)
        if idempotency is None:
            self._do(command, ClientCall(self._reply, token, owner))
            return
        admitted = self.keys.admit(owner, idempotency, token)
        if isinstance(admitted, Pending):
            self._do(
                command, KeyedCall(self._reply, token, owner, idempotency, admitted, self.keys)
            )
        elif admitted is not None:
            self._reply(token, admitted)

    def lookup(self, token: int, cap: str, now_ns: int) -> None:
        """Tell what is left of `cap`, as the master knows it now, or a refusal."""
        self.holdings.tick(now_ns)
        self._lookups.ask(token, cap)

    def _reply(self, token: int, outcome: object) -> None:
        self.holdings.outputs.append(Reply(token, outcome))

    def _do(self, command: Command, call: "ClientCall") -> None:
        match command:
            case Consume():
                self._consume(command, call.touched, call.finish)
            case Hold():
                self._hold(command, call)
            case ConsumeAll():
                self._consume_all(command, call)
            case ConsumeEach():
                self._consume_each(command, call)
            case Commit() | Cancel() | Refund():
                self._settle(command, call)

    def _settle(self, command: Commit | Cancel | Refund, call: "ClientCall") -> None:
        shadow = find_shadow_id(command.id)
        if shadow is not None:
            call.finish(self.settlement.answer_shadow(command, shadow))
            return
        self._touch(command.id, call)
        match command:
            case Commit():
                self.settlement.commit(command, call)
            case Cancel():
                self.settlement.cancel(command, call)
            case Refund():
                self.settlement.refund(command, call)

    def _touch(self, text: str, call: "ClientCall") -> None:
        """The slice of an id keeps the key of the call."""
        found = self.settlement.slice_of(text)
        call.touched += [found] if found else []

    def _consume(
        self,
        command: Consume,
        touched: list[Slice],
        finish: Callable[[Consumed | Refused], None],
    ) -> None:
        """Consume at once if the slice suffices, or else as soon as it does."""
        if command.minimum == command.maximum:
            fast = self.consume_now(command.cap, command.maximum, self.holdings.now_ns)
            if fast is not None:
                touched.append(self._current[command.cap])
                finish(fast)
                return

        def taken(found: Slice, amount: int) -> None:
            touched.append(found)
            finish(self._consumed(found, amount))

        def refused(refusal: Refused) -> None:
            finish(self._shadow(command, refusal, touched) or refusal)

        self._enqueue(command, taken, refused)

    def _enqueue(
        self,
        command: Consume,
        taken: Callable[[Slice, int], None],
        refused: Callable[[Refused], None],
    ) -> None:
        deadline_ns = self.holdings.now_ns + self.limits.max_wait_ms * MS
        low, high = command.minimum, command.maximum
        self.holdings.enqueue(Waiter(command.cap, low, high, deadline_ns, taken, refused))

    def _shadow(self, command: Consume, refusal: Refused, touched: list[Slice]) -> Consumed | None:
        """A shadow cap says yes where a hard one would refuse, and says so."""
        code, found = self.holdings.shadowed_code(refusal), self.holdings.slice_at(command.cap)
        if code is None or found is None:
            return None
        touched.append(found)
        return Consumed(
            cap=command.cap,
            origin=found.id_prefix,
            last=command.maximum,
            consumed=command.maximum,
            remaining=0,
            total=found.total,
            resets_at=found.end,
            shadow=code,
        )

    def _consumed(self, found: Slice, amount: int) -> Consumed:
        """The answer to a consume that has just been taken from `found`."""
        return Consumed(
            cap=found.cap,
            origin=found.id_prefix,
            last=found.spent(self._cells),
            consumed=amount,
            remaining=found.balance(self._cells) + found.pool_available,
            total=found.total,
            resets_at=found.end,
        )

    def _hold(self, command: Hold, call: "ClientCall") -> None:
        refusal = self.settlement.full(command.cap, call.owner)
        if refusal is not None:
            call.finish(refusal)
            return

        def taken(found: Slice, amount: int) -> None:
            call.touched.append(found)
            last = found.spent(self._cells)
            expires_ns = self.holdings.now_ns + command.lifetime_ms * MS
            self.settlement.hold(found, (last - amount, last), expires_ns, call.owner)
            call.finish(self._held(found, last, amount, command.lifetime_ms))

        def refused(refusal: Refused) -> None:
            call.finish(self._shadow_hold(command, refusal, call.touched) or refusal)

        consume = Consume(cap=command.cap, minimum=command.amount, maximum=command.amount)
        self._enqueue(consume, taken, refused)

    def _shadow_hold(self, command: Hold, refusal: Refused, touched: list[Slice]) -> Held | None:
        """A shadow cap says yes to a hold too, of which nothing is held."""
        consume = Consume(cap=command.cap, minimum=command.amount, maximum=command.amount)
        would_be = self._shadow(consume, refusal, touched)
        if would_be is None:
            return None
        return Held(
            id=would_be.id,
            cap=would_be.cap,
            held=would_be.consumed,
            remaining=would_be.remaining,
            total=would_be.total,
            resets_at=would_be.resets_at,
            lifetime_ms=command.lifetime_ms,
            shadow=would_be.shadow,
        )

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

    def _consume_all(self, command: ConsumeAll, call: "ClientCall") -> None:
        shadowed: list[Slice] = []

        def shadow(item: Consume, refusal: Refused) -> Consumed | None:
            return self._shadow(item, refusal, shadowed)

        def done(outcome: ConsumedAll | Refused, touched: list[Slice]) -> None:
            call.touched += [] if isinstance(outcome, Refused) else [*touched, *shadowed]
            call.finish(outcome)

        AllOrNone(
            self.holdings, command.items, shadow=shadow, consumed=self._consumed, done=done
        ).go_on()

    def _consume_each(self, command: ConsumeEach, call: "ClientCall") -> None:
        answers: dict[int, Consumed | Refused] = {}

        def put(index: int, outcome: Consumed | Refused) -> None:
            answers[index] = outcome
            if len(answers) == len(command.items):
                call.finish(ConsumedEach(items=[answers[each] for each in sorted(answers)]))

        for index, item in enumerate(command.items):
            self._consume(item, call.touched, partial(put, index))

    # ---- the master, the journal, the clock

    def received(self, message: FromMaster, now_ns: int) -> None:
        """A message has come from the primary master."""
        self.holdings.tick(now_ns)
        match message:
            case Broadcast():
                self.holdings.broadcast(message, now_ns)
            case Grants():
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
        self.keys.tick(now_ns)

    def stop(self, now_ns: int) -> None:
        """Serve no more, and give everything back."""
        self.holdings.stop(now_ns)

    def take(self, now_ns: int) -> list[ServerOutput]:
        """All outputs so far, in order."""
        return self.holdings.take(now_ns)
