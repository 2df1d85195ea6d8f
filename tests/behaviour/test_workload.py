"""Random lives of a small data centre, each from a seed that shows it again."""

import pytest

from vcap_es.sim.lives.workload import live


@pytest.mark.parametrize("seed", range(200))
def test_a_random_life_is_exact_and_closes(seed: int) -> None:
    """Whatever is lost, killed or changed: every step is exact, and healed, nothing is stranded."""
    live(seed)
