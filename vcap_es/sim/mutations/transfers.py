"""Bugs of the protocol between data centres: what is sent, received, wished for and gathered."""

from collections.abc import Sequence

from msgspec import structs

from vcap_es.components.decisions import inheritance, rest
from vcap_es.components.decisions import interval as decisions
from vcap_es.components.local_handler.demands import Left
from vcap_es.components.master.identity import Moment
from vcap_es.components.master.master import Master
from vcap_es.components.messages.centre import (
    BetweenCentres,
    IntervalStatus,
    Movement,
    Reception,
    Sender,
)
from vcap_es.components.primary_master.outputs import Acknowledge
from vcap_es.components.remote_handler import shared_interval
from vcap_es.components.remote_handler.centre_identities import CentreIdentities, Meeting
from vcap_es.components.remote_handler.exchange import Exchange
from vcap_es.components.remote_handler.gatherer import Gatherer
from vcap_es.components.remote_handler.remote_handler import RemoteHandler
from vcap_es.components.remote_handler.shared_interval import SharedInterval
from vcap_es.events.facts import HomeMoved, TransferReceived
from vcap_es.events.periods import Window
from vcap_es.projections.states import meta, transfer
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.places import Pool
from vcap_es.projections.states.places import receive as _receive
from vcap_es.sim.lives.bounds import live_at_bounds
from vcap_es.sim.lives.multi_centre import SharedLife
from vcap_es.sim.lives.profiles import TRANSFERS
from vcap_es.sim.mutations import Mutation, Plant, change
from vcap_es.sim.scenarios.moving import (
    edit_after_a_forced_move,
    gather_for_a_lost_minter,
    inherit_home,
    move_home,
)
from vcap_es.sim.scenarios.namesakes import (
    begin_anew,
    begin_both_anew,
    begin_both_anew_at_once,
)

_heard, _forwarded, _move = Exchange.heard, Master.forwarded, meta._move
_meet, _period = CentreIdentities.meet, rest.period


def _nothing(*_: object, **__: object) -> None:
    pass


def _no(*_: object, **__: object) -> bool:
    return False


def _zero(*_: object, **__: object) -> int:
    return 0


def _period_from_its_start(of: Meta, start: int) -> Window:
    return Window(start, _period(of, start).end)


def _is_shared_out_here(self: Gatherer) -> bool:
    sharing = self._shared.sharing
    return sharing.phase is not None or bool(sharing.shares)


def _nothing_is_left(*_: object) -> Left:
    return Left()


def _receive_again(pool: Pool, centre: str, total: int) -> None:
    _receive(pool, centre, total + pool.received.get(centre, 0))


def _take_any(self: RemoteHandler, centre: str, at: Exchange, message: Movement) -> None:
    number, before = at.shared.interval.number, at.shared.pool.received.get(centre, 0)
    moved = max(message.moved, before + 1)
    self.record(TransferReceived(cap=at.shared.cap, number=number, source=centre, moved=moved))
    at.received(centre, self._membership.now)


def _hear_but_phase(self: Exchange, centre: str, about: IntervalStatus, now: int) -> None:
    if about.phase is None or about.phase.mode != "gather":
        _heard(self, centre, about, now)


def _acknowledge_first(
    self: Master,
    delivery: int,
    sender: Sender,
    messages: Sequence[BetweenCentres],
    moment: Moment,
) -> Reception:
    receiver = _forwarded(self, delivery, sender, messages, moment)
    if receiver == "heard":
        self._outputs.append(Acknowledge(delivery))
    return receiver


def _open_all_again(meta: Meta, fact: HomeMoved) -> None:
    _move(meta, structs.replace(fact, next_number=0, opened_until=0))


def _hear_namesakes(self: CentreIdentities, sender: Sender, now: int) -> Meeting:
    meeting = _meet(self, sender, now)
    return "known" if meeting == "namesake" else meeting


def _hear_what_is_for_another(self: CentreIdentities, sender: Sender, now: int) -> Meeting:
    to = sender.to and self._state.primacy.cluster
    return _meet(self, structs.replace(sender, to=to), now)


