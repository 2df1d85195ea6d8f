"""Bugs of a server's side of the slice protocol: its journal, its queue, and what it says."""

from collections import deque

from msgspec import structs

from vcap_es.components.messages.server import Grant, Grants, Verdict
from vcap_es.components.volumecap_server.keys.records import FileBegun
from vcap_es.components.volumecap_server.slices import consume_queue
from vcap_es.components.volumecap_server.slices.consume_queue import ConsumeQueue
from vcap_es.components.volumecap_server.slices.grant_receiver import GrantReceiver
from vcap_es.components.volumecap_server.slices.journal import Cells, Journal, Kept, settle_cells
from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.outputs import ServerOutput
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.returns import Returns
from vcap_es.components.volumecap_server.slices.slice import NEVER_NS, NO_SLOT, Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable
from vcap_es.sim.environment import disks
from vcap_es.sim.environment.disks import BOOT, Disk
from vcap_es.sim.mutations import change, instead, together
from vcap_es.sim.mutations.finders import by_chance, by_scenario
from vcap_es.sim.scenarios import bounds, crashes, ends, recalls, server_rules, verdicts

_give = Returns.give
_bound, _standing, _take_newest = (
    GrantReceiver._bound,
    GrantReceiver.standing,
    GrantReceiver._take_newest,
)
_slice_of = GrantReceiver._slice_of
_record, _recover = JournalWriter._record, JournalWriter._recover
_serve, _verdict = ConsumeQueue.serve, ConsumeQueue.verdict
_totals, _begin_telling = Slice.totals, Reporter.__init__
_hunger = Reporter.hunger


def _nothing(*_: object) -> None:
    pass


def _no(*_: object) -> bool:
    return False


# ---- giving back


def _spare_everything(self: Returns, found: Slice) -> int:
    return max(0, found.balance(self._table.cells))


def _give_without_answer(self: Returns, found: Slice) -> None:
    with instead(Returns, "answer", _nothing):
        _give(self, found)


def _answer_with_any_fsync(self: Returns, found: Slice) -> None:
    if found.answering is not None:
        found.answered, found.answering = found.answering, None
        self._reporter.tell(found)


# ---- telling at once


def _hunger_at_every_recall(self: Reporter, found: Slice) -> None:
    _hunger(self, found)
    if found.recall is not None:
        self.tell(found)


# ---- refusing


def _counted_for_ever(*_: object) -> int:
    return 1 << 70


def _spendable_without_bound(self: Slice) -> int:
    return self.received - self.returned + self.refunded


def _returned_nothing(_found: Slice, _verdict: Verdict) -> int:
    return 0


def _fresh_for_ever(self: ConsumeQueue, found: Slice) -> Verdict | None:
    heard_ns, found.heard_ns = found.heard_ns, self._table.now_ns
    try:
        return _verdict(self, found)
    finally:
        found.heard_ns = heard_ns


def _nothing_is_left(self: ConsumeQueue, found: Slice) -> Verdict | None:
    verdict = _verdict(self, found)
    return structs.replace(verdict, rest=0) if verdict is not None else None


def _keep_the_verdict(self: GrantReceiver, found: Slice, grant: Grant, message: Grants) -> None:
    verdict = found.verdict
    _take_newest(self, found, grant, message)
    found.verdict = found.verdict or verdict


def _serve_the_smallest(self: ConsumeQueue, found: Slice) -> None:
    found.waiters = deque(sorted(found.waiters, key=lambda each: each.minimum))
    _serve(self, found)


# ---- hearing


def _heed_every_epoch(self: GrantReceiver, message: Grants) -> None:
    epoch, self.epoch = self.epoch, 0
    _standing(self, message)
    self.epoch = max(self.epoch, epoch)


def _heed_old_news(self: GrantReceiver, grant: Grant, is_newest: bool) -> Slice | None:  # noqa: ARG001  # the signature of what it stands for
    return _slice_of(self, grant, True)


