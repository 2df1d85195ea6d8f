"""A data centre that was restored takes part again: nothing is served twice for that."""

import pytest

from vcap_es.sim.mutations import Mutation, hunt
from vcap_es.sim.mutations.gate import is_sound
from vcap_es.sim.mutations.readmissions import READMISSIONS
from vcap_es.sim.scenarios import Scenario, readmitting, scenarios_of


@pytest.mark.parametrize("scenario", scenarios_of(readmitting), ids=lambda each: each.__name__)
def test_a_scenario_holds(scenario: Scenario) -> None:
    """What the scenario shows is so."""
    scenario()


@pytest.mark.parametrize("mutation", READMISSIONS, ids=lambda each: each.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    """The scenario fails by the bug, and ends well without it."""
    found = hunt(mutation)
    assert found.seed is not None, f"{mutation.name} survived: {mutation.rule}"
    assert is_sound(mutation, found.seed)
