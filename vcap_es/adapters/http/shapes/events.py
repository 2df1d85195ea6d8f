"""Events of the log and its verification, as the control plane answers them."""

from msgspec import Struct

from vcap_es.adapters.http.shapes.scalars import (
    Instant,
)
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact
from vcap_es.events.instants import format_instant


class Event(Struct, frozen=True, kw_only=True):
    """An event of the log. `event_id` and `link` are hexadecimal, `kind` names the fact."""

    position: int
    epoch: int
    event_id: str
    recorded_at: Instant
    dc: str
    actor: str
    correlation: str
    kind: str
    fact: Fact
    link: str


class Events(Struct, frozen=True, kw_only=True):
    """A page of the log, which ends at `head`; go on after `next` where it is not null."""

    events: list[Event]
    head: int
    next: int | None


class Problematic(Struct, frozen=True, kw_only=True):
    """An event that is not as it must be."""

    position: int
    rule: str
    detail: str


class Verification(Struct, frozen=True, kw_only=True):
    """Whether the log up to `position` is what was written, and its books are right."""

    sound: bool
    position: int
    link: str
    findings: list[Problematic]


def event_of(event: Recorded, fact: Fact) -> Event:
    """An event as it is shown; `fact` is the part of its fact that may be seen."""
    return Event(
        position=event.position,
        epoch=event.epoch,
        event_id=event.event_id.hex(),
        recorded_at=format_instant(event.recorded_at),
        dc=event.dc,
        actor=event.actor,
        correlation=event.correlation,
        kind=type(event.fact).__name__,
        fact=fact,
        link=event.link.hex(),
    )
