"""Events as rows of the table `events`."""

from vcap_es.errors import LogDamaged, UnknownFact
from vcap_es.events.chain import Stored
from vcap_es.events.codec import decode
from vcap_es.events.envelope import Recorded

COLUMNS = "position, epoch, event_id, recorded_at, dc, actor, correlation, fact, link, kind"

Row = tuple[int, int, bytes, int, str, str, str, bytes, bytes, str]
"""The values of `COLUMNS`."""


def row_of(event: Recorded, fact: bytes) -> Row:
    """The row of `event`, whose encoded fact is `fact`."""
    return (
        event.position,
        event.epoch,
        event.event_id,
        event.recorded_at,
        event.dc,
        event.actor,
        event.correlation,
        fact,
        event.link,
        type(event.fact).__name__,
    )


def recorded(row: Row) -> Recorded:
    """The event in `row`; one that cannot be decoded is told with its position."""
    position, epoch, event_id, recorded_at, dc, actor, correlation, encoded, link, kind = row
    try:
        fact = decode(encoded)
    except (LogDamaged, UnknownFact) as error:
        raise type(error)(f"position {position}: {error}") from error
    if type(fact).__name__ != kind:
        raise LogDamaged(f"position {position}: the row says {kind}, its fact {type(fact)}")
    return Recorded(
        position=position,
        epoch=epoch,
        event_id=event_id,
        recorded_at=recorded_at,
        dc=dc,
        actor=actor,
        correlation=correlation,
        fact=fact,
        link=link,
    )


def stored(row: Row) -> Stored:
    """The event in `row`, its fact left as it is."""
    position, epoch, event_id, recorded_at, dc, actor, correlation, encoded, link, _ = row
    return Stored(
        position=position,
        epoch=epoch,
        event_id=event_id,
        recorded_at=recorded_at,
        dc=dc,
        actor=actor,
        correlation=correlation,
        fact=encoded,
        link=link,
    )
