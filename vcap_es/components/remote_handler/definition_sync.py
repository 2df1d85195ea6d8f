"""The definitions of caps as registers: every data centre comes to know the newest of each.

Whoever hears of an older version tells the newer one, and asks where it is behind; and everybody
tells the versions of all caps, round and round.

The caps of a lost data centre are taken by its heir, when it has had time to hear what the others
know of them. If two were heirs until they met, the one that is takes them once more.
"""

from collections.abc import Callable, Iterator
from copy import copy
from itertools import islice

from msgspec import structs

from vcap_es.components.decisions.centre import heir_of
from vcap_es.components.decisions.inheritance import inherited
from vcap_es.components.hybrid_clock import AHEAD_US
from vcap_es.components.messages.centre import Inquiry, IntervalStatus, Register, Versions
from vcap_es.components.remote_handler.hearsay import doubt_register
from vcap_es.components.remote_handler.membership import Membership
from vcap_es.errors import InvalidDefinition
from vcap_es.events.clusters import generation_of
from vcap_es.events.facts import HomeMoved, MetaLearned, Version
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.meta import learned as learned_meta

REGISTER_US = 500_000
"""A definition is told to, or asked of, the same data centre no more often than this."""

METAS_PER_STEP = 200
"""Caps that are looked at in one step, at most, round and round."""

FORGOTTEN_US = 10_000_000
"""Who gives a cap away tells what it has opened within this time, or has forgotten it."""

ANSWER_US, PATIENCE_US = 2_000_000, 60_000_000
"""Microseconds that an heir waits for the answers of others about a cap: ANSWER_US for those that
are heard, PATIENCE_US for the others.
"""


