"""Bugs of readmission: what a restored data centre may have had comes to it twice."""

from vcap_es.components.decisions import interval, restore
from vcap_es.components.messages.centre import Sender
from vcap_es.components.remote_handler import remote_handler
from vcap_es.components.remote_handler.centre_identities import CentreIdentities, Meeting
from vcap_es.components.remote_handler.recollection import Recollections
from vcap_es.events.facts import AmountWithheld, Fact, IntervalLearned, IntervalRecovered
from vcap_es.projections.states import data_centre, transfer
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.places import Pool, recover_transfers
from vcap_es.sim.mutations import change, together
from vcap_es.sim.mutations.finders import by_scenario
from vcap_es.sim.scenarios import readmitting

_meet, _opening = CentreIdentities.meet, restore.opening_recovered


def _never_cut(_pool: Pool, _centre: str) -> None:
    pass


def _free(pool: Pool, centre: str, sent: int, received: int) -> None:
    more = max(0, received - pool.received.get(centre, 0))
    recover_transfers(pool, centre, sent, received)
    if pool.old is not None and pool.old >= more:
        pool.old -= more
        pool.available += more


def _received_alone(pool: Pool, centre: str, _sent: int, received: int) -> None:
    recover_transfers(pool, centre, 0, received)


def _as_they_are(*_: object) -> list[Fact]:
    return []


def _uncharged(*_: object) -> int:
    return 0


def _opened_twice(meta: Meta, learned: IntervalLearned, now: int) -> list[Fact]:
    return [
        each
        for each in _opening(meta, learned, now)
        if isinstance(each, IntervalRecovered | IntervalLearned | AmountWithheld)
    ]


def _by_one_act(self: CentreIdentities, sender: Sender, now: int) -> Meeting:
    apart = self._state.apart.pop(sender.centre, None)
    try:
        return _meet(self, sender, now)
    finally:
        if apart is not None:
            self._state.apart[sender.centre] = apart


def _as_it_was(_self: DataCentre, _meta: Meta) -> bool:
    return False


def _all_of_them(_state: DataCentre) -> list[str]:
    return []


def _whoever_is_heard(self: Recollections, cap: str) -> int | None:
    told = self._told.get(cap, {})
    others = self._membership.others
    return 0 if others and all(each in told for each in others) else None


READMISSIONS = (
    by_scenario(
        "cut_forgotten",
        "what was moved before a readmission was between here and the generation before",
        change(data_centre, "cut", _never_cut),
        readmitting.a_share_that_was_served_is_withheld,
    ),
    by_scenario(
        "told_receipts_are_free",
        "what the generation before was sent, it may have served",
        change(transfer, "recover_transfers", _free),
        readmitting.what_others_had_sent_is_withheld,
    ),
    by_scenario(
        "told_sends_forgotten",
        "what another one has received from the generation before is not here",
        change(transfer, "recover_transfers", _received_alone),
        readmitting.what_others_received_is_known_again,
    ),
    by_scenario(
        "recovered_beside_its_period",
        "a period that both generations have opened has one total",
        # Else one of the two would be bounded anew, and what it had charged to the other.
        together(
            change(remote_handler, "opening_recovered", _opened_twice),
            change(interval, "_fitted", _as_they_are),
            change(interval, "charge", _uncharged),
        ),
        readmitting.an_interval_of_the_generation_before_has_one_total,
    ),
    by_scenario(
        "let_in_by_one_side",
        "both sides say that the other one is let in",
        change(CentreIdentities, "meet", _by_one_act),
        readmitting.one_side_alone_lets_nobody_in,
    ),
    by_scenario(
        "home_never_confirms",
        "who was restored takes back what others know of its caps",
        change(DataCentre, "is_unconfirmed", _as_it_was),
        readmitting.a_change_that_the_backup_lacks_is_not_lost,
    ),
    by_scenario(
        "released_with_servers_missing",
        "a server that has not told may have what is withheld",
        change(restore, "servers_missing", _all_of_them),
        readmitting.what_is_released_nobody_else_has,
    ),
    by_scenario(
        "released_before_all_have_told",
        "a data centre that has not told may have what is withheld",
        change(Recollections, "_restored_at", _whoever_is_heard),
        readmitting.nothing_is_released_before_all_have_told,
    ),
)
