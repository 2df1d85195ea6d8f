"""Bugs of restoring: what a generation before may have granted is granted again."""

from msgspec import structs

from vcap_es.components.decisions import interval, restore
from vcap_es.components.local_handler.allocator import Allocator
from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.master.master import Master
from vcap_es.components.messages.master import Greeting
from vcap_es.components.messages.server import Grant, Hello, Holding, Readmitted
from vcap_es.components.primary_master.outputs import Send
from vcap_es.events.facts import AmountWithheld, Definition, Fact
from vcap_es.events.periods import Window, window_at
from vcap_es.projections.states import data_centre, places, volumecap
from vcap_es.projections.states import interval as interval_state
from vcap_es.projections.states.places import Account, Pool
from vcap_es.sim.mutations import change, instead
from vcap_es.sim.mutations.finders import by_scenario
from vcap_es.sim.scenarios import restoring

_grant, _trouble = Allocator.grant, Master._trouble
_restored, _recover = restore.restored, places.recover


def _without_withholding(*args: object, **fields: object) -> list[Fact]:
    facts = _restored(*args, **fields)  # type: ignore[arg-type]  # handed on as they come
    return [each for each in facts if not isinstance(each, AmountWithheld)]


def _current_alone(definition: Definition, window: Window, restored_at: int) -> bool:
    return window.start < window_at(definition.interval, definition.timezone, restored_at).end


def _two_ahead(definition: Definition, window: Window, restored_at: int) -> bool:
    following = window_at(definition.interval, definition.timezone, restored_at).end
    return window.start <= window_at(definition.interval, definition.timezone, following).end


def _known_alone(_definition: Definition, _window: Window, _restored_at: int) -> bool:
    return False


def _free_returns(pool: Pool, place: str, told: Account) -> None:
    old, returned = pool.old, max(0, told.back - pool.peek(place).back)
    _recover(pool, place, told)
    if old is not None and pool.old is not None:
        pool.old -= returned
        pool.available += returned


def _minted_here(pool: Pool, total: int) -> None:
    pool.available += total - pool.minted
    pool.minted = total


def _let_in(self: Master, connection: int, hello: Hello, _was: str, _trouble: str) -> None:
    readmitted = Readmitted(incarnation=hello.incarnation, was=hello.cluster, cluster=self.cluster)
    self._outputs.append(Send(connection, readmitted))


def _never_forgotten(_self: Master, _hello: Hello) -> bool:
    return False


def _never_from_before(_self: LocalHandler, _incarnation: str, _allocator: object) -> bool:
    return False


def _told_first(self: Allocator, incarnation: str) -> Grant:
    with instead(LocalHandler, "is_from_before", _never_from_before):
        return _grant(self, incarnation)


def _believed(_self: Allocator | LocalHandler, _incarnation: str, _holding: Holding) -> None:
    pass


def _whichever_start(self: Master, greeting: Greeting) -> str:
    return _trouble(self, structs.replace(greeting, stamp=1 << 40))


RESTORES = (
    by_scenario(
        "restored_without_withholding",
        "what was available at the backup may be with anybody",
        change(restore, "restored", _without_withholding),
        restoring.what_may_have_been_granted_is_not_granted_again,
    ),
    by_scenario(
        "next_period_not_withheld",
        "the next period is open ahead, and may be served",
        change(interval, "may_be_served", _current_alone),
        restoring.the_next_period_is_withheld_and_later_ones_serve,
    ),
    by_scenario(
        "withheld_one_period_longer",
        "what the generation before cannot have opened serves as usual",
        change(interval, "may_be_served", _two_ahead),
        restoring.the_next_period_is_withheld_and_later_ones_serve,
    ),
    by_scenario(
        "unknown_cap_not_withheld",
        "a cap that the log does not know may be served all the same",
        change(interval, "may_be_served", _known_alone),
        restoring.a_cap_that_is_defined_again_is_withheld,
    ),
    by_scenario(
        "old_returns_are_free",
        "what was returned to the generation before may have been granted by it",
        change(volumecap, "recover", _free_returns),
        restoring.what_was_returned_to_the_generation_before_is_not_free,
    ),
    by_scenario(
        "raised_total_is_free",
        "the generation before may have been told the same total",
        change(interval_state, "mint", _minted_here),
        restoring.a_raised_total_is_withheld_too,
    ),
    by_scenario(
        "readmitted_by_knocking",
        "an old server comes in by an operator's act alone",
        change(Master, "_hear_stranger", _let_in),
        restoring.a_stranger_is_let_in_by_an_act_alone,
    ),
    by_scenario(
        "forgotten_cluster_joins",
        "who was given something before the restore is of before, whatever it has forgotten",
        change(Master, "_has_forgotten_its_cluster", _never_forgotten),
        restoring.a_server_that_forgot_its_cluster_is_no_new_one,
    ),
    by_scenario(
        "readmitted_untold",
        "how a readmitted server stood with the generation before is taken in first",
        change(LocalHandler, "is_from_before", _never_from_before),
        restoring.what_was_returned_to_the_generation_before_is_not_free,
    ),
    by_scenario(
        "readmitted_is_told_first",
        "a readmitted server is held to nothing that it has not told of itself",
        change(Allocator, "grant", _told_first),
        restoring.a_readmitted_server_speaks_first,
    ),
    by_scenario(
        "numbers_go_on",
        "an interval's number is of one period, in whichever generation",
        change(data_centre, "NUMBERS_PER_GENERATION", 0),
        restoring.a_number_is_of_one_period,
    ),
    by_scenario(
        "older_log_believed",
        "who was given more than the log knows has seen a longer one",
        change(Allocator, "_doubt_log", _believed),
        restoring.an_old_log_put_back_is_noticed_by_who_was_given_more,
    ),
    by_scenario(
        "unknown_interval_believed",
        "who has units of an interval that was never opened has seen a longer log",
        change(LocalHandler, "_doubt_opening", _believed),
        restoring.an_old_log_put_back_is_noticed_by_what_it_never_opened,
    ),
    by_scenario(
        "older_directory_followed",
        "a master whose starts count backwards has forgotten what it promised",
        change(Master, "_trouble", _whichever_start),
        restoring.a_master_that_starts_from_an_older_directory_is_refused,
    ),
)