class DefinitionSync:
    """What the others know of definitions, and what is learned from them."""

    def __init__(
        self, membership: Membership, abouts: Callable[[Meta], list[IntervalStatus]]
    ) -> None:
        """`abouts` are the shared intervals of a cap."""
        self._membership, self._abouts = membership, abouts
        self._told: dict[tuple[str, str], int] = {}
        self._swept: Iterator[str] = iter(())
        self._heired: dict[str, int] = {}
        self._given: dict[str, int] = {}

    # ---- what is told

    def changed(self, cap: str) -> None:
        """A definition that is decided here has changed: all others must hear."""
        for centre in self._membership.others:
            self.tell(centre, cap, is_urgent=True)

    def tell(self, centre: str, cap: str, *, is_urgent: bool = False) -> None:
        """Let another data centre know the definition of a cap, if it is known here."""
        meta = self._membership.state.metas.get(cap)
        if meta is not None and (self._is_due(centre, cap) or is_urgent):
            self._membership.tell(centre, self.register(meta))

    def claimed(self, centre: str, cap: str, home: str, version: Version) -> bool:
        """Another data centre knows a cap so; whether it decides one that is decided here."""
        self.compare(centre, cap, version)
        meta = self._membership.state.metas.get(cap)
        if meta is None or meta.home or version.generation != meta.version.generation:
            return False
        if meta.inherited and (home == centre or self._membership.state.is_lost(home)):
            self._inherit(meta)  # another heir has taken it too: this one takes it once more
        return home == centre and version.generation == meta.version.generation

    def compare(self, centre: str, cap: str, version: Version) -> None:
        """Another data centre has this version: who is ahead tells."""
        meta = self._membership.state.metas.get(cap)
        if meta is None or version > meta.version:
            if self._is_due(centre, cap):
                self._membership.tell(centre, Inquiry(cap=cap))
        elif version < meta.version:
            self.tell(centre, cap)

    def _is_due(self, centre: str, cap: str) -> bool:
        """Whether the last message of a definition is long enough ago."""
        now = self._membership.now
        last = self._told.get((centre, cap), -REGISTER_US)
        if now - last < REGISTER_US:
            return False
        self._told[centre, cap] = now
        return True

    def register(self, meta: Meta) -> Register:
        """What others are told of a cap."""
        return Register(
            meta=MetaLearned(
                cap=meta.cap,
                home=meta.home or self._membership.dc,
                version=meta.version,
                definition=meta.definition,
                paused=meta.paused,
                retired=meta.retired,
                ended_before=meta.ended_before,
                opened_until=meta.opened_until,
            ),
            intervals=self._abouts(meta),
            moved=meta.moved,
        )

    # ---- what is learned

    def learn(self, centre: str, register: Register) -> None:
        """Another data centre tells a definition: the newer one holds."""
        learned, meta = register.meta, self._membership.state.metas.get(register.meta.cap)
        if meta is not None and not self._is_newer(learned.version, meta):
            return
        doubt = doubt_register(learned, register.moved)
        if not self._membership.believes(centre, learned.cap, doubt):
            return
        if learned.home != self._membership.dc:
            self._membership.record(learned)
        elif register.moved is not None:
            self._take_home(centre, learned, register.moved)
        elif self._membership.state.primacy.restored is not None:
            self._membership.record(
                structs.replace(learned, home="")
            )  # as it was here, since the backup
        elif self._may_be_lost(meta) or self._was_forgotten(learned.cap):
            self._take_home_by_force(meta.home if meta is not None else centre, learned)

    def _take_home(self, centre: str, learned: MetaLearned, moved: HomeMoved) -> None:
        """Decide the cap from here on: as its old home had it, and nothing that was opened."""
        meta = self._membership.state.metas.get(learned.cap)
        before = Version(moved.version.generation, moved.version.number - 1)
        if meta is None or meta.version < before:
            self._membership.record(structs.replace(learned, home=centre, version=before))
        self._membership.record(structs.replace(moved, home=""))

    def _is_newer(self, version: Version, meta: Meta) -> bool:
        """Whether a definition counts more than `meta`: the home's own gives way to an heir alone.

        One that was restored knows of no more than its backup had, until it has confirmed the cap.
        """
        if meta.home or self._membership.state.is_unconfirmed(meta):
            return version > meta.version
        return version.generation > meta.version.generation

    def _may_be_lost(self, meta: Meta | None) -> bool:
        """Whether the home that gave a cap away is lost, as far as it is known who that was.

        Else it will say itself what it has opened; or who runs here has lost its log, and must not
        decide anything anew.
        """
        if meta is not None:
            return self._membership.state.is_lost(meta.home)
        return any(each.membership == "lost" for each in self._membership.state.centres.values())

    def _was_forgotten(self, cap: str) -> bool:
        """Whether the home that gave a cap away was restored from before that, and cannot say so.

        Else it says so before long.
        """
        membership = self._membership
        if not any(map(generation_of, membership.state.clusters.values())):
            return False
        return membership.now - self._given.setdefault(cap, membership.now) > FORGOTTEN_US

    def _take_home_by_force(self, home: str, learned: MetaLearned) -> None:
        """It was moved here, by one that was lost before it could say what it has opened."""
        before = self._membership.state.metas.get(learned.cap)
        named = structs.replace(learned, home=home)
        moved = self._taken(learned_meta(named, copy(before)), 1)
        if moved is not None:
            self._membership.record(named)
            self._membership.record(moved)

    # ---- round and round

    def begin_anew(self) -> None:
        """Others take part now: the next round begins at once."""
        self._swept = iter(())

    def sweep(self) -> list[Meta]:
        """Look at some more caps, let others compare versions; those that are decided here."""
        membership = self._membership
        caps = list(islice(self._swept, METAS_PER_STEP))
        if not caps:
            self._swept = iter(list(membership.state.metas))
            return []
        metas = [membership.state.metas[each] for each in caps]
        known = [(meta.cap, meta.home or membership.dc, meta.version) for meta in metas]
        membership.tell_others(Versions(versions=known))
        for meta in metas:
            if membership.state.is_lost(meta.home) and self._is_heir(meta):
                self._heired.setdefault(meta.cap, membership.now)
        return [meta for meta in metas if not meta.home]

    # ---- the caps of a lost data centre

    def inherit(self) -> None:
        """Ask what others know of caps whose home is lost; decide them when they could tell."""
        membership = self._membership
        waits = ANSWER_US if membership.hears_all else PATIENCE_US
        for cap, since in list(islice(self._heired.items(), METAS_PER_STEP)):
            if membership.now < since + waits:
                membership.tell_others(Inquiry(cap=cap))
                continue
            del self._heired[cap]
            meta = membership.state.metas[cap]
            if membership.state.is_lost(meta.home):
                self._inherit(meta)

    def _is_heir(self, meta: Meta) -> bool:
        """Whether this data centre decides what the cap's home did, if that is lost."""
        state = self._membership.state
        heir, _ = heir_of(state.centres, meta.home or meta.inherited)
        return heir == self._membership.dc and not self._membership.is_draining

    def _inherit(self, meta: Meta) -> None:
        if self._is_heir(meta):
            _, lost = heir_of(self._membership.state.centres, meta.home)
            moved = self._taken(meta, max(lost, 1))
            if moved is not None:
                self._membership.record(moved)

    def _taken(self, meta: Meta, generations: int) -> HomeMoved | None:
        """How it is decided here, and opens nothing that may be open.

        None where there is no such zone here: it is tried again, until there is.
        """
        try:
            return inherited(meta, self._membership.now + AHEAD_US, generations)
        except InvalidDefinition:
            return None
