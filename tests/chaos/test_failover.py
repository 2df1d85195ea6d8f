"""A few faults of `make chaos` in the ordinary run: nothing that was acknowledged is ever lost."""

import random
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.life import live
from tests.chaos.relays import Relays

NAMES = [*["kill primary"] * 5, "pause primary", "cut primary off", "switch over"]


def test_nothing_is_lost_when_masters_die_pause_part_and_change_under_load(tmp_path: Path) -> None:
    """Every acknowledged event is on every later leader's log, and the books stay exact."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    faults = [FAULTS[name] for name in NAMES]
    random.Random(seed).shuffle(faults)
    # When
    story = live(tmp_path, faults, witnesses=1, seed=seed, network=Relays())
    # Then
    assert not [each for outcome in story.outcomes for each in outcome.findings]
    assert not story.findings
    assert len(story.outcomes) == len(faults)
    # And it was tried: there were acknowledgements, and servers served all the time.
    assert story.acknowledged > 10 * len(faults)
    assert story.steady > 10 * len(faults)
    assert story.position > story.acknowledged
