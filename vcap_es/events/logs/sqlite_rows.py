"""Events as rows of the table `events`."""

from vcap_es.errors import LogDamaged
from vcap_es.events import sealing
from vcap_es.events.chain import Stored
from vcap_es.events.codec import kind_of
from vcap_es.events.envelope import Recorded

COLUMNS = "position, epoch, event_id, recorded_at, dc, actor, correlation, fact, link, kind"

Row = tuple[int, int, bytes, int, str, str, str, bytes, bytes, str]
"""The values of `COLUMNS`."""


def row_of(entry: Stored) -> Row:
    """The row of `entry`."""
    return (
        entry.position,
        entry.epoch,
        entry.event_id,
        entry.recorded_at,
        entry.dc,
        entry.actor,
        entry.correlation,
        entry.fact,
        entry.link,
        kind_of(entry.fact),
    )


def recorded(row: Row) -> Recorded:
    """The event in `row`; one that cannot be decoded is told with its position."""
    try:
        event, kind = sealing.recorded(stored(row)), row[-1]
    except TypeError as error:  # SQLite gives what a torn page holds, whatever its column may hold
        raise LogDamaged(f"position {row[0]}: no event is like that: {error}") from error
    if type(event.fact).__name__ != kind:
        raise LogDamaged(
            f"position {event.position}: the row says {kind}, its fact {type(event.fact)}"
        )
    return event


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
