"""What others know of caps that a restored log may not know: it is asked for, cap by cap.

The generation before may have changed a cap, moved its home, opened periods, and sent units, since
the backup. When all that take part have told what they know, the home of a cap confirms it: by a
version that nothing which that generation has said comes up to. Until then whatever it opens is
withheld, as somebody else may have opened it.
"""

from collections.abc import Callable, Mapping
from itertools import islice

from vcap_es.components.decisions.restore import confirmed, may_be_confirmed
from vcap_es.components.messages.centre import Recollect, Recollection
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

ASKED_US = 2_000_000
"""Who has not told of a cap is asked again no sooner."""

CAPS_PER_QUESTION = 200
"""Caps that one message asks for, at most; of a message that asks for more, as many are told."""


class Recollections:
    """Who has told of which cap, in the memory of one epoch."""

    def __init__(self, membership: Membership) -> None:
        """Ask for every cap, where others were known before a restore."""
        self._membership = membership
        state = membership.state
        self._due: dict[str, int] = {}
        if state.primacy.is_withholding and state.apart:
            self._due = dict.fromkeys(state.metas, membership.now)
        self._told: dict[str, dict[str, int]] = {}

    def want(self, cap: str) -> None:
        """A cap is known here since now, or has something that the generation before had."""
        state = self._membership.state
        if state.primacy.is_withholding and state.apart:
            self._due.setdefault(cap, self._membership.now)

    def forget(self, centre: str) -> None:
        """A data centre was readmitted: it tells anew."""
        for told in self._told.values():
            told.pop(centre, None)
        for cap in self._told:
            self.want(cap)

    def all_told(self) -> Mapping[str, int]:
        """The caps of which all have told, with when the last of those was restored; 0: never."""
        found = {cap: self._restored_at(cap) for cap in self._told}
        return {cap: at for cap, at in found.items() if at is not None}

    def _restored_at(self, cap: str) -> int | None:
        """When the last of those that have told was restored; None where not all have told."""
        told, awaited = self._told.get(cap, {}), self._membership.awaited
        if any(each not in told or each not in self._membership.others for each in awaited):
            return None
        return max((told[each] for each in awaited), default=0)

    # ---- asking

    def step(self) -> None:
        """Ask for some more caps, and confirm those of which all have told."""
        membership = self._membership
        caps = [
            cap for cap in islice(self._due, CAPS_PER_QUESTION) if self._due[cap] <= membership.now
        ]
        asked: dict[str, list[str]] = {}
        for cap in caps:
            del self._due[cap]
            if self._is_done(membership.state.metas[cap]):
                continue
            self._due[cap] = membership.now + ASKED_US
            for each in membership.others:
                if each not in self._told.get(cap, {}):
                    asked.setdefault(each, []).append(cap)
        for centre, wanted in asked.items():
            membership.tell(centre, Recollect(caps=wanted))

    def _is_done(self, meta: Meta) -> bool:
        """Whether nothing is open about a cap; a home confirms what all have told of."""
        latest = self._restored_at(meta.cap)
        if latest is None:
            return False
        if not self._membership.state.is_unconfirmed(meta):
            return True
        if not may_be_confirmed(meta, self._membership.now, latest):
            return False
        self._membership.record(confirmed(meta, self._membership.state.first_number))
        return True

    # ---- what is told

    def heard(self, centre: str, message: Recollection) -> None:
        """What one knows of a cap was taken in: it counts if it can be all that it ever knew."""
        membership, state = self._membership, self._membership.state
        unknown = [
            each
            for each in message.centres
            if each != membership.dc and not state.takes_part(each) and not state.is_lost(each)
        ]
        meta = state.metas.get(message.cap)
        if unknown or meta is None:
            return  # who they are, it will tell
        behind = [
            each
            for each in meta.intervals
            if each.number in message.moved
            and _is_behind(each, centre, *message.moved[each.number])
        ]
        if behind:
            why = f"of interval {behind[0].number} it knows less than was moved: its log is too old"
            membership.believes(centre, message.cap, why)
            return
        self._told.setdefault(message.cap, {})[centre] = message.restored_at
        self._due[message.cap] = membership.now

    def answer(
        self, centre: str, message: Recollect, tell: Callable[[str, str], Recollection]
    ) -> None:
        """Tell one that was restored what is known here."""
        for cap in message.caps[:CAPS_PER_QUESTION]:
            self._membership.tell(centre, tell(centre, cap))


def _is_behind(interval: Interval, centre: str, sent: int, received: int) -> bool:
    """Whether another one knows less of what was moved between the two than is known here."""
    pool = interval.pool
    settled = pool.sent[centre].settled if centre in pool.sent else 0
    return sent < pool.received.get(centre, 0) or received < settled
