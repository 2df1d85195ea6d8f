"""Bugs of the master's side of the slice protocol: its allocators, its books, what it lets out."""

from msgspec import structs

from vcap_es.components.local_handler import allocator
from vcap_es.components.local_handler.allocator import Allocator
from vcap_es.components.local_handler.demands import ServerDemand
from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.local_handler.recall import RecallRound
from vcap_es.components.local_handler.server_session import ServerSession
from vcap_es.components.messages.server import Grant, Hello, Holding, MessageNumber
from vcap_es.components.primary_master.leadership import Leadership, PendingRound
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.components.volumecap_server.slices.grant_receiver import GrantReceiver
from vcap_es.events.facts import Spend
from vcap_es.projections.states import interval, volumecap
from vcap_es.projections.states.places import Pool, end, mint
from vcap_es.sim.mutations import Plant, change, instead, together
from vcap_es.sim.mutations.finders import by_chance, by_scenario
from vcap_es.sim.scenarios import allocator_rules, crashes, ends, recalls, verdicts

_grant = Allocator.grant
_hear, _serve, _serve_head = Allocator.hear, Allocator.serve, Allocator._serve_head
_take_newest, _take_totals = Allocator._take_newest, Allocator._take_totals
_recover_topup = Allocator._recover_topup
_hello, _total_changed = LocalHandler.hello, LocalHandler.total_changed

# ---- who is served


def _let_everybody_in(*_: object) -> bool:
    return True


def _serve_past_the_first(self: Allocator, now: int) -> None:
    _serve(self, now)
    for each in list(self._queue)[1:]:
        missing = self._wishes[each].need - self._pool.peek(each).out
        if 0 < missing <= self._free(now):
            self._top_up(each, self._wishes[each].need)
            self._leave(each)


def _serve_a_part(self: Allocator, head: str, now: int) -> bool:
    out, available = self._pool.peek(head).out, self._free(now)
    if 0 < available < self._wishes[head].need - out:
        self._top_up(head, out + available)
    return _serve_head(self, head, now)


def _serve_after_the_end(self: Allocator, now: int) -> None:
    is_ended, self._pool.ended = self._pool.ended, False
    try:
        _serve(self, now)
    finally:
        self._pool.ended = is_ended


def _share_of_what_was_moved(
    self: Allocator,
    wish: ServerDemand,
    incarnation: str,
    connection: int,
    order: MessageNumber,
    holding: Holding,
) -> None:
    _take_newest(self, wish, incarnation, connection, order, holding)
    wish.received = self._pool.peek(incarnation).out


def _without_limit(_self: Allocator, _now: int) -> int:
    return 1 << 40


# ---- what servers tell


def _hear_in_any_order(
    self: Allocator, incarnation: str, connection: int, order: MessageNumber, holding: Holding
) -> list[Spend]:
    wish = self._wishes.get(incarnation)
    if wish is not None:
        wish.order = (0, 0)
    return _hear(self, incarnation, connection, order, holding)


def _final_unseen(
    self: Allocator,
    wish: ServerDemand,
    incarnation: str,
    connection: int,
    order: MessageNumber,
    holding: Holding,
) -> None:
    _take_newest(self, wish, incarnation, connection, order, holding)
    wish.final = holding.final


def _add_spend(pool: Pool, incarnation: str, entry: Spend) -> None:
    account = pool.account(incarnation)
    account.spent += entry.spent
    account.refunded = max(account.refunded, entry.refunded)
    account.final = account.final or entry.final


def _keep_the_final_back(self: Allocator, incarnation: str) -> Grant:
    return structs.replace(_grant(self, incarnation), final=False)


# ---- recalls and verdicts


def _ask_nobody(self: Allocator, head: str, missing: int, since: int) -> RecallRound:  # noqa: ARG001  # the signature of what it stands for
    self._rounds += 1
    need = self._wishes[head].need if head else 0
    number = (self._host.epoch, self._rounds)
    self._round = RecallRound(number, head, need, self._version, since, {}, set())
    return self._round


