"""Bugs of a definition that changes while it lives: what is left of a period, and who has heard."""

from collections.abc import Callable

from msgspec import structs

from vcap_es.components.decisions import interval as decisions
from vcap_es.components.decisions import rest
from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.messages.centre import CommandAnswer
from vcap_es.components.messages.server import NEVER_BOUNDED, Broadcast, OpenInterval
from vcap_es.components.primary_master.confirmations import Confirmations
from vcap_es.components.remote_handler import serving
from vcap_es.components.remote_handler.command_forwarder import CommandForwarder
from vcap_es.components.remote_handler.serving import Serving
from vcap_es.components.volumecap_server.idempotency import IdempotencyKeys
from vcap_es.components.volumecap_server.slices import grant_receiver
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.grant_receiver import GrantReceiver
from vcap_es.components.volumecap_server.slices.slice import Slice
from vcap_es.components.volumecap_server.slices.table import WatchedCap
from vcap_es.events.facts import Fact
from vcap_es.projections.states import data_centre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.usage import Usage
from vcap_es.sim.mutations import change
from vcap_es.sim.mutations.finders import by_scenario
from vcap_es.sim.scenarios import edits, edits_abroad

_answered = CommandForwarder.answered
_period = GrantReceiver._period
_usage = vars(Interval)["usage"].fget


def _zero(*_: object) -> int:
    return 0


def _no(*_: object) -> bool:
    return False


def _yes(*_: object) -> bool:
    return True


def _nobody(*_: object) -> dict[str, int]:
    return {}


def _nothing(*_: object) -> list[Fact]:
    return []


def _answered_by_all(self: CommandForwarder, centre: str, answer: CommandAnswer) -> None:
    _answered(self, centre, structs.replace(answer, unheard=[]))


def _at_once(_self: SliceEngine, _found: Slice, _refunded: int, then: Callable[[], None]) -> None:
    then()


def _merge_bounds(
    self: GrantReceiver, watched: WatchedCap, cap: str, period: OpenInterval, message: Broadcast
) -> None:
    unversioned = OpenInterval(period.number, period.start, period.end, period.total, NEVER_BOUNDED)
    _period(self, watched, cap, unversioned, message)


def _usage_until_the_end(self: Interval) -> Usage:
    used: Usage = _usage(self)
    return Usage(used.start, self.end, used.units)


EDITS = (
    by_scenario(
        "a_new_total",
        "what is opened for the rest of a period has what is left of it",
        change(decisions, "charge", _zero),
        edits.a_cap_that_is_defined_again_has_its_rest,
    ),
    by_scenario(
        "closed_is_forgotten",
        "what closed intervals have used counts in their period",
        change(data_centre, "noted", lambda usages, _: usages),
        edits.what_was_closed_is_not_forgotten,
    ),
    by_scenario(
        "what_goes_on_is_forgotten",
        "what an open interval may spend counts for the rest of its period",
        change(rest, "_goes_on_before", _no),
        edits.what_goes_on_counts_for_what_begins_later,
    ),
    by_scenario(
        "all_have_heard",
        "who has not heard of an end may serve on, and that counts",
        change(Interval, "usage", property(_usage_until_the_end)),
        edits.who_has_not_heard_counts_wherever_it_may_serve,
    ),
    by_scenario(
        "the_later_end_holds",
        "of two ends that of the newer definition holds",
        change(grant_receiver.GrantReceiver, "_period", _merge_bounds),
        edits.an_earlier_end_is_heard,
    ),
    by_scenario(
        "answered_unheard",
        "the answer to a change waits for the servers that are connected",
        change(Confirmations, "awaits", lambda *_: None),
        edits.nobody_serves_after_an_end_that_was_answered,
    ),
    by_scenario(
        "nobody_is_named",
        "the answer to a change names who was not reached",
        change(LocalHandler, "holders", lambda *_: {}),
        edits.who_was_not_reached_is_named,
    ),
    by_scenario(
        "refund_answered_early",
        "an answered refund can be had at once at every server",
        change(SliceEngine, "when_free", _at_once),
        edits.an_answered_refund_can_be_had_at_once,
    ),
    by_scenario(
        "capped_for_ever",
        "a key that was capped asks anew after the period",
        change(IdempotencyKeys, "_is_over", _no),
        edits.who_was_capped_asks_anew_after_the_period,
    ),
    by_scenario(
        "capped_too_early",
        "what is on its way back is waited for",
        change(LocalHandler, "may_be_freed", _no),
        edits.what_is_on_its_way_back_is_waited_for,
    ),
    by_scenario(
        "abroad_not_awaited",
        "the answer to a change waits for the other data centres that are heard",
        change(Serving, "awaited", _no),
        edits_abroad.an_answered_end_holds_in_every_data_centre,
    ),
    by_scenario(
        "abroad_not_named",
        "the answer to a change names the data centres that were not reached",
        change(Serving, "unheard", _nobody),
        edits_abroad.a_data_centre_that_was_not_reached_is_named,
    ),
    by_scenario(
        "abroad_speaks_too_soon",
        "a data centre has heard when its servers have",
        change(Serving, "_is_served", _yes),
        edits_abroad.a_data_centre_whose_server_was_not_reached_is_named,
    ),
    by_scenario(
        "carried_without_names",
        "who was not reached is named wherever the change was asked for",
        change(CommandForwarder, "answered", _answered_by_all),
        edits_abroad.a_carried_change_names_who_was_not_reached,
    ),
    by_scenario(
        "abroad_not_asked_anew",
        "who leads next asks the other data centres again",
        change(serving, "_may_be_cut", _no),
        edits_abroad.who_leads_next_asks_anew,
    ),
    by_scenario(
        "served_after_a_foreign_end",
        "what an earlier home has opened ends with the definition",
        change(decisions, "_clipped_here", _nothing),
        edits_abroad.what_an_earlier_home_has_opened_ends_with_the_definition,
    ),
)
