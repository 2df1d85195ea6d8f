"""What can have happened, in the past tense, one module a noun."""

from collections.abc import Collection

from vcap_es.events.facts.access import ApiKeyCreated, ApiKeyRevoked
from vcap_es.events.facts.centre import (
    CentreChanged,
    CentreIdentified,
    CentreReadmitted,
    ClockPassed,
    Membership,
    PlacementChanged,
    Stamp,
)
from vcap_es.events.facts.interval import (
    AmountWithheld,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalLearned,
    IntervalOpened,
    IntervalRecovered,
    IntervalTotalChanged,
    WithheldReleased,
)
from vcap_es.events.facts.meta import (
    Definition,
    HomeMoved,
    MetaChanged,
    MetaDefined,
    MetaLearned,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    TemplateDefined,
    TemplateLearned,
    TemplateRetired,
    Version,
)
from vcap_es.events.facts.node import NodeAddressChanged
from vcap_es.events.facts.primacy import (
    ClusterCreated,
    ConfigDecided,
    DivergenceTruncated,
    EpochStarted,
    LogRestored,
    PromotionForced,
    SecondarySpawned,
    ServerReadmitted,
    SwitchoverStarted,
    WithholdingEnded,
)
from vcap_es.events.facts.transfer import (
    Mode,
    Phase,
    PhaseChanged,
    SharesSet,
    TransferReceived,
    TransferRecovered,
    TransferSent,
    TransferSettled,
)
from vcap_es.events.facts.volumecap import (
    HoldingRecovered,
    Returned,
    Spend,
    SpendReported,
    ToppedUp,
    TopupRecovered,
)

Fact = (
    MetaDefined
    | MetaChanged
    | MetaPaused
    | MetaResumed
    | MetaRetired
    | HomeMoved
    | MetaLearned
    | TemplateDefined
    | TemplateLearned
    | TemplateRetired
    | IntervalOpened
    | IntervalLearned
    | IntervalRecovered
    | IntervalTotalChanged
    | IntervalBounded
    | AmountWithheld
    | WithheldReleased
    | IntervalEnded
    | IntervalHeard
    | IntervalClosed
    | ToppedUp
    | TopupRecovered
    | HoldingRecovered
    | Returned
    | SpendReported
    | SharesSet
    | PhaseChanged
    | TransferSent
    | TransferReceived
    | TransferRecovered
    | TransferSettled
    | ClusterCreated
    | EpochStarted
    | ConfigDecided
    | SecondarySpawned
    | SwitchoverStarted
    | DivergenceTruncated
    | PromotionForced
    | LogRestored
    | ServerReadmitted
    | WithholdingEnded
    | NodeAddressChanged
    | CentreChanged
    | CentreIdentified
    | CentreReadmitted
    | PlacementChanged
    | ClockPassed
    | ApiKeyCreated
    | ApiKeyRevoked
)


def caps_of(fact: Fact) -> list[str]:
    """The ids of the caps that `fact` speaks of: none, one, or (a spend report) several."""
    if isinstance(fact, SpendReported):
        return list(dict.fromkeys(entry.cap for entry in fact.entries))
    cap = getattr(fact, "cap", None)
    return [] if cap is None else [cap]


def part_of(fact: Fact, caps: Collection[str]) -> Fact:
    """What `fact` says of these `caps`: a spend report has a part for each, others are whole."""
    if not isinstance(fact, SpendReported):
        return fact
    entries = [entry for entry in fact.entries if entry.cap in caps]
    return SpendReported(incarnation=fact.incarnation, entries=entries)


__all__ = [
    "AmountWithheld",
    "ApiKeyCreated",
    "ApiKeyRevoked",
    "CentreChanged",
    "CentreIdentified",
    "CentreReadmitted",
    "ClockPassed",
    "ClusterCreated",
    "ConfigDecided",
    "Definition",
    "DivergenceTruncated",
    "EpochStarted",
    "Fact",
    "HoldingRecovered",
    "HomeMoved",
    "IntervalBounded",
    "IntervalClosed",
    "IntervalEnded",
    "IntervalHeard",
    "IntervalLearned",
    "IntervalOpened",
    "IntervalRecovered",
    "IntervalTotalChanged",
    "LogRestored",
    "Membership",
    "MetaChanged",
    "MetaDefined",
    "MetaLearned",
    "MetaPaused",
    "MetaResumed",
    "MetaRetired",
    "Mode",
    "NodeAddressChanged",
    "Phase",
    "PhaseChanged",
    "PlacementChanged",
    "PromotionForced",
    "Returned",
    "SecondarySpawned",
    "ServerReadmitted",
    "SharesSet",
    "Spend",
    "SpendReported",
    "Stamp",
    "SwitchoverStarted",
    "TemplateDefined",
    "TemplateLearned",
    "TemplateRetired",
    "ToppedUp",
    "TopupRecovered",
    "TransferReceived",
    "TransferRecovered",
    "TransferSent",
    "TransferSettled",
    "Version",
    "WithheldReleased",
    "WithholdingEnded",
    "caps_of",
    "part_of",
]
