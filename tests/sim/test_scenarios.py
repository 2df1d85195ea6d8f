"""Directed lives: every rule by what follows where it is broken; here nothing is broken."""

import pytest

from vcap_es.sim.scenarios import (
    Scenario,
    allocator_rules,
    bounds,
    copying,
    crashes,
    edits,
    edits_abroad,
    ends,
    founding,
    growing,
    keys,
    recalls,
    scenarios_of,
    server_rules,
    settling,
    stalling,
    switching,
    verdicts,
)

MODULES = (
    server_rules,
    allocator_rules,
    edits,
    edits_abroad,
    recalls,
    verdicts,
    ends,
    crashes,
    settling,
    keys,
    growing,
    founding,
    stalling,
    switching,
    bounds,
    copying,
)


@pytest.mark.parametrize(
    "scenario",
    [each for module in MODULES for each in scenarios_of(module)],
    ids=lambda each: each.__name__,
)
def test_a_scenario_holds(scenario: Scenario) -> None:
    """What the scenario shows is so."""
    scenario()
