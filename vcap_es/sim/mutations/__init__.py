"""Planted bugs: each breaks one rule of a protocol, and some simulated life must then fail.

A checker that no planted bug ever alarms counts as absent, and so does a rule that can be left
out without a life noticing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from msgspec import Struct

Plant = Callable[[], AbstractContextManager[object]]
"""Breaks something for as long as its context is open."""


class Mutation(Struct, frozen=True, kw_only=True):
    """A bug on purpose.

    `rule` says in a few words which rule it breaks; `plant` breaks it for as long as its context
    is open. `life` is then lived with up to `seeds` seeds, from `first` on, until one of them
    raises `AssertionError`. Anything else that a life raises is an error of the mutation itself.
    """

    name: str
    rule: str
    plant: Plant
    life: Callable[[int], object]
    seeds: int
    first: int = 0


class Hunt(Struct, frozen=True, kw_only=True):
    """What came of hunting one mutation: the seed that killed it, None where it survived."""

    mutation: Mutation
    seed: int | None
    finding: str


def hunt(mutation: Mutation) -> Hunt:
    """Plant the bug, and live one seed after the other until a life fails or the budget is over."""
    with mutation.plant():
        for seed in range(mutation.first, mutation.first + mutation.seeds):
            try:
                mutation.life(seed)
            except AssertionError as failure:
                finding = str(failure).partition("\n")[0]
                return Hunt(mutation=mutation, seed=seed, finding=finding)
    return Hunt(mutation=mutation, seed=None, finding="")


@contextmanager
def instead(owner: object, name: str, wrong: object) -> Iterator[None]:
    """Let `owner.name` be `wrong` for a while; `owner` is a class or a module."""
    right = vars(owner)[name]
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


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
