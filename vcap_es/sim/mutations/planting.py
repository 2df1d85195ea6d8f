"""How bugs are planted into the slice protocol, and who is to find them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial, wraps

from vcap_es.sim.mutations import Mutation, instead
from vcap_es.sim.scenarios import Scenario
from vcap_es.sim.workload import live

Plant = Callable[[], AbstractContextManager[object]]

RANDOM_LIVES = 50
"""How many random lives a bug may survive; what they do not find has a scenario of its own."""


def change(owner: object, name: str, wrong: object) -> Plant:
    """Let `owner.name` be `wrong`."""
    return partial(instead, owner, name, wrong)


def together(*plants: Plant) -> Plant:
    """Several changes that make one bug."""

    @contextmanager
    def planted() -> Iterator[None]:
        with ExitStack() as stack:
            for plant in plants:
                stack.enter_context(plant())
            yield

    return planted


def by_chance(name: str, rule: str, plant: Plant) -> Mutation:
    """A bug that random lives find."""
    return Mutation(name=name, rule=rule, plant=plant, life=live, seeds=RANDOM_LIVES)


def by_scenario(name: str, rule: str, plant: Plant, scenario: Scenario) -> Mutation:
    """A bug that this scenario finds."""

    @wraps(scenario)
    def life(_seed: int) -> None:
        scenario()

    return Mutation(name=name, rule=rule, plant=plant, life=life, seeds=1)