def _bound_by_nothing(self: GrantReceiver, found: Slice, now: int, echo_ns: int) -> None:
    _bound(self, found, now, echo_ns)
    if found.deadline_ns > 0:
        found.deadline_ns = NEVER_NS


# ---- telling


def _tell_returns_early(self: Slice, cells: Cells) -> tuple[int, int, int, int]:
    spent, _, refunded, refused = _totals(self, cells)
    return (spent, self.returned, refunded, refused)


def _tell_refunds_early(self: Slice, cells: Cells) -> tuple[int, int, int, int]:
    spent, returned, _, refused = _totals(self, cells)
    return (spent, returned, self.refunded, refused)


def _begin_as_the_first(
    self: Reporter,
    start: int,  # noqa: ARG001  # likewise
    table: SliceTable,
    outputs: list[ServerOutput],
) -> None:
    _begin_telling(self, 1, table, outputs)


# ---- the journal


def _spend_above_the_ceiling(self: Slice, cells: Cells, amount: int) -> bool:  # noqa: ARG001  # likewise
    return self.slot != NO_SLOT


def _higher_ceiling_in_flight(self: JournalWriter, found: Slice) -> Kept:
    ceiling = found.ceiling
    kept = _record(self, found)
    found.ceiling = max(ceiling, kept.ceiling)
    return kept


def _recover_confirmed(self: JournalWriter, journal: Journal) -> None:
    _recover(self, journal)
    for found in self._table.slices.values():
        found.is_confirmed = True


def _trust_lost_cells(journal: Journal, cells: Cells, *, same_boot: bool) -> None:
    if not same_boot:
        for kept in journal.kept.values():
            if kept.slot != NO_SLOT:
                cells[kept.slot] = cells[kept.slot + 1] = 0
    settle_cells(journal, cells, same_boot=True)


def _rewrite_without_fsync(self: Disk, journal: Journal) -> None:
    self.key_files.clear()
    self.turn_keys(journal.key_file.number, FileBegun(BOOT, 0))
    self.frames, self.synced, self.ceilings = [], 0, {}
    self.write(journal.entries())


