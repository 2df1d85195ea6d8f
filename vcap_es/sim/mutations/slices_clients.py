"""Bugs of what clients are promised: keys, holds and refunds."""

from collections.abc import Callable

from vcap_es.components import idempotency, journal_records
from vcap_es.components.commands import Idempotency
from vcap_es.components.idempotency import KeyStore, Pending, key_digest
from vcap_es.components.journal_records import Entry, Range
from vcap_es.components.keeper import Keeper
from vcap_es.components.outcomes import Outcome, Refused
from vcap_es.components.settlement import Caller, Settlement
from vcap_es.components.slice import Slice
from vcap_es.sim.mutations import change, together
from vcap_es.sim.mutations.finders import by_scenario
from vcap_es.sim.scenarios import crashes, ends, keys, settling

_admit, _finish = KeyStore.admit, KeyStore.finish
_settle, _refund_refused = Settlement._settle, Settlement._refund_refused


def _nothing(*_: object) -> None:
    pass


def _yes(*_: object) -> bool:
    return True


def _no(*_: object) -> bool:
    return False


# ---- keys


def _admit_who_waits(
    self: KeyStore, caller: str, key: Idempotency, token: int
) -> Pending | Outcome | None:
    call = self._waiting.get((caller, key_digest(key.key)))
    if call is not None:
        call.waiting.append(token)
        return call
    return _admit(self, caller, key, token)


# ---- holds


def _settle_again(self: Settlement, text: str, wanted: int | None, caller: Caller) -> None:
    place = self._find(text)
    if not isinstance(place, Refused) and place[1] in (place[0].holds or ()):
        self._settle_hold(*place, wanted, caller)
    else:
        _settle(self, text, wanted, caller)


def _close_if_open(self: Settlement, found: Slice, span: Range) -> None:
    alarm = (found.expiries or {}).pop(span, None)
    if alarm is not None:
        self._holdings.alarms.call_off(alarm)


def _take_more_than_there_is(self: Settlement, found: Slice, amount: int) -> bool:
    self._holdings.cells[found.slot] += amount
    return True


# ---- refunds


def _left_is_all(_self: Settlement, _found: Slice, span: Range) -> int:
    return span[1] - span[0]


def _keep_apart(self: Keeper, entries: list[Entry], found: Slice, then: Callable[[], None]) -> None:
    def note_afterwards() -> None:
        self.note(*entries)
        then()

    self._after_write.append(note_afterwards)
    self.keep(found)


def _refuse_as_if_confirmed(
    self: Settlement, found: Slice, span: Range, amount: int | None, owner: str
) -> Refused | None:
    is_confirmed, found.is_confirmed = found.is_confirmed, True
    try:
        return _refund_refused(self, found, span, amount, owner)
    finally:
        found.is_confirmed = is_confirmed


CLIENTS = (
    by_scenario(
        "key_forgotten",
        "the same key gives the same answer",
        change(idempotency, "sticks", _no),
        keys.the_same_key_gives_the_same_answer,
    ),
    by_scenario(
        "waiting_key_done_twice",
        "a call whose key waits already waits for the same answer",
        change(KeyStore, "admit", _admit_who_waits),
        keys.a_waiting_key_gets_the_first_calls_answer,
    ),
    by_scenario(
        "unavailable_sticks",
        "what could not be known does not stick to its key",
        change(idempotency, "sticks", _yes),
        keys.an_unavailable_key_may_try_again,
    ),
    by_scenario(
        "hold_settled_twice",
        "a hold is settled once",
        together(
            change(Settlement, "_settle", _settle_again),
            change(Settlement, "_close", _close_if_open),
        ),
        settling.a_hold_is_settled_once,
    ),
    by_scenario(
        "hold_expires_anyway",
        "a hold that was settled does not expire as well",
        change(Settlement, "_close", _nothing),
        settling.a_cancelled_hold_does_not_expire_as_well,
    ),
    by_scenario(
        "hold_not_frozen",
        "when the machine was lost an open hold counts as committed",
        change(journal_records, "_freeze", _nothing),
        crashes.an_open_hold_counts_as_committed_when_the_machine_was_lost,
    ),
    by_scenario(
        "commit_above_the_hold",
        "a commit gets more than was held if that is here, or is short",
        change(Settlement, "_take_more", _take_more_than_there_is),
        settling.a_commit_above_the_hold_takes_the_difference_or_says_short,
    ),
    by_scenario(
        "refunded_twice",
        "of a consume no more comes back than it took",
        change(Settlement, "_left", _left_is_all),
        settling.refunds_of_a_consume_add_up_to_it_at_most,
    ),
    by_scenario(
        "refunded_before_confirmed",
        "nothing is refunded from a journal before the master has told what it knows",
        change(Settlement, "_refund_refused", _refuse_as_if_confirmed),
        ends.refunds_end_with_the_books_of_the_interval,
    ),
    by_scenario(
        "mark_apart",
        "a refund and the mark on its consume are fsynced in one record",
        change(Keeper, "keep_with", _keep_apart),
        settling.a_refund_is_known_wherever_its_units_are,
    ),
)
