"""The mutation gate of the slice protocol: whoever breaks a rule is found, and nobody else."""

from contextlib import nullcontext

import pytest

from vcap_es.sim.mutations import Mutation, hunt
from vcap_es.sim.mutations.gate import is_sound, pass_gate
from vcap_es.sim.mutations.slices import SLICES


@pytest.mark.parametrize("mutation", SLICES, ids=lambda each: each.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    """Within its budget some life fails, which ends well without the bug."""
    found = hunt(mutation)
    assert found.seed is not None, f"{mutation.name} survived: {mutation.rule}"
    assert is_sound(mutation, found.seed)


def test_every_planted_bug_has_a_name_of_its_own() -> None:
    """A report of the gate is read by names."""
    names = [each.name for each in SLICES]
    assert sorted(set(names)) == sorted(names)


def test_what_is_no_bug_does_not_pass_the_gate() -> None:
    """The gate reports what no life finds, and what is found by a life that fails anyway."""

    def ends_well(_seed: int) -> None:
        pass

    def fails(_seed: int) -> None:
        raise AssertionError("always")

    bugs = [
        Mutation(name=name, rule="none", plant=nullcontext, life=life, seeds=2)
        for name, life in (("harmless", ends_well), ("blamed", fails))
    ]
    said: list[str] = []
    assert pass_gate(bugs, said.append) == ["harmless", "blamed"]
    assert [each for each in said if "SURVIVED" in each] == said[::2]
