"""Whose servers serve a cap by its newest definition, in all data centres.

Who decides a cap tells its definition, with its intervals, to all others, again and again, until
they say that none of their servers serves by an older one. A data centre says so only to the home
itself, whose message had the bounds of all that the home has opened.
"""

from collections.abc import Callable
from itertools import islice

from vcap_es.components.local_handler.local_handler import LocalHandler
from vcap_es.components.messages.centre import Versions
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.events.facts import Version
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

CAPS_PER_STEP = 200
"""Caps that are looked at in one step, at most, round and round."""


class Serving:
    """What is owed to homes, and what others have told of caps that are decided here.

    Both are in the memory of one epoch; whoever leads the next one asks, or is asked, anew.
    """

    def __init__(
        self, membership: Membership, local: LocalHandler, tell: Callable[[str, str], None]
    ) -> None:
        """`tell` lets a data centre hear the definition of a cap, if it did not just now."""
        self._membership, self._local, self._tell = membership, local, tell
        self._owed: dict[str, str] = {}
        self._soon: dict[str, None] = {}
        self._told: dict[str, dict[str, Version]] = {
            cap: {}
            for cap, meta in membership.state.metas.items()
            if membership.state.centres and not meta.home and any(map(_may_be_cut, meta.intervals))
        }

    # ---- of caps that are decided elsewhere

    def owe(self, home: str, cap: str) -> None:
        """The home of a cap has told its definition, and wants to hear when all serve by it."""
        meta = self._membership.state.metas.get(cap)
        if meta is not None and meta.home == home:
            self._owed[cap] = home
            self._soon[cap] = None

    def heard(self, cap: str) -> None:
        """Own servers have heard of the definition of a cap."""
        self._soon[cap] = None

    def look(self) -> None:
        """Let homes hear what has become true."""
        soon, self._soon = self._soon, {}
        for cap in soon:
            self._pay(cap)
            self._settle(cap)

    def _pay(self, cap: str) -> None:
        home = self._owed.get(cap)
        if home is not None and self._is_served(cap):
            del self._owed[cap]
            version = self._membership.state.metas[cap].version
            self._membership.tell(home, Versions(versions=[], served=[(cap, version)]))

    def _is_served(self, cap: str) -> bool:
        """Whether no server here may serve by an older definition."""
        local = self._local
        return not (local.unheard(cap) or local.holders(cap, self._membership.now))

    # ---- of caps that are decided here

    def changed(self, cap: str) -> None:
        """A definition that is decided here has changed: nobody has said yet to serve by it."""
        self._told.pop(cap, None)
        if self._until(self._membership.state.metas[cap]):
            self._told[cap] = {}

    def told(self, centre: str, cap: str, version: Version) -> None:
        """All servers of another data centre serve a cap by this version."""
        if cap in self._told:
            self._told[cap][centre] = version
            self._soon[cap] = None

    def unheard(self, cap: str) -> dict[str, int]:
        """The data centres that may serve units of a cap by an older definition.

        They surely do not after the instants given, in microseconds UTC.
        """
        meta = self._membership.state.metas[cap]
        until = self._until(meta)
        told = self._told.get(cap, {})
        return {
            centre: until
            for centre, register in self._membership.state.centres.items()
            if until and centre != self._membership.dc and register.membership != "out"
            if centre not in told or told[centre] < meta.version
        }

    def awaited(self, cap: str) -> bool:
        """Whether one of them is heard, so that it will say soon that it has heard."""
        return not self._membership.fresh.isdisjoint(self.unheard(cap))

    def _until(self, meta: Meta) -> int:
        """When other data centres surely serve none of what is open now; 0 where they do not."""
        now = self._membership.now
        instants = [each.served_until for each in meta.intervals if _is_abroad(each)]
        return max([each for each in (*instants, meta.taken_until) if each > now], default=0)

    def _settle(self, cap: str) -> None:
        """Where everybody serves by the bounds of an interval, nobody counts as serving on."""
        if cap in self._told and not self.unheard(cap):
            self._local.settle(cap, self._membership.now)

    # ---- time

    def step(self) -> None:
        """Look at some that wait, and ask again."""
        for cap in list(islice(self._owed, CAPS_PER_STEP)):
            self._owed[cap] = self._owed.pop(cap)
            self._soon[cap] = None
        for cap in list(islice(self._told, CAPS_PER_STEP)):
            told = self._told.pop(cap)
            if self._until(self._membership.state.metas[cap]):
                self._told[cap] = told
                for centre in self.unheard(cap):
                    if centre in self._membership.others:
                        self._tell(centre, cap)


def _may_be_cut(interval: Interval) -> bool:
    """Whether some may not have heard that it ends earlier, of those who have units of it."""
    return interval.until > interval.end and _is_abroad(interval)


def _is_abroad(interval: Interval) -> bool:
    """Whether other data centres may have units of it."""
    sharing = interval.sharing
    return sharing is not None and bool(sharing.minter or interval.pool.sent)
