"""The data centres that share caps, as one of them knows them, and what it tells the others.

Which of them take part is a register for each: of two, the one with the larger stamp holds.
"""

from collections.abc import Callable, Mapping

from vcap_es.components.decisions.centre import NO_CENTRE, changed
from vcap_es.components.messages.centre import BetweenCentres, Members
from vcap_es.components.remote_handler.centre_identities import CentreIdentities, Meeting
from vcap_es.components.remote_handler.hearsay import Doubts, doubt_centre
from vcap_es.events.facts import Fact
from vcap_es.projections.states.centre import registers_of
from vcap_es.projections.states.data_centre import DataCentre

FRESH_US = 3_000_000
"""Microseconds after which a data centre that was not heard is not waited for."""

INTRODUCED_US: Mapping[Meeting, int] = {
    "new": 1_000_000,
    "mistaken": 1_000_000,
    "namesake": 30_000_000,
    "restored": 1_000_000,
}
"""Who does not know this data centre is answered no more often than this."""


class Membership:
    """Who takes part; with the state, the time and the outbox of all that is done with them.

    `others` take part beside `dc`, and are known by their logs; `known_nodes` are all that are not
    lost; `awaited` are the others, and those that are not met yet. `weights` are of all that are
    in. One that `is_draining` grants nothing.
    """

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        identities: CentreIdentities,
        *,
        dc: str,
        now: int,
    ) -> None:
        self.state, self.record, self.dc, self.now = state, record, dc, now
        self.others: list[str] = []
        self.known_nodes: list[str] = []
        self.weights: dict[str, int] = {}
        self.is_draining = False
        self.doubts = Doubts()
        self._identities = identities
        self._heard: dict[str, int] = {}
        self._introduced: dict[tuple[str, Meeting], int] = {}
        self.awaited: list[str] = []
        self._outbox: list[tuple[str, BetweenCentres]] = []

    def advance(self, now: int) -> None:
        """Time has passed."""
        self.now = max(self.now, now)

    def believes(self, centre: str, subject: str, why_not: str) -> bool:
        """Whether what another data centre tells of `subject` is believed; else that is noted."""
        if why_not:
            self.doubts.note(subject, f"{centre} tells what is not believed: {why_not}", self.now)
        return not why_not

    # ---- who is heard

    def heard(self, centre: str) -> None:
        """Another data centre says something."""
        self._heard[centre] = self.now

    def heard_at(self, centre: str) -> int:
        """When it was heard last, in microseconds UTC; 0 for never."""
        return self._heard.get(centre, 0)

    @property
    def fresh(self) -> set[str]:
        """The others that were heard lately."""
        return {each for each in self.others if self.now - self.heard_at(each) <= FRESH_US}

    @property
    def hears_all(self) -> bool:
        """Whether that is all of them, and nobody takes part who was never met."""
        return self.fresh.issuperset(self.awaited)

    def settles_with(self, centre: str) -> bool:
        """Whether what was sent from and to it counts, though it may be out."""
        return centre in self.known_nodes and self.state.is_met(centre)

    # ---- the outbox

    def tell(self, centre: str, message: BetweenCentres) -> None:
        """Let another data centre hear this, after the next commit round."""
        self._outbox.append((centre, message))

    def tell_others(self, message: BetweenCentres) -> None:
        """Let all that take part hear this."""
        self._outbox += [(each, message) for each in self.others]

    def take(self) -> list[tuple[str, BetweenCentres]]:
        """All that is to be told."""
        outbox, self._outbox = self._outbox, []
        return outbox

    # ---- who takes part

    def look_again(self) -> None:
        """A register has changed."""
        known = self.state.centres
        own = known.get(self.dc, NO_CENTRE).membership
        self.is_draining = own != "in" and bool(known)
        self.known_nodes = sorted(
            name for name, each in known.items() if name != self.dc and each.membership != "lost"
        )
        takes_part = own in ("in", "drain")
        self.awaited = [
            name
            for name in self.known_nodes
            if takes_part
            and known[name].membership in ("in", "drain")
            and name not in self.state.disputed
        ]
        self.others = [name for name in self.awaited if name in self.state.clusters]
        self.weights = self.state.weights(self.dc)

    def tell_members(self) -> None:
        """Let all neighbours hear who takes part."""
        self._outbox += [(each, self._members()) for each in self.known_nodes]

    def introduce(self, centre: str, meeting: Meeting) -> None:
        """Let one that does not know this data centre, or knows another by its name, hear of it."""
        if self.now - self._introduced.get((centre, meeting), 0) >= INTRODUCED_US[meeting]:
            self._introduced[centre, meeting] = self.now
            self.tell(centre, self._members())

    def _members(self) -> Members:
        return Members(
            registers=registers_of(self.state.centres),
            clusters=dict(self.state.clusters),
            before=list(self.state.primacy.before),
        )

    def merge(self, centre: str, message: Members) -> None:
        """Of two registers the newer one holds; who tells of an older one hears the newer one."""
        if self.state.is_lost(centre):
            return
        self._identities.learn(centre, message.clusters, self.now)
        known = self.state.centres
        news = [
            each
            for each in message.registers
            if each.stamp > known.get(each.centre, NO_CENTRE).stamp
            and self.believes(centre, each.centre, doubt_centre(each))
        ]
        for each in news:
            self.record(each)
        told = {each.centre: each.stamp for each in message.registers}
        if any(told.get(name, NO_CENTRE.stamp) < each.stamp for name, each in known.items()):
            self.tell(centre, self._members())

    def leave_if_drained(self) -> None:
        """Who drains is out when its books of everything shared are closed, and it decides nothing.

        Until then somebody may have sent it something, which it must send on.
        """
        if self.state.centres.get(self.dc, NO_CENTRE).membership != "drain":
            return
        metas = self.state.metas.values()
        if not any(meta.intervals or not (meta.home or meta.retired) for meta in metas):
            self.record(changed(self.state.centres, self.dc, self.dc, "out", 0))
