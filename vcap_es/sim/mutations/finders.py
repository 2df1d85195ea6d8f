"""Who is to find the planted bugs of the slice protocol: random lives, or a scenario."""

from functools import wraps

from vcap_es.sim.lives.workload import live
from vcap_es.sim.mutations import Mutation, Plant
from vcap_es.sim.scenarios import Scenario

RANDOM_LIVES = 50
"""How many random lives a bug may survive; what they do not find has a scenario of its own."""


def by_chance(name: str, rule: str, plant: Plant) -> Mutation:
    """A bug that random lives find."""
    return Mutation(name=name, rule=rule, plant=plant, life=live, seeds=RANDOM_LIVES)


def by_scenario(name: str, rule: str, plant: Plant, scenario: Scenario) -> Mutation:
    """A bug that this scenario finds."""

    @wraps(scenario)
    def life(_seed: int) -> None:
        scenario()

    return Mutation(name=name, rule=rule, plant=plant, life=life, seeds=1)
