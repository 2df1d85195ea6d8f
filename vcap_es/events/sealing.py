"""Sealing: drafts become events, with their place in the log and their link in its chain. Pure."""

from collections.abc import Sequence

from vcap_es.events.chain import Stored, canonical, link
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft
from vcap_es.events.log import Head


def seal(drafts: Sequence[Draft], epoch: int, head: Head) -> list[Stored]:
    """The events that `drafts` become in `epoch`, right behind `head`.

    Raises `InvalidFact` where a fact holds what its schema does not allow.
    """
    sealed: list[Stored] = []
    position, previous = head.position, head.link
    for draft in drafts:
        position += 1
        fact = encode(draft.fact)
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
        previous = link(previous, covered)
        sealed.append(
            Stored(
                position=position,
                epoch=epoch,
                event_id=draft.event_id,
                recorded_at=draft.recorded_at,
                dc=draft.dc,
                actor=draft.actor,
                correlation=draft.correlation,
                fact=fact,
                link=previous,
            )
        )
    return sealed