def _judge_across_versions(self: Allocator, head: str, now: int) -> bool:
    if self._round is not None:
        self._round.version = self._version
    return _serve_head(self, head, now)


def _refunds_wake_nobody(
    self: Allocator, incarnation: str, holding: Holding, wish: ServerDemand
) -> list[Spend]:
    with instead(Allocator, "bump", _nothing):
        return _take_totals(self, incarnation, holding, wish)


def _totals_wake_nobody(self: LocalHandler, cap: str, number: int, now: int) -> None:
    with instead(Allocator, "bump", _nothing):
        _total_changed(self, cap, number, now)


def _holders_wake_nobody(
    self: Allocator, incarnation: str, connection: int, order: MessageNumber, holding: Holding
) -> list[Spend]:
    self._wishes.setdefault(incarnation, ServerDemand()).connection = connection
    return _hear(self, incarnation, connection, order, holding)


def _nothing(*_: object) -> None:
    pass


def _nothing_new(*_: object, is_newer: bool) -> None:
    del is_newer


def _recover_topups_unheard(self: Allocator, incarnation: str, holding: Holding) -> None:
    with instead(Allocator, "bump", _nothing):
        _recover_topup(self, incarnation, holding)


# ---- books


def _mint_without_debt(pool: Pool, total: int) -> None:
    mint(pool, total)
    pool.available = max(0, pool.available)


def _end_without_debt(pool: Pool) -> None:
    end(pool)
    pool.available = 0


def _return_to_an_ended_pool(pool: Pool, place: str, total: int) -> None:
    account = pool.peek(place)
    pool.available += max(0, total - account.back)
    account.back = max(total, account.back)


# ---- what leaves, and who is let in


def _let_out_at_once(_self: Leadership, _under_way: PendingRound) -> bool:
    return True


def _let_out_unheard(self: Leadership, under_way: PendingRound) -> bool:
    return under_way.end <= self._replica.committed


def _let_copies_in(self: LocalHandler, connection: int, message: Hello, now: int) -> bool:
    before = self.servers.get(message.incarnation)
    if before is not None:
        before.session = message.session
    return _hello(self, connection, message, now)


def _remind_nobody(_self: LocalHandler, _server: ServerSession, _now: int) -> None:
    pass


def _allocator(name: str, wrong: object) -> Plant:
    return change(Allocator, name, wrong)


