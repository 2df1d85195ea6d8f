"""The state of a data centre: everything that its log says is true now."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from msgspec import Struct, field, msgpack

from vcap_es.events.clusters import generation_of
from vcap_es.events.facts import (
    AmountWithheld,
    ApiKeyCreated,
    ApiKeyRevoked,
    CentreChanged,
    CentreIdentified,
    CentreReadmitted,
    ClockPassed,
    ClusterCreated,
    ConfigDecided,
    Definition,
    DivergenceTruncated,
    EpochStarted,
    Fact,
    HoldingRecovered,
    HomeMoved,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    LogRestored,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    NodeAddressChanged,
    PhaseChanged,
    PlacementChanged,
    PromotionForced,
    Returned,
    SecondarySpawned,
    ServerReadmitted,
    SharesSet,
    SpendReported,
    Stamp,
    SwitchoverStarted,
    TemplateDefined,
    TemplateLearned,
    TemplateRetired,
    ToppedUp,
    TopupRecovered,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    TransferSettled,
    WithheldReleased,
    WithholdingEnded,
)
from vcap_es.projections.states import (
    access,
    centre,
    interval,
    meta,
    node,
    primacy,
    transfer,
    volumecap,
)
from vcap_es.projections.states.access import Access
from vcap_es.projections.states.centre import Centre, Placement
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta, MetaChange
from vcap_es.projections.states.node import NodeSeen
from vcap_es.projections.states.places import cut
from vcap_es.projections.states.primacy import Primacy, PrimacyFact
from vcap_es.projections.states.transfer import TransferFact
from vcap_es.projections.states.usage import noted

T = TypeVar("T")

SHARED_MAX = 4096
"""Equal values of which one object is kept; with more than that, sharing begins anew."""


NUMBERS_PER_GENERATION = 1_000_000_000
"""Interval numbers that each generation of a log has for itself, or 1,900 years of minutes.