SERVER = (
    # The hard ones: no random life of a model ever found them
    by_scenario(
        "no_reservation",
        "a recall leaves what a waiting consume that fits will take",
        change(Returns, "_spare", _spare_everything),
        recalls.units_are_not_recalled_from_under_a_consume_that_they_serve,
    ),
    by_scenario(
        "answer_of_any_fsync",
        "a recall is answered by the fsynced record that has its return",
        together(
            change(Returns, "give", _give_without_answer),
            change(Returns, "answer", _answer_with_any_fsync),
        ),
        recalls.a_recall_is_answered_by_the_record_with_its_return,
    ),
    by_scenario(
        "answer_with_units_pending",
        "a recall is answered when the fate of every unit is decided",
        change(Returns, "_is_undecided", _no),
        recalls.nobody_is_capped_over_units_that_are_set_aside_elsewhere,
    ),
    by_scenario(
        "own_returns_ignored",
        "what was returned since a verdict is counted, for it is elsewhere now",
        change(consume_queue, "_returned_since", _returned_nothing),
        recalls.what_was_given_back_is_not_forgotten,
    ),
    by_scenario(
        "stale_verdict",
        "a verdict is good while the master is heard, and a moment longer",
        change(ConsumeQueue, "verdict", _fresh_for_ever),
        verdicts.nobody_is_capped_by_an_old_verdict,
    ),
    # Serving and refusing
    by_scenario(
        "rest_ignored",
        "who is refused more than there is may still have what there is",
        change(ConsumeQueue, "verdict", _nothing_is_left),
        verdicts.what_is_left_is_served_after_a_refusal,
    ),
    by_scenario(
        "verdict_kept",
        "a newer version of the pool makes a verdict void",
        change(GrantReceiver, "_take_newest", _keep_the_verdict),
        verdicts.a_server_that_comes_with_units_makes_verdicts_void,
    ),
    by_scenario(
        "small_ones_first",
        "consumes at one server are served first in, first out",
        change(ConsumeQueue, "serve", _serve_the_smallest),
        recalls.whoever_asks_first_at_a_server_is_served_first,
    ),
    by_scenario(
        "spent_without_bound",
        "a consume that would take a running total past its bound is refused",
        together(
            change(Slice, "countable", _counted_for_ever),
            change(Slice, "spendable", property(_spendable_without_bound)),
        ),
        bounds.what_a_server_cannot_count_is_refused_by_its_name,
    ),
    # Hearing
    by_scenario(
        "deposed_heeded",
        "of an older epoch only running totals are taken",
        change(GrantReceiver, "standing", _heed_every_epoch),
        server_rules.a_deposed_masters_words_change_totals_only,
    ),
    by_chance(
        "old_news_heeded",
        "what is closed is not opened again by old news",
        change(GrantReceiver, "_slice_of", _heed_old_news),
    ),
    by_scenario(
        "deadline_ignored",
        "nothing is spent after the end, also by a server that cannot hear of it",
        change(GrantReceiver, "_bound", _bound_by_nothing),
        ends.nothing_is_spent_after_the_end_without_contact,
    ),
    by_scenario(
        "old_copy_trusted",
        "a journal that knows less than the master has seen is abandoned",
        change(GrantReceiver, "_is_suspect", _no),
        crashes.a_journal_that_is_an_old_copy_is_abandoned,
    ),
    # Telling
    by_chance(
        "return_told_early",
        "a return is told from the fsynced record on",
        change(Slice, "totals", _tell_returns_early),
    ),
    by_scenario(
        "refund_told_early",
        "a refund is told from the fsynced record on",
        change(Slice, "totals", _tell_refunds_early),
        server_rules.refunded_units_are_there_from_the_fsynced_record_on,
    ),
    by_scenario(
        "start_not_counted",
        "what is said after a start is newer than all that was said before",
        change(Reporter, "__init__", _begin_as_the_first),
        crashes.a_server_that_starts_again_is_heard,
    ),
    by_scenario(
        "wish_not_repeated",
        "a wish repeats until it is met",
        change(Reporter, "repeat", _nothing),
        server_rules.a_wish_is_told_again_until_it_is_met,
    ),
    by_scenario(
        "every_recall_told",
        "a wish is told at once only where it has changed, however often it is answered",
        change(Reporter, "hunger", _hunger_at_every_recall),
        server_rules.a_recall_that_is_met_already_is_not_spoken_of_before_the_fsync,
    ),
    by_scenario(
        "final_with_open_hold",
        "the last word comes when nothing can come back any more",
        change(Slice, "open_holds", 0),
        server_rules.a_final_report_is_told_when_nothing_can_change_any_more,
    ),
    # The journal
    by_chance(
        "spent_above_the_ceiling",
        "the ceiling is fsynced before anything above the old one is spent",
        change(Slice, "within_ceiling", _spend_above_the_ceiling),
    ),
    by_chance(
        "higher_ceiling_in_flight",
        "while a record is in flight the lower ceiling holds",
        change(JournalWriter, "_record", _higher_ceiling_in_flight),
    ),
    by_chance(
        "lost_cells_trusted",
        "when the machine was lost all below the ceiling is spent",
        change(disks, "settle_cells", _trust_lost_cells),
    ),
    by_scenario(
        "spent_before_confirmed",
        "nothing is spent from a journal before the master has told what it knows",
        change(JournalWriter, "_recover", _recover_confirmed),
        server_rules.nothing_is_spent_from_a_journal_before_the_master_has_told_what_it_knows,
    ),
    by_chance(
        "start_without_fsync",
        "a start fsyncs what it has read before it says anything",
        change(Disk, "rewrite", _rewrite_without_fsync),
    ),
)
