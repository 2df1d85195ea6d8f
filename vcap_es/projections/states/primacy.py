"""The state of primacy, as the log tells it: the cluster, and what was decided of who leads."""

from msgspec import Struct

from vcap_es.events.facts import (
    ClusterCreated,
    ConfigDecided,
    DivergenceTruncated,
    LogRestored,
    PromotionForced,
    SecondarySpawned,
    ServerReadmitted,
    SwitchoverStarted,
    WithholdingEnded,
)

FORCED_MAX = 100
"""Forced promotions that are remembered here, at most; the log has them all."""


BEFORE_MAX = 100
"""Earlier generations that are remembered, at most; a server of one before cannot be readmitted."""


class Primacy(Struct):
    """One cluster's primacy: what was decided last, and how often the rest came to pass.

    `spawn` and `switchover` are the last ones; `forced` are the last promotions that operators
    forced, oldest first, at most `FORCED_MAX`. `restored` is how the log was last restored from a
    backup, `before` are the clusters that it was until then, oldest first, at most `BEFORE_MAX`.
    `readmitted` are the servers of those, by incarnation, and their names. With `is_withholding`,
    what they may have granted is withheld.
    """

    cluster: str = ""
    config: ConfigDecided | None = None
    spawned: int = 0
    spawn: SecondarySpawned | None = None
    switchovers: int = 0
    switchover: SwitchoverStarted | None = None
    divergences: int = 0
    forced: list[PromotionForced] = []
    restored: LogRestored | None = None
    before: list[str] = []
    readmitted: dict[str, str] = {}
    is_withholding: bool = False


PrimacyFact = (
    ClusterCreated
    | ConfigDecided
    | SecondarySpawned
    | SwitchoverStarted
    | DivergenceTruncated
    | PromotionForced
    | LogRestored
    | ServerReadmitted
    | WithholdingEnded
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
        case LogRestored():
            _restore(primacy, fact)
        case ServerReadmitted():
            primacy.readmitted[fact.incarnation] = fact.name
        case WithholdingEnded():
            primacy.is_withholding = False


def _restore(primacy: Primacy, fact: LogRestored) -> None:
    """Whoever led, voted or was started is of the generation before."""
    assert fact.was == primacy.cluster, f"a backup of {primacy.cluster} is restored as {fact.was}"
    primacy.before = [*primacy.before, primacy.cluster][-BEFORE_MAX:]
    primacy.cluster, primacy.restored = fact.cluster, fact
    primacy.config = primacy.spawn = None
    primacy.readmitted, primacy.is_withholding = {}, True
