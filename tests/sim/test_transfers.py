"""Lives of several data centres fail where a rule between them is broken."""

import pytest

from vcap_es.sim.mutations import Mutation, hunt
from vcap_es.sim.mutations.transfers import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_planted_bug_between_data_centres_is_found(mutation: Mutation) -> None:
    """Some life does not end well by it."""
    found = hunt(mutation)
    assert found.seed is not None, f"{mutation.name} survived: {mutation.rule}"
