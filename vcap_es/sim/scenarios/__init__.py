"""Directed lives: each shows one rule of a protocol by what follows where it is broken.

A scenario is a function without arguments that raises `AssertionError` where its rule is broken.
The tests run them all, and each planted bug that no random life finds is found by one of them.
"""

from collections.abc import Callable
from inspect import isfunction, signature
from types import ModuleType

Scenario = Callable[[], None]


def scenarios_of(module: ModuleType) -> list[Scenario]:
    """The scenarios that a module defines, in their order."""
    return [
        each
        for each in vars(module).values()
        if isfunction(each)
        and each.__module__ == module.__name__
        and not each.__name__.startswith("_")
        and not signature(each).parameters
    ]
