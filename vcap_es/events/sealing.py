"""Sealing: drafts become events, with their place in the log and their link in its chain. Pure."""

from collections.abc import Sequence

from vcap_es.errors import LogDamaged, UnknownFact
from vcap_es.events.chain import Stored, canonical, link
from vcap_es.events.codec import decode, encode
from vcap_es.events.envelope import Draft, Recorded
from vcap_es.events.facts import Fact
from vcap_es.events.log import Head, head_of


def seal(drafts: Sequence[Draft], epoch: int, head: Head) -> list[Stored]:
    """The events that `drafts` become in `epoch`, right behind `head`.

    Raises `InvalidFact` where a fact holds what its schema does not allow.
    """
    sealed: list[Stored] = []
    for draft in drafts:
        entry = _entry(draft, encode(draft.fact), epoch, head.position + 1, head.link)
        head = head_of(entry)
        sealed.append(entry)
    return sealed


def seal_one(draft: Draft, fact: bytes, epoch: int, head: Head) -> tuple[Recorded, Stored]:
    """The event that `draft`, with its fact encoded, becomes; as it is told and as it is kept."""
    entry = _entry(draft, fact, epoch, head.position + 1, head.link)
    return _recorded(entry, draft.fact), entry


def _entry(draft: Draft, fact: bytes, epoch: int, position: int, previous: bytes) -> Stored:
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
    return Stored(
        position=position,
        epoch=epoch,
        event_id=draft.event_id,
        recorded_at=draft.recorded_at,
        dc=draft.dc,
        actor=draft.actor,
        correlation=draft.correlation,
        fact=fact,
        link=link(previous, covered),
    )


def recorded(entry: Stored) -> Recorded:
    """The event `entry`, with its fact decoded; raises like `decode`, with the position."""
    try:
        fact = decode(entry.fact)
    except (LogDamaged, UnknownFact) as error:
        raise type(error)(f"position {entry.position}: {error}") from error
    return _recorded(entry, fact)


def _recorded(entry: Stored, fact: Fact) -> Recorded:
    return Recorded(
        position=entry.position,
        epoch=entry.epoch,
        event_id=entry.event_id,
        recorded_at=entry.recorded_at,
        dc=entry.dc,
        actor=entry.actor,
        correlation=entry.correlation,
        fact=fact,
        link=entry.link,
    )
