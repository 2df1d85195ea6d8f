"""Directed lives: every rule by what follows where it is broken; here nothing is broken."""

import pytest

from vcap_es.sim.scenarios import Scenario, desk_side, scenarios_of, server_side

ALL = [each for module in (desk_side, server_side) for each in scenarios_of(module)]


@pytest.mark.parametrize("scenario", ALL, ids=lambda each: each.__name__)
def test_a_scenario_holds(scenario: Scenario) -> None:
    """What the scenario shows is so."""
    scenario()
