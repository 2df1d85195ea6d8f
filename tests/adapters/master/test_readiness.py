"""What a master says of who is in sync is what an operator may rely on who ends a node."""

from vcap_es.adapters.master.readiness import checks_of
from vcap_es.components.consensus.timings import Timings
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.world import World

SECOND = 1_000_000
MS = 1_000


def said(world: World, master: MasterProcess) -> str:
    """What `/readyz` of a master says of its primacy."""
    assert master.core is not None
    checks = checks_of(
        master.core, has_failed=False, is_full=False, clock_is_sound=True, now=world.now_us
    )
    return next(word for name, _, word in checks if name == "primacy")


def test_a_copy_without_a_vote_is_not_counted_as_in_sync() -> None:
    """Two masters and no witness: the copy has all, and nobody may lead without the first."""
    # Given
    world = World(0, masters=2, timings=Timings())
    # When
    world.run(5 * SECOND)
    # Then
    first, copy = world.masters
    assert copy.core is not None
    assert f"in sync: 1 of 2; {copy.core.node} has everything but no vote yet" in said(world, first)
    assert "has everything but no vote yet" in said(world, copy)


def test_the_other_one_goes_on_as_soon_as_both_are_said_to_be_in_sync() -> None:
    """In the first moment in which it says 2 of 2, the leader may be ended."""
    # Given a second master that joins, and a witness
    world = World(1, masters=2, witnesses=1, timings=Timings())
    first, copy = world.masters
    for _ in range(5000):
        world.run(MS)
        if "in sync: 2 of 2" in said(world, first):
            break
    else:
        raise AssertionError(said(world, first))
    # When
    first.kill()
    world.run(10 * SECOND)
    # Then
    assert copy.core is not None
    assert copy.core.role == "leading"
    assert "leads epoch" in said(world, copy)