def _hear_first_words(self: CentreIdentities, sender: Sender, now: int) -> Meeting:
    to = sender.to or self._state.primacy.cluster
    return _meet(self, structs.replace(sender, to=to), now)


def _live(seed: int) -> None:
    SharedLife(TRANSFERS, seed).live()


def _mutation(name: str, rule: str, plant: Plant, seeds: int = 40) -> Mutation:
    return Mutation(name=name, rule=rule, plant=plant, life=_live, seeds=seeds)


MUTATIONS = [
    _mutation(
        "received_as_deltas",
        "a movement is a running total, taken in by maximum",
        change(transfer, "receive", _receive_again),
    ),
    _mutation(
        "received_without_being_sent",
        "nothing is taken in that was not moved here",
        change(RemoteHandler, "_moved_here", _take_any),
    ),
    _mutation(
        "movement_told_once",
        "the log is the outbox: what is not known to be there is told again",
        change(SharedInterval, "tell_moved_again", _nothing),
    ),
    _mutation(
        "gathering_not_heard",
        "every message carries the phase, and the later one counts",
        change(Exchange, "heard", _hear_but_phase),
    ),
    _mutation(
        "refused_by_what_is_here",
        "a refusal says what is left elsewhere",
        change(Exchange, "left", _nothing_is_left),
    ),
    _mutation(
        "nobody_asked",
        "who runs low asks the others",
        change(Exchange, "may_come", _no),
    ),
    _mutation(
        "never_gathered",
        "what cannot be met from shares is gathered",
        change(Gatherer, "_gather_if_low", _nothing),
    ),
    _mutation(
        "acknowledged_first",
        "the broker forgets a message when what follows from it is durable",
        change(Master, "forwarded", _acknowledge_first),
    ),
    Mutation(
        name="moved_home_opens_again",
        rule="a new home opens no period that the old one has opened",
        plant=change(meta, "_move", _open_all_again),
        life=move_home,
        seeds=3,
    ),
    Mutation(
        name="heir_opens_at_once",
        rule="an heir opens no period that its lost home may have opened",
        plant=change(inheritance, "_opened_until", lambda meta, _: meta.opened_until),
        life=inherit_home,
        seeds=3,
    ),
    Mutation(
        name="heir_opens_the_rest",
        rule="an heir opens no part of a period that was opened elsewhere, under any calendar",
        plant=change(decisions, "period", _period_from_its_start),
        life=edit_after_a_forced_move,
        seeds=5,
    ),
    Mutation(
        name="heir_gathers_nothing",
        rule="who stands in for a lost minter gathers what lies idle elsewhere",
        plant=change(Gatherer, "_is_shared_out", _is_shared_out_here),
        life=gather_for_a_lost_minter,
        seeds=3,
    ),
    Mutation(
        name="heir_numbers_on",
        rule="an heir gives no number that its lost home may have given",
        plant=change(inheritance, "MINUTE_US", 1 << 62),
        life=inherit_home,
        seeds=3,
    ),
    Mutation(
        name="namesake_is_heard",
        rule="a name is of one log for ever",
        plant=change(CentreIdentities, "meet", _hear_namesakes),
        life=begin_both_anew,
        seeds=20,
    ),
    Mutation(
        name="meant_for_another_log",
        rule="what is for another log does not count",
        plant=change(CentreIdentities, "meet", _hear_what_is_for_another),
        life=begin_anew,
        seeds=20,
    ),
    Mutation(
        name="first_words_count",
        rule="what is for nobody known does not count",
        plant=change(CentreIdentities, "meet", _hear_first_words),
        life=begin_both_anew_at_once,
        seeds=20,
    ),
    Mutation(
        name="sent_without_bound",
        rule="what would take a running total past its bound is not sent",
        plant=change(shared_interval, "MAX_AMOUNT", 1 << 70),
        life=live_at_bounds,
        seeds=8,
    ),
    _mutation(
        "nothing_given",
        "a wish is met where there is enough",
        change(shared_interval, "gift", _zero),
    ),
]
