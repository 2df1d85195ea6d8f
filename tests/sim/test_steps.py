"""Masters die at every step of a transfer: the sum stays exact, and nothing stays on its way."""

from vcap_es.sim.lives.crash_points import STEPS
from vcap_es.sim.lives.profiles import PROFILES
from vcap_es.sim.lives.stepwise import SteppedLife
from vcap_es.sim.runs import live_once


def test_whoever_dies_at_a_step_loses_nothing() -> None:
    """Every step is met in a few lives, where the interval was opened and elsewhere."""
    met: set[str] = set()
    for seed in range(12):
        outcome = live_once("steps", seed)
        assert not outcome.check, outcome.finding
        met |= outcome.figures.mishaps.keys()
    assert met >= set(STEPS)


def test_nothing_dies_once_all_is_healed() -> None:
    """The end of a life, which asks for the last unit, is quiet."""
    life = SteppedLife(PROFILES["steps"], 1)
    life.live()
    happened = dict(life.happened)
    life.centres.run(10_000_000)
    assert life.happened == happened
