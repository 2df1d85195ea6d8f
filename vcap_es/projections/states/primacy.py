"""The state of primacy, as the log tells it: the cluster, and what was decided of who leads."""

from msgspec import Struct

from vcap_es.events.facts import (
    ClusterCreated,
    ConfigDecided,
    DivergenceTruncated,
    PromotionForced,
    SecondarySpawned,
    SwitchoverStarted,
)

FORCED_MAX = 100
"""So many forced promotions are remembered here; the log has them all."""


class Primacy(Struct):
    """One cluster's primacy: what was decided last, and how often the rest came to pass.

    `spawn` and `switchover` are the last ones; `forced` are the last promotions that operators
    forced, oldest first, at most `FORCED_MAX`.
    """

    cluster: str = ""
    config: ConfigDecided | None = None
    spawned: int = 0
    spawn: SecondarySpawned | None = None
    switchovers: int = 0
    switchover: SwitchoverStarted | None = None
    divergences: int = 0
    forced: list[PromotionForced] = []


PrimacyFact = (
    ClusterCreated
    | ConfigDecided
    | SecondarySpawned
    | SwitchoverStarted
    | DivergenceTruncated
    | PromotionForced
)


def evolve(primacy: Primacy, fact: PrimacyFact) -> None:
    """`fact` has become true."""
    match fact:
        case ClusterCreated():
            assert not primacy.cluster, "a cluster is created once"
            primacy.cluster = fact.cluster
        case ConfigDecided():
            primacy.config = fact
        case SecondarySpawned():
            primacy.spawned += 1
            primacy.spawn = fact
        case SwitchoverStarted():
            primacy.switchovers += 1
            primacy.switchover = fact
        case DivergenceTruncated():
            primacy.divergences += 1
        case PromotionForced():
            primacy.forced = [*primacy.forced, fact][-FORCED_MAX:]
