"""Bugs of what clients are promised: keys, holds and refunds."""

from collections.abc import Callable
from typing import Any

from vcap_es.components.messages.client import Cancel, Commit, Consume, Idempotency, Refund
from vcap_es.components.messages.outcomes import Consumed, Outcome, Refunded, Refused
from vcap_es.components.volumecap_server import holds, idempotency
from vcap_es.components.volumecap_server.holds import Caller, Holds
from vcap_es.components.volumecap_server.idempotency import IdempotencyKeys, Pending, key_digest
from vcap_es.components.volumecap_server.key_files import KeyFiles
from vcap_es.components.volumecap_server.keys import ledger
from vcap_es.components.volumecap_server.keys.ledger import (
    HEAD_BYTES,
    Bits,
    KeyLedger,
    Segment,
    Share,
    records_of,
)
from vcap_es.components.volumecap_server.refund_ages import RefundAges
from vcap_es.components.volumecap_server.slices import journal
from vcap_es.components.volumecap_server.slices.journal import Entry, Range
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.slice import Slice, Waiter
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.events.consume_ids import ConsumeId
from vcap_es.sim.mutations import change, together
from vcap_es.sim.mutations.finders import by_chance, by_scenario
from vcap_es.sim.scenarios import crashes, ends, keys, settling

_admit, _finish = IdempotencyKeys.admit, IdempotencyKeys.finish
_forget_below = RefundAges._forget_below
_expire, _rewrite = KeyLedger.expire, KeyFiles._rewrite
_settle, _refund_refused = Holds._settle, Holds._refund_refused
_expire_hold, _shadow = Holds._expire, VolumecapServer._shadow


def _nothing(*_: object) -> None:
    pass


def _yes(*_: object) -> bool:
    return True


def _no(*_: object) -> bool:
    return False


# ---- keys


def _find_anywhere(self: Segment, digest: bytes, bits: int) -> bytes | None:
    records = records_of(bytes(self._bucket(bits)))
    return next((each[HEAD_BYTES:] for each in records if digest in each), None)


def _bits_of_the_digest(secret: bytes) -> Bits:  # noqa: ARG001  # the signature of what it stands for
    return lambda digest: int.from_bytes(digest[:4], "little")


def _admit_who_waits(
    self: IdempotencyKeys, caller: str, key: Idempotency, token: int
) -> Pending | Outcome | None:
    call = self._waiting.get((caller, key_digest(key.key)))
    if call is not None:
        call.waiting.append(token)
        return call
    return _admit(self, caller, key, token)


def _admit_evicting_who_waits(
    self: IdempotencyKeys, caller: str, key: Idempotency, token: int
) -> Pending | Outcome | None:
    while len(self._waiting) >= self.ledger.keys_max:
        del self._waiting[next(iter(self._waiting))]
    return _admit(self, caller, key, token)


def _finish_if_known(
    self: IdempotencyKeys, pending: Pending, outcome: Outcome, touched: list[Slice]
) -> list[int]:
    self._waiting.setdefault((pending.caller, pending.digest), pending)
    return _finish(self, pending, outcome, touched)


def _make_room_of_anybody(self: KeyLedger, share: Share, cost: int) -> None:  # noqa: ARG001  # the signature of what it stands for
    while self.weight + cost > self.keys_max and any(e.segments for e in self.shares.values()):
        full = [each for each in self.shares.values() if each.segments]
        oldest = min(full, key=lambda each: each.segments[0].began_ns)
        self.evicted += oldest.segments[0].count
        self._drop_oldest(oldest)