MASTER = (
    # The hard ones: no random life of a model ever found them
    by_scenario(
        "recall_overtaken",
        "while the first in the queue waits for a recall, nobody else gets anything",
        _allocator("serve", _serve_past_the_first),
        recalls.whoever_comes_first_is_served_first,
    ),
    by_scenario(
        "partial_grant",
        "the whole need, or nothing",
        _allocator("_serve_head", _serve_a_part),
        recalls.who_cannot_be_served_whole_gets_nothing,
    ),
    by_scenario(
        "deposed_refuses",
        "everything leaves with a round that everybody in sync confirmed, refusals included",
        change(Leadership, "_is_committed", _let_out_unheard),
        verdicts.a_deposed_master_refuses_nobody,
    ),
    by_scenario(
        "final_unseen",
        "a server's last word counts when it has seen all that was moved to it",
        _allocator("_take_newest", _final_unseen),
        allocator_rules.a_final_that_has_not_seen_all_is_none,
    ),
    by_scenario(
        "verdict_across_versions",
        "no verdict on a pool that has changed since the others were asked",
        _allocator("_serve_head", _judge_across_versions),
        recalls.what_comes_free_during_a_recall_is_asked_for_too,
    ),
    by_scenario(
        "unordered_wishes",
        "what is not a running total is taken from the newest report only",
        _allocator("hear", _hear_in_any_order),
        allocator_rules.an_older_report_changes_no_wish,
    ),
    by_scenario(
        "final_kept_back",
        "a server that starts anew learns that its last word is told",
        _allocator("grant", _keep_the_final_back),
        ends.refunds_do_not_begin_again_after_a_last_word,
    ),
    # Grants
    by_chance(
        "topup_unchecked",
        "nothing is moved that is not available",
        _allocator("_free", _without_limit),
    ),
    by_scenario(
        "granted_after_the_end",
        "an ended pool grants nothing",
        _allocator("serve", _serve_after_the_end),
        allocator_rules.after_the_end_nothing_is_granted,
    ),
    by_scenario(
        "share_of_moved",
        "a wish ahead of need counts from what was seen, so that a repeat adds nothing",
        _allocator("_take_newest", _share_of_what_was_moved),
        allocator_rules.a_wish_ahead_of_need_counts_from_what_was_received,
    ),
    by_scenario(
        "head_never_given_up",
        "a head that cannot be decided in time leaves the queue without a verdict",
        change(allocator, "RECALL_US", 1 << 60),
        allocator_rules.the_head_is_given_up_after_a_while,
    ),
    by_chance(
        "totals_added",
        "running totals are merged by maximum",
        change(volumecap, "evolve_spend", _add_spend),
    ),
    # Recalls and verdicts
    by_chance(
        "idle_not_asked",
        "nobody is capped before all holders were asked",
        _allocator("_start_recall", _ask_nobody),
    ),
    by_scenario(
        "debt_not_recalled",
        "a debt is asked back from who holds something",
        _allocator("_recall_debt", _nothing),
        ends.a_lowered_total_is_called_back,
    ),
    by_scenario(
        "refund_wakes_nobody",
        "a refund makes verdicts void",
        _allocator("_take_totals", _refunds_wake_nobody),
        verdicts.a_refund_makes_verdicts_void,
    ),
    by_scenario(
        "total_wakes_nobody",
        "a changed total makes verdicts void",
        # Who hears of the newer definition forgets what it was told by the one before, too.
        together(
            change(LocalHandler, "total_changed", _totals_wake_nobody),
            change(GrantReceiver, "_follow", _nothing_new),
        ),
        verdicts.a_raised_total_makes_verdicts_void,
    ),
    by_scenario(
        "holder_wakes_nobody",
        "a holder that connects makes verdicts void",
        _allocator("hear", _holders_wake_nobody),
        verdicts.a_server_that_comes_with_units_makes_verdicts_void,
    ),
    by_scenario(
        "recovered_wakes_nobody",
        "a topup that the log had lost makes verdicts void",
        _allocator("_recover_topup", _recover_topups_unheard),
        allocator_rules.who_was_given_what_the_log_has_lost_is_asked_too,
    ),
    # Books
    by_chance(
        "debt_clamped",
        "a total below what has left makes a debt",
        change(interval, "mint", _mint_without_debt),
    ),
    by_chance(
        "debt_lost_at_end",
        "a debt stays when the interval ends",
        change(interval, "end", _end_without_debt),
    ),
    by_chance(
        "returned_after_the_end",
        "what returns after the end pays the debt and expires",
        change(volumecap, "move_back", _return_to_an_ended_pool),
    ),
    # What leaves, and who is let in
    by_chance(
        "told_before_commit",
        "nothing leaves before the facts that it rests on are durable",
        change(Leadership, "_is_committed", _let_out_at_once),
    ),
    by_scenario(
        "copy_let_in",
        "of two sessions of one incarnation the second is not let in",
        change(LocalHandler, "hello", _let_copies_in),
        crashes.two_copies_of_a_journal_do_not_serve_side_by_side,
    ),
    by_scenario(
        "refused_copy_noted",
        "what a refused node says of itself changes nothing that others are told",
        change(PrimaryMaster, "has_let_in", _let_everybody_in),
        crashes.two_copies_of_a_journal_do_not_serve_side_by_side,
    ),
    by_scenario(
        "not_reminded",
        "a server is told of all that was ever moved to it, whenever it connects",
        change(LocalHandler, "_remind", _remind_nobody),
        crashes.a_grant_that_was_never_heard_of_is_found_again,
    ),
)
