"""The movements of an interval between data centres, and the phase that they are in."""

from vcap_es.events.facts import (
    PhaseChanged,
    SharesSet,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    TransferSettled,
)
from vcap_es.projections.states.interval import Interval, Sharing
from vcap_es.projections.states.places import receive, recover_transfers, send, settle

TransferFact = (
    SharesSet | PhaseChanged | TransferSent | TransferReceived | TransferRecovered | TransferSettled
)


def evolve(interval: Interval, fact: TransferFact) -> None:
    """The sharing of the interval has changed by `fact`."""
    match fact:
        case SharesSet():
            _sharing(interval).shares = fact.shares
        case PhaseChanged():
            _change_phase(_sharing(interval), fact)
        case TransferSent():
            send(interval.pool, fact.to, fact.moved)
        case TransferReceived():
            receive(interval.pool, fact.source, fact.moved)
        case TransferRecovered():
            recover_transfers(interval.pool, fact.centre, fact.sent, fact.received)
        case TransferSettled():
            settle(interval.pool, fact.to, fact.moved)


def _change_phase(sharing: Sharing, fact: PhaseChanged) -> None:
    before, now = sharing.phase, fact.phase
    assert before is None or (now.generation, now.number) > (before.generation, before.number), (
        f"the phase {now} does not follow {before}"
    )
    sharing.phase, sharing.split = now, fact.split


def _sharing(interval: Interval) -> Sharing:
    if interval.sharing is None:
        interval.sharing = Sharing()
    return interval.sharing
