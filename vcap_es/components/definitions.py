"""The definitions of caps as registers: every data centre comes to know the newest of each.

Whoever hears of an older version tells the newer one, and asks where it is behind; and each home
tells the versions of all its caps, round and round.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from msgspec import structs

from vcap_es.components.circle import Circle
from vcap_es.components.decisions.centre import NO_CENTRE
from vcap_es.components.decisions.inheritance import inherited
from vcap_es.components.hybrid_clock import AHEAD_US
from vcap_es.components.transfer_messages import About, Inquiry, Register, Versions
from vcap_es.errors import InvalidDefinition
from vcap_es.events.facts import HomeMoved, MetaLearned, Version
from vcap_es.projections.states.meta import Meta

REGISTER_US = 500_000
"""A definition is told to, or asked of, the same data centre no more often than this."""

METAS_PER_STEP = 200
"""So many caps are looked at in one step, round and round."""


class Definitions:
    """What the others know of definitions, and what is learned from them."""

    def __init__(self, circle: Circle, abouts: Callable[[Meta], list[About]]) -> None:
        """`abouts` are the shared intervals of a cap."""
        self._circle, self._abouts = circle, abouts
        self._told: dict[tuple[str, str], int] = {}
        self._swept: Iterator[str] = iter(())

    # ---- what is told

    def changed(self, cap: str) -> None:
        """A definition that is decided here has changed: all others must hear."""
        for centre in self._circle.others:
            self.tell(centre, cap, is_urgent=True)

    def tell(self, centre: str, cap: str, *, is_urgent: bool = False) -> None:
        """Let another data centre know the definition of a cap, if it is known here."""
        meta = self._circle.state.metas.get(cap)
        if meta is not None and (self._is_due(centre, cap) or is_urgent):
            self._circle.tell(centre, self._register(meta))

    def compare(self, centre: str, cap: str, version: Version) -> None:
        """Another data centre has this version: who is ahead tells."""
        meta = self._circle.state.metas.get(cap)
        if meta is None or version > meta.version:
            if self._is_due(centre, cap):
                self._circle.tell(centre, Inquiry(cap=cap))
        elif version < meta.version:
            self.tell(centre, cap)

    def _is_due(self, centre: str, cap: str) -> bool:
        """Whether the last message of a definition is long enough ago."""
        now = self._circle.now
        last = self._told.get((centre, cap), -REGISTER_US)
        if now - last < REGISTER_US:
            return False
        self._told[centre, cap] = now
        return True

    def _register(self, meta: Meta) -> Register:
        return Register(
            meta=MetaLearned(
                cap=meta.cap,
                home=meta.home or self._circle.dc,
                version=meta.version,
                definition=meta.definition,
                paused=meta.paused,
                retired=meta.retired,
                ended_before=meta.ended_before,
            ),
            intervals=self._abouts(meta),
            moved=meta.moved,
        )

    # ---- what is learned

    def learn(self, centre: str, register: Register) -> None:
        """Another data centre tells a definition: the newer one holds."""
        learned, meta = register.meta, self._circle.state.metas.get(register.meta.cap)
        if meta is not None and not _is_newer(learned.version, meta):
            return
        if learned.home != self._circle.dc:
            self._circle.record(learned)
        elif register.moved is not None:
            self._take_home(centre, learned, register.moved)

    def _take_home(self, centre: str, learned: MetaLearned, moved: HomeMoved) -> None:
        """Decide the cap from here on: as its old home had it, and nothing that was opened."""
        meta = self._circle.state.metas.get(learned.cap)
        before = Version(moved.version.generation, moved.version.number - 1)
        if meta is None or meta.version < before:
            self._circle.record(structs.replace(learned, home=centre, version=before))
        self._circle.record(structs.replace(moved, home=""))

    # ---- round and round

    def begin_anew(self) -> None:
        """Others take part now: the next round begins at once."""
        self._swept = iter(())

    def sweep(self) -> list[Meta]:
        """Look at some more caps, let others compare versions; those that are decided here."""
        circle = self._circle
        caps = list(islice(self._swept, METAS_PER_STEP))
        if not caps:
            self._swept = iter(list(circle.state.metas))
            return []
        metas = [circle.state.metas[each] for each in caps]
        for meta in metas:
            self._inherit(meta)
        own = [meta for meta in metas if not meta.home or meta.moved is not None]
        if own:
            circle.tell_others(Versions(versions=[(meta.cap, meta.version) for meta in own]))
        return [meta for meta in own if not meta.home]

    def _inherit(self, meta: Meta) -> None:
        """Decide a cap whose home is lost, where this data centre is the heir of that."""
        circle = self._circle
        if circle.state.centres.get(meta.home, NO_CENTRE).heir != circle.dc:
            return
        try:
            circle.record(inherited(meta, circle.now + AHEAD_US))
        except InvalidDefinition:
            return  # here is no such zone: it is tried again, until there is


def _is_newer(version: Version, meta: Meta) -> bool:
    """Whether a definition counts more than `meta`: the home's own gives way to an heir alone."""
    if meta.home:
        return version > meta.version
    return version.generation > meta.version.generation