So a number is of one period, whatever a generation before has opened that the backup has not.
"""


class DataCentre(Struct):
    """All metas with their open intervals, templates, keys, nodes and centres, at one epoch.

    `clusters` has which log each other data centre writes, as far as that is known here; `disputed`
    are those that others know by another log; `apart` has the logs of those that were met before
    this log was restored, and so know this data centre by another one until they are readmitted.
    `template_stamps` has every template that there ever was; an origin of "" is this data centre.
    """

    epoch: int = 0
    leader: str = ""
    metas: dict[str, Meta] = {}
    templates: dict[str, Definition] = {}
    template_stamps: dict[str, Stamp] = {}
    access: Access = field(default_factory=Access)
    primacy: Primacy = field(default_factory=Primacy)
    nodes: dict[str, NodeSeen] = {}
    centres: dict[str, Centre] = {}
    clusters: dict[str, str] = {}
    disputed: list[str] = []
    apart: dict[str, str] = {}
    placements: dict[str, Placement] = {}

    def interval(self, cap: str, number: int) -> Interval | None:
        """The interval `number` of `cap`, unless it is closed or unknown."""
        found = self.metas.get(cap)
        return found.interval(number) if found is not None else None

    @property
    def first_number(self) -> int:
        """The first number that this generation of the log gives to an interval."""
        return generation_of(self.primacy.cluster) * NUMBERS_PER_GENERATION

    def is_lost(self, centre: str) -> bool:
        """Whether a data centre was declared lost."""
        known = self.centres.get(centre)
        return known is not None and known.membership == "lost"

    def is_met(self, centre: str) -> bool:
        """Whether another data centre is known by its log, which nobody knows differently."""
        return centre in self.clusters and centre not in self.disputed

    @property
    def is_apart(self) -> bool:
        """Whether some that take part know this data centre by its log before a restore.

        Until they are readmitted, or declared lost, nothing is shared with them.
        """
        return any(self.takes_part(each) for each in self.apart.keys() - self.clusters.keys())

    def takes_part(self, centre: str) -> bool:
        """Whether a data centre is in, or drains."""
        known = self.centres.get(centre)
        return known is not None and known.membership in ("in", "drain")

    def is_unconfirmed(self, meta: Meta) -> bool:
        """Whether the generation before may have changed or moved a cap that is decided here.

        So it is until all that took part then have told how they know it.
        """
        if meta.home or meta.taken_at >= self.first_number or not self.primacy.is_withholding:
            return False
        return any(self.takes_part(each) for each in self.apart)

    def weights(self, dc: str) -> dict[str, int]:
        """The weights of those that have a share of what opens at the data centre `dc`."""
        return {
            name: each.weight
            for name, each in sorted(self.centres.items())
            if each.membership == "in" and (name == dc or self.is_met(name))
        }

    def template_stamp(self, match: str) -> Stamp:
        """How often a template has changed, and who has changed it last; "" is here."""
        return self.template_stamps.get(match, Stamp())

    def terms_of(self, placement: str) -> str:
        """What a placement comes to: its own terms where it has a name of its own, or itself."""
        named = self.placements.get(placement)
        return placement if named is None or named.terms is None else named.terms


class Fold:
    """Folds facts into a `DataCentre`, one after the other; equal facts give an equal state."""

    def __init__(self, state: DataCentre | None = None) -> None:
        self.state = state or DataCentre()
        self.state.nodes = node.in_order(self.state.nodes)
        self._shared: dict[Hashable, Any] = {}
        for cap, found in self.state.metas.items():
            found.cap = cap
            self._share_meta(found)
            for each in found.intervals:
                self._share_bounds(each)

    def evolve(self, fact: Fact) -> None:
        """`fact` has become true. A fact that cannot be folded raises and must stop the reader."""
        _HANDLERS[type(fact)](self, fact)

    def _meta_defined(self, fact: MetaDefined) -> None:
        found = self.state.metas.get(fact.cap)
        found = self.state.metas[fact.cap] = meta.defined(fact, found, self.state.first_number)
        self._share_meta(found)

    def _meta_changed(self, fact: MetaChange) -> None:
        found = self.state.metas[fact.cap]
        meta.evolve(found, fact)
        if isinstance(fact, HomeMoved) and not fact.home:
            found.next_number = max(found.next_number, self.state.first_number)
        self._share_meta(found)

    def _meta_learned(self, fact: MetaLearned) -> None:
        found = meta.learned(fact, self.state.metas.get(fact.cap))
        if not fact.home:  # as it was decided here before a restore
            found.next_number = max(found.next_number, self.state.first_number)
        self.state.metas[fact.cap] = found
        self._share_meta(found)

    def _template_defined(self, fact: TemplateDefined) -> None:
        self._stamp_template(fact.match)
        self.state.templates[fact.match] = fact.definition

    def _template_retired(self, fact: TemplateRetired) -> None:
        self._stamp_template(fact.match)
        self.state.templates.pop(fact.match, None)

    def _stamp_template(self, match: str) -> None:
        self.state.template_stamps[match] = Stamp(self.state.template_stamp(match).count + 1)

    def _template_learned(self, fact: TemplateLearned) -> None:
        self.state.template_stamps[fact.match] = fact.stamp
        if fact.definition is None:
            self.state.templates.pop(fact.match, None)
        else:
            self.state.templates[fact.match] = fact.definition

    def _interval_opened(self, fact: IntervalOpened) -> None:
        found = self.state.metas[fact.cap]
        assert fact.number >= found.next_number, f"{fact.cap} {fact.number} was opened before"
        opened = interval.opened(fact)
        self._share_bounds(opened)
        found.intervals += (opened,)
        found.next_number = fact.number + 1
        self._note_bounds(found, opened)

    def _interval_learned(self, fact: IntervalLearned | IntervalRecovered) -> None:
        found = self.state.metas[fact.cap]
        assert found.interval(fact.number) is None, f"{fact.cap} {fact.number} is known already"
        assert fact.number >= found.closed_before, f"{fact.cap} {fact.number} is closed"
        if isinstance(fact, IntervalRecovered):
            learned = interval.recovered(fact)
        else:
            learned = interval.learned(fact)
        self._share_bounds(learned)
        both = (*found.intervals, learned)
        found.intervals = tuple(sorted(both, key=lambda each: each.number))
        found.next_number = max(found.next_number, fact.number + 1)
        found.opened_until = max(found.opened_until, fact.end)

    def _note_bounds(self, found: Meta, opened: Interval) -> None:
        """An interval of this data centre has these bounds, by the definition in force."""
        found.opened_until = max(found.opened_until, opened.end)
        if found.definition.interval == "single":
            found.single_number = max(found.single_number, opened.number)
            if found.single_start < 0:
                found.single_start = opened.start

    def _interval_changed(self, fact: interval.IntervalChange) -> None:
        interval.evolve(self._interval(fact.cap, fact.number), fact)

    def _interval_ended(self, fact: IntervalEnded) -> None:
        ended = self._interval(fact.cap, fact.number)
        interval.evolve(ended, fact)
        if ended.sharing is None or not ended.sharing.minter:
            found = self.state.metas[fact.cap]
            found.ended_until = max(found.ended_until, ended.end)

    def _interval_bounded(self, fact: IntervalBounded) -> None:
        changed = self._interval(fact.cap, fact.number)
        interval.evolve(changed, fact)
        self._share_bounds(changed)
        found = self.state.metas[fact.cap]
        if changed.sharing is None or not changed.sharing.minter:
            self._note_bounds(found, changed)
        found.opened_until = max(found.opened_until, fact.end)

    def _interval_closed(self, fact: IntervalClosed) -> None:
        closing = self._interval(fact.cap, fact.number)
        interval.evolve(closing, fact)
        found = self.state.metas[fact.cap]
        found.intervals = tuple(each for each in found.intervals if each is not closing)
        is_own = closing.sharing is None or not closing.sharing.minter
        if is_own and closing.usage.units:
            found.usages = noted(found.usages, closing.usage)
        if closing.sharing is not None:
            found.closed_before = max(found.closed_before, fact.number + 1)

    def _moved(self, fact: volumecap.Movement) -> None:
        volumecap.evolve_moved(self._interval(fact.cap, fact.number).pool, fact)

    def _transferred(self, fact: TransferFact) -> None:
        transfer.evolve(self._interval(fact.cap, fact.number), fact)

    def _spend_reported(self, fact: SpendReported) -> None:
        told = [(self._interval(each.cap, each.number).pool, each) for each in fact.entries]
        # All is checked before any is taken in: a fact that is refused has changed nothing.
        for pool, entry in told:
            volumecap.check_spend(pool, fact.incarnation, entry)
        for pool, entry in told:
            volumecap.evolve_spend(pool, fact.incarnation, entry)

    def _epoch_started(self, fact: EpochStarted) -> None:
        assert fact.epoch > self.state.epoch, f"epoch {fact.epoch} is not above {self.state.epoch}"
        self.state.epoch, self.state.leader = fact.epoch, fact.leader

    def _primacy_changed(self, fact: PrimacyFact) -> None:
        primacy.evolve(self.state.primacy, fact)

    def _log_restored(self, fact: LogRestored) -> None:
        """Whoever the generation before knew is not known, and its numbers are not used again."""
        self._primacy_changed(fact)
        self.state.nodes.clear()
        self.state.apart = {**self.state.apart, **self.state.clusters}
        self.state.clusters.clear()
        self.state.disputed.clear()
        for each in self.state.metas.values():
            if each.home:
                continue  # that one numbers them, and goes on
            each.next_number = max(each.next_number, self.state.first_number)

    def _centre_changed(self, fact: CentreChanged) -> None:
        centre.evolve(self.state.centres, fact)

    def _centre_identified(self, fact: CentreIdentified) -> None:
        known = self.state.clusters.setdefault(fact.centre, fact.cluster)
        if known != fact.cluster and fact.centre not in self.state.disputed:
            self.state.disputed.append(fact.centre)

    def _centre_readmitted(self, fact: CentreReadmitted) -> None:
        """It is known by this log from now on; a restored one may lack what was moved so far."""
        state = self.state
        state.clusters[fact.centre] = fact.cluster
        if fact.centre in state.disputed:
            state.disputed.remove(fact.centre)
        if fact.cluster == fact.was:
            return
        for found in state.metas.values():
            for each in found.intervals:
                cut(each.pool, fact.centre)

    def _placement_changed(self, fact: PlacementChanged) -> None:
        centre.evolve_placement(self.state.placements, fact)

    def _clock_passed(self, _fact: ClockPassed) -> None:
        """It is about stamps, of which the state has none."""

    def _node_address_changed(self, fact: NodeAddressChanged) -> None:
        node.evolve(self.state.nodes, fact)

    def _access_changed(self, fact: ApiKeyCreated | ApiKeyRevoked) -> None:
        access.evolve(self.state.access, fact)

    def _interval(self, cap: str, number: int) -> Interval:
        found = self.state.interval(cap, number)
        assert found is not None, f"interval {number} of {cap} is not open"
        return found

    # A hundred thousand caps often have but a few definitions, and the same midnight.

    def _share_meta(self, found: Meta) -> None:
        found.version = self._share(found.version, found.version)
        found.definition = self._share(msgpack.encode(found.definition), found.definition)

    def _share_bounds(self, found: Interval) -> None:
        found.start = self._share(found.start, found.start)
        found.end = self._share(found.end, found.end)
        found.version = self._share(found.version, found.version)

    def _share(self, key: Hashable, value: T) -> T:
        """The one object that is kept of all values with this key."""
        if len(self._shared) >= SHARED_MAX:
            self._shared.clear()
        kept: T = self._shared.setdefault(key, value)
        return kept


_HANDLERS: dict[type, Callable[..., None]] = {
    MetaDefined: Fold._meta_defined,
    MetaChanged: Fold._meta_changed,
    MetaPaused: Fold._meta_changed,
    MetaResumed: Fold._meta_changed,
    MetaRetired: Fold._meta_changed,
    HomeMoved: Fold._meta_changed,
    MetaLearned: Fold._meta_learned,
    TemplateDefined: Fold._template_defined,
    TemplateRetired: Fold._template_retired,
    TemplateLearned: Fold._template_learned,
    IntervalOpened: Fold._interval_opened,
    IntervalLearned: Fold._interval_learned,
    IntervalRecovered: Fold._interval_learned,
    IntervalTotalChanged: Fold._interval_changed,
    IntervalBounded: Fold._interval_bounded,
    IntervalHeard: Fold._interval_changed,
    AmountWithheld: Fold._interval_changed,
    WithheldReleased: Fold._interval_changed,
    IntervalEnded: Fold._interval_ended,
    IntervalClosed: Fold._interval_closed,
    ToppedUp: Fold._moved,
    TopupRecovered: Fold._moved,
    HoldingRecovered: Fold._moved,
    Returned: Fold._moved,
    SpendReported: Fold._spend_reported,
    SharesSet: Fold._transferred,
    PhaseChanged: Fold._transferred,
    TransferSent: Fold._transferred,
    TransferReceived: Fold._transferred,
    TransferRecovered: Fold._transferred,
    TransferSettled: Fold._transferred,
    EpochStarted: Fold._epoch_started,
    ClusterCreated: Fold._primacy_changed,
    ConfigDecided: Fold._primacy_changed,
    SecondarySpawned: Fold._primacy_changed,
    SwitchoverStarted: Fold._primacy_changed,
    DivergenceTruncated: Fold._primacy_changed,
    PromotionForced: Fold._primacy_changed,
    LogRestored: Fold._log_restored,
    ServerReadmitted: Fold._primacy_changed,
    WithholdingEnded: Fold._primacy_changed,
    CentreChanged: Fold._centre_changed,
    CentreIdentified: Fold._centre_identified,
    CentreReadmitted: Fold._centre_readmitted,
    PlacementChanged: Fold._placement_changed,
    ClockPassed: Fold._clock_passed,
    NodeAddressChanged: Fold._node_address_changed,
    ApiKeyCreated: Fold._access_changed,
    ApiKeyRevoked: Fold._access_changed,
}
