"""The hash chain: each event's link covers the event and the link before it.

Any event that is changed, inserted, dropped or moved breaks every link after it. Pure.

What is hashed is the event as it is stored, with the bytes of its fact as they were first written;
so a log that began under old schemas verifies for ever.
"""

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct as Layout
from struct import error as BadLayout  # noqa: N812 (an error named like a function)

import msgspec

from vcap_es.errors import LogDamaged
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.facts.bounds import Count, Long, Total

GENESIS = bytes(32)

_ENVELOPE = Layout(">BQQ16sqIIII")
_LAYOUT_NUMBER = 1


class Stored(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """An event as a log keeps it: like `Recorded`, with the fact in its encoded bytes."""

    position: Total
    epoch: Count
    event_id: bytes
    recorded_at: Long
    dc: str
    actor: str
    correlation: str
    fact: bytes
    link: bytes


def link(previous: bytes, canonical: bytes) -> bytes:
    """The 32-byte link of an event whose canonical bytes are `canonical`."""
    return sha256(previous + canonical).digest()


def canonical(
    position: int,
    epoch: int,
    event_id: bytes,
    recorded_at: int,
    dc: str,
    actor: str,
    correlation: str,
    fact: bytes,
) -> bytes:
    """The bytes of an event that its link covers; no two different events have the same.

    Big-endian and without padding: the layout's number (1 byte, now 1), position (8), epoch (8),
    event id (16), recorded_at (8, signed), the lengths of the four parts that follow (4 each), then
    dc, actor and correlation in UTF-8, and the encoded fact.
    """
    place, cause, request = dc.encode(), actor.encode(), correlation.encode()
    lengths = len(place), len(cause), len(request), len(fact)
    head = _ENVELOPE.pack(_LAYOUT_NUMBER, position, epoch, event_id, recorded_at, *lengths)
    return head + place + cause + request + fact


def record(draft: Draft, fact: bytes, *, position: int, epoch: int, previous: bytes) -> Recorded:
    """The event that `draft` becomes at `position`, after the event whose link is `previous`.

    `fact` is the draft's fact in its encoded bytes.
    """
    covered = canonical(
        position,
        epoch,
        draft.event_id,
        draft.recorded_at,
        draft.dc,
        draft.actor,
        draft.correlation,
        fact,
    )
    return Recorded(
        position=position,
        epoch=epoch,
        event_id=draft.event_id,
        recorded_at=draft.recorded_at,
        dc=draft.dc,
        actor=draft.actor,
        correlation=draft.correlation,
        fact=draft.fact,
        link=link(previous, covered),
    )


def verify(events: Iterable[Stored], previous: bytes = GENESIS) -> bytes:
    """Check every link of `events`, which follow the event whose link is `previous`.

    Gives the last link, to go on from with the next chunk. Raises `LogDamaged` with the position
    of the first event that is not what was recorded, or does not follow the one before it. Events
    dropped from the end leave a whole chain: compare the last link with one kept elsewhere.
    """
    for event in events:
        try:
            follows = event.link == link(previous, _canonical(event))
        except (ValueError, TypeError, AttributeError, BadLayout):  # no event looks like that
            follows = False
        if not follows:
            raise LogDamaged(
                f"the chain breaks at position {event.position}: this event or the one before it"
                " was changed, dropped, inserted or moved"
            )
        previous = event.link
    return previous


def _canonical(event: Stored) -> bytes:
    return canonical(
        event.position,
        event.epoch,
        event.event_id,
        event.recorded_at,
        event.dc,
        event.actor,
        event.correlation,
        event.fact,
    )