def _expire_early(self: KeyLedger, now_ns: int) -> None:
    _expire(self, now_ns + self.retention_ns // 2)


def _rewrite_and_drop(self: KeyFiles, number: int, now_ns: int) -> None:
    _rewrite(self, number, now_ns)
    while self._files[0].number < number:
        self._drop_oldest()


# ---- holds


def _settle_again(self: Holds, text: str, wanted: int | None, caller: Caller) -> None:
    place = self._find(text)
    if not isinstance(place, Refused) and place[1] in (place[0].holds or ()):
        held = place[1][1] - place[1][0]
        self._settle_within(*place, held if wanted is None else wanted, caller)
    else:
        _settle(self, text, wanted, caller)


def _close_if_open(self: Holds, found: Slice, span: Range) -> None:
    alarm = (found.expiries or {}).pop(span, None)
    if alarm is not None:
        self._holdings.alarms.call_off(alarm)


def _all_or_nothing(cap: str, _minimum: int, maximum: int, *rest: Any, only: Slice) -> Waiter:
    return Waiter(cap, maximum, maximum, *rest, only=only)


def _of_any_period(cap: str, *rest: Any, only: Slice) -> Waiter:  # noqa: ARG001  # the point
    return Waiter(cap, *rest)


def _parts_held(_self: Holds, _found: Slice, span: Range) -> list[Range]:
    return [span]


def _expire_while_it_waits(self: Holds, found: Slice, span: Range, now_ns: int) -> None:
    self._settling.clear()
    _expire_hold(self, found, span, now_ns)


def _settle_while_it_waits(self: Holds, text: str, wanted: int | None, caller: Caller) -> None:
    self._settling.clear()
    _settle(self, text, wanted, caller)


def _give_back_what_was_not_taken(
    _self: Holds, command: Commit | Cancel | Refund, shadow: ConsumeId
) -> Outcome:
    return Refunded(id=command.id, cap=shadow.cap, refunded=shadow.end, refunded_in_all=shadow.end)


def _shadow_of_no_slice(
    self: VolumecapServer, command: Consume, refusal: Refused, _touched: list[Slice]
) -> Consumed | None:
    return _shadow(self, command, refusal, [])


# ---- refunds


def _forget_without_a_floor(self: RefundAges, found: Slice) -> None:
    _forget_below(self, found)
    found.floor = 0


def _forget_the_oldest_mark(self: Holds, _cap: str, _owner: str) -> None:
    if self.known_in_all >= self._holdings.limits.marks_max:
        for found in self._holdings.slices.values():
            if found.marks:
                span = next(iter(found.marks))
                del found.marks[span]
                assert found.spans is not None
                found.spans.remove(span)
                return


def _left_is_all(_self: Holds, _found: Slice, parts: list[Range]) -> int:
    return sum(last - first for first, last in parts)


def _keep_apart(
    self: JournalWriter, entries: list[Entry], found: Slice, then: Callable[[], None]
) -> None:
    def note_afterwards() -> None:
        self.note(*entries)
        then()

    self._after_write.append(note_afterwards)
    self.keep(found)


def _refuse_as_if_confirmed(
    self: Holds, found: Slice, span: Range, amount: int | None, owner: str
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
        "digest_found_anywhere",
        "an answer is found by the digest that its record begins with, and nowhere else",
        change(Segment, "find", _find_anywhere),
        keys.an_answer_that_holds_the_digest_of_a_key_is_not_that_keys,
    ),
    by_scenario(
        "waiting_key_done_twice",
        "a call whose key waits already waits for the same answer",
        change(IdempotencyKeys, "admit", _admit_who_waits),
        keys.a_waiting_key_gets_the_first_calls_answer,
    ),
    by_scenario(
        "bucket_without_a_secret",
        "a client cannot choose keys that share a bucket",
        change(ledger, "bits_by", _bits_of_the_digest),
        keys.keys_chosen_by_a_client_share_no_bucket,
    ),
    by_scenario(
        "unavailable_sticks",
        "what could not be known does not stick to its key",
        change(idempotency, "sticks", _yes),
        keys.an_unavailable_key_may_try_again,
    ),
    by_scenario(
        "who_waits_evicted",
        "a call whose key waits is never evicted",
        together(
            change(IdempotencyKeys, "admit", _admit_evicting_who_waits),
            change(IdempotencyKeys, "finish", _finish_if_known),
        ),
        keys.who_waits_is_never_evicted,
    ),
    by_scenario(
        "evicted_by_others",
        "who has less than an equal part of the answers loses none to others",
        change(KeyLedger, "_make_room", _make_room_of_anybody),
        keys.a_flood_evicts_its_own_answers,
    ),
    by_chance(
        "expired_early",
        "an answer is kept for the retention time",
        change(KeyLedger, "expire", _expire_early),
    ),
    by_scenario(
        "dropped_before_rewritten",
        "key files go when the file that has all they had is durable",
        change(KeyFiles, "_rewrite", _rewrite_and_drop),
        keys.answers_outlive_a_rewriting_that_is_cut_short,
    ),
    by_scenario(
        "mark_forgotten",
        "a mark of a refund is never evicted",
        change(Holds, "full", _forget_the_oldest_mark),
        keys.a_full_share_forgets_no_refund,
    ),
    by_scenario(
        "old_mark_forgotten",
        "a mark goes when its consume is too old to be refunded, and not before",
        change(RefundAges, "_forget_below", _forget_without_a_floor),
        settling.what_is_too_old_is_refunded_no_more,
    ),
    by_scenario(
        "hold_settled_twice",
        "a hold is settled once",
        together(
            change(Holds, "_settle", _settle_again),
            change(Holds, "_close", _close_if_open),
        ),
        settling.a_hold_is_settled_once,
    ),
    by_scenario(
        "hold_expires_anyway",
        "a hold that was settled does not expire as well",
        change(Holds, "_close", _nothing),
        settling.a_cancelled_hold_does_not_expire_as_well,
    ),
    by_scenario(
        "hold_not_frozen",
        "when the machine was lost an open hold counts as committed",
        change(journal, "_freeze", _nothing),
        crashes.an_open_hold_counts_as_committed_when_the_machine_was_lost,
    ),
    by_scenario(
        "commit_above_all_or_nothing",
        "what a commit takes above its hold is what there is",
        change(holds, "Waiter", _all_or_nothing),
        settling.a_commit_above_the_hold_takes_what_there_is,
    ),
    by_scenario(
        "commit_of_the_next_period",
        "a commit takes nothing of another period than its hold did",
        change(holds, "Waiter", _of_any_period),
        settling.a_late_commit_takes_nothing_of_the_next_period,
    ),
    by_scenario(
        "above_forgotten",
        "the id of a hold refunds what its commit took above it too",
        change(Holds, "_parts", _parts_held),
        settling.a_commit_above_the_hold_is_refunded_by_its_id,
    ),
    by_scenario(
        "expired_while_committed",
        "a hold does not expire while its commit waits for more",
        change(Holds, "_expire", _expire_while_it_waits),
        settling.a_commit_that_waits_is_one_settlement,
    ),
    by_scenario(
        "settled_while_committed",
        "nothing settles a hold while its commit waits for more",
        change(Holds, "_settle", _settle_while_it_waits),
        settling.a_commit_that_waits_is_one_settlement,
    ),
    by_scenario(
        "shadow_given_back",
        "what a shadow cap did not take does not come back",
        change(Holds, "answer_shadow", _give_back_what_was_not_taken),
        settling.a_shadow_hold_gives_nothing_back,
    ),
    by_scenario(
        "shadow_key_forgotten",
        "a yes that took nothing sticks to its key",
        change(VolumecapServer, "_shadow", _shadow_of_no_slice),
        settling.a_shadow_yes_sticks_to_its_key,
    ),
    by_scenario(
        "refunded_twice",
        "of a consume no more comes back than it took",
        change(Holds, "_left", _left_is_all),
        settling.refunds_of_a_consume_add_up_to_it_at_most,
    ),
    by_scenario(
        "refunded_before_confirmed",
        "nothing is refunded from a journal before the master has told what it knows",
        change(Holds, "_refund_refused", _refuse_as_if_confirmed),
        ends.refunds_end_with_the_books_of_the_interval,
    ),
    by_scenario(
        "mark_apart",
        "a refund and the mark on its consume are fsynced in one record",
        change(JournalWriter, "keep_with", _keep_apart),
        settling.a_refund_is_known_wherever_its_units_are,
    ),
)
