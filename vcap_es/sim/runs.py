"""Many lives, on all cores: what came of them, added up, and those that failed.

One life in a hundred is lived a second time, in another process with other hashes of text: the
same seed must give the same trace.
"""

import gc
import multiprocessing
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.bounds import BoundLife
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.life import Figures, Life
from vcap_es.sim.lives.multi_centre import SharedLife
from vcap_es.sim.lives.patient_clients import ExactLife
from vcap_es.sim.lives.profiles import (
    BOUNDS,
    EXACTLY,
    PROFILES,
    READMITTED,
    RESTORED,
    STEPS,
    TRANSFERS,
)
from vcap_es.sim.lives.readmitted import ReadmittedLife
from vcap_es.sim.lives.restored import RestoredLife
from vcap_es.sim.lives.stepwise import SteppedLife

LIVES_PER_COLLECTION = 16
REPEATED_EVERY = 100
"""One life in this many is lived twice."""

CHUNK = 4
"""Lives that go to a process at once."""


KINDS: dict[str, type[Life | SharedLife | RestoredLife]] = {
    EXACTLY.name: ExactLife,
    TRANSFERS.name: SharedLife,
    BOUNDS.name: BoundLife,
    STEPS.name: SteppedLife,
    RESTORED.name: RestoredLife,
    READMITTED.name: ReadmittedLife,
}
"""Lives that are of another kind than most."""


class LifeOutcome(Struct, frozen=True, kw_only=True):
    """What came of one life; `check` is empty where it ended well."""

    profile: str
    seed: int
    figures: Figures
    trace: str
    check: str = ""
    finding: str = ""


class Summary(Struct, kw_only=True):
    """What came of many lives."""

    lives: int = 0
    repeated: int = 0
    figures: Figures = field(default_factory=Figures)
    failures: list[LifeOutcome] = field(default_factory=list)

    def add(self, outcome: LifeOutcome) -> None:
        """Count one more life."""
        self.lives += 1
        self.figures.add(outcome.figures)
        if outcome.check:
            self.failures.append(outcome)


def live_once(
    profile: str,
    seed: int,
    *,
    planned: list[Mishap] | None = None,
    safety_ms: int | None = None,
    say: Callable[[str], None] | None = None,
) -> LifeOutcome:
    """Live one life to its end, well or not."""
    life = KINDS.get(profile, Life)(
        PROFILES[profile], seed, planned=planned, safety_ms=safety_ms, say=say
    )
    check = finding = ""
    try:
        life.live()
    except Violation as violation:
        check, finding = violation.check, str(violation).removeprefix(f"{violation.check} ")
    except AssertionError as error:  # the core's own
        check, finding = "core", str(error) or "an assertion of the core failed"
    trace = f"{life.world.scheduler.trace & (1 << 64) - 1:016x}"
    return LifeOutcome(
        profile=profile,
        seed=seed,
        figures=life.figures,
        trace=trace,
        check=check,
        finding=finding.partition("\n")[0],
    )


def run(wanted: Iterable[tuple[str, int]], jobs: int) -> Iterator[LifeOutcome]:
    """Live these lives, (profile, seed) each, in so many processes; in the order asked."""
    # Spawned, so that each process has its own hashes of text.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=gc.disable) as pool:
        yield from pool.imap(_live, wanted, CHUNK)


def summarize(outcomes: Iterable[LifeOutcome], seen: Callable[[LifeOutcome], None]) -> Summary:
    """Add up what came of lives, and live some again here; `seen` is called with each."""
    summary = Summary()
    for outcome in outcomes:
        summary.add(outcome)
        seen(outcome)
        if outcome.seed % REPEATED_EVERY == 0:
            summary.repeated += 1
            again = live_once(outcome.profile, outcome.seed)
            if again.trace != outcome.trace:
                summary.failures.append(_differs(outcome, again))
                seen(summary.failures[-1])
    return summary


def _differs(first: LifeOutcome, again: LifeOutcome) -> LifeOutcome:
    return LifeOutcome(
        profile=first.profile,
        seed=first.seed,
        figures=Figures(),
        trace=first.trace,
        check="determinism",
        finding=f"the same seed gives the traces {first.trace} and {again.trace}",
    )


def _live(wanted: tuple[str, int]) -> LifeOutcome:
    profile, seed = wanted
    if seed % LIVES_PER_COLLECTION == 0:
        gc.collect()
    return live_once(profile, seed)
