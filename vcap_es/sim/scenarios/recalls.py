"""Who gets what is there when there is not enough for all, and what is asked back from whom."""

from vcap_es.components.messages.client import Consume, ConsumeAll, Refund
from vcap_es.components.messages.outcomes import Consumed, Refunded, Refused
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import idle, refused, submit, taken, until, world_of
from vcap_es.sim.world.world import World


def whoever_comes_first_is_served_first() -> None:
    """What comes back for the first in the queue is not given to one who came later."""
    # Given two servers with five units each, one of them far away
    world = world_of(10, servers=4)
    first, second, near, far = world.servers
    idle(world, near, 5)
    idle(world, far, 5)
    world.network.clog("s3", "m0", 10)
    # When one asks for eight, and then another one for three
    early = submit(first, 8)
    world.run(1000)
    late = submit(second, 3)
    # Then the first is served, though the other could have been sooner
    assert isinstance(world.answer(first, early), Consumed)
    assert isinstance(world.answer(second, late), Refused)


def whoever_asks_first_at_a_server_is_served_first() -> None:
    """A small consume does not overtake a large one that waits at the same server."""
    world = world_of(10)
    one, other = world.servers
    idle(world, one, 5)
    idle(world, other, 5)
    large, small = submit(one, 10), submit(one, 1)
    assert isinstance(world.answer(one, large), Consumed)
    assert isinstance(world.answer(one, small), Refused)


def who_cannot_be_served_whole_gets_nothing() -> None:
    """A part of a need would lie where it serves nobody, and be lost with its server."""
    # Given eight of ten units at a server that does not answer
    world = world_of(10, servers=3)
    hungry, other, silent = world.servers
    idle(world, silent, 8)
    silent.pause()
    # When a server asks for more than there is, in vain, and dies
    assert refused(world, hungry, 5) == "unavailable"
    hungry.kill()
    world.run(1000)
    # Then the two that were there are there for another one
    taken(world, other, 2)


def units_are_not_recalled_from_under_a_consume_that_they_serve() -> None:
    """Of two who need the same units one is served; they do not take them from each other."""
    for slow_us in (1000, 3000, 10_000):
        world = world_of(5, faults=Faults(delay_us_max=200, fsync_us_max=slow_us))
        tokens = [(each, submit(each, 5)) for each in world.servers]
        answers = [world.answer(each, token) for each, token in tokens]
        codes = {each.code for each in answers if isinstance(each, Refused)}
        assert codes == {"capped"}, codes
        assert sum(isinstance(each, Consumed) for each in answers) == 1


def a_recall_is_answered_by_the_record_with_its_return() -> None:
    """Nobody is capped while the units that were recalled are on their way to the disk."""
    # Given a record on its way when the recall comes, so that the return must wait for the next
    world = world_of(5)
    one, other = world.servers
    idle(world, one, 5)
    world.faults = Faults(fsync_us_max=10_000)
    found = one.core.holdings.slices["c", 0]
    one.core.holdings.journal_writer.keep(found)
    one.flush()
    # Then all of them are found
    taken(world, other, 5)


def nobody_is_capped_over_units_that_are_set_aside_elsewhere() -> None:
    """Units that an all-or-none consume lets go at another server are found."""
    # Given a server that sets units aside until it has one more of another cap, which cannot be had
    world = world_of(2, servers=3)
    world.define("z", 1)
    one, other, silent = world.servers
    idle(world, silent, 1, "z")
    silent.pause()
    items = [Consume(cap="c", minimum=2, maximum=2), Consume(cap="z", minimum=1, maximum=1)]
    both = one.submit(ConsumeAll(items=items))
    until(world, lambda: any(each.pinned for each in one.core.holdings.slices.values()))
    world.run(10_000)
    # When another server needs them
    token = submit(other, 2)
    # Then it waits until they are free
    assert isinstance(world.answer(one, both), Refused)
    assert isinstance(world.answer(other, token), Consumed)


def what_comes_free_during_a_recall_is_asked_for_too() -> None:
    """A verdict is not given for a pool that has changed since the others were asked."""
    # Given four units idle at a server that answers slowly, and four that are spent
    world = world_of(8, servers=3)
    hungry, slow, refunding = world.servers
    idle(world, slow, 4)
    spent = taken(world, refunding, 4)
    world.network.clog("s1", "m0", 20)
    # When the four come back after their server has answered, and somebody asks after that
    hopeless = submit(hungry, 9)
    until(world, lambda: refunding.core.holdings.slices["c", 0].answered != (0, 0))
    world.run(1000)
    assert isinstance(world.ask(refunding, Refund(id=spent.id)), Refunded)
    token = submit(hungry, 5)
    # Then they are found
    assert isinstance(world.answer(hungry, hopeless), Refused)
    assert isinstance(world.answer(hungry, token), Consumed)


def what_was_given_back_is_not_forgotten() -> None:
    """A verdict of before says nothing of the units that this server has returned since."""
    # Given a server that has everything, and was told that elsewhere is nothing
    world = world_of(5)
    one, other = world.servers
    idle(world, one, 5)
    assert refused(world, one, 6) == "capped"
    # When units are recalled for another server, which dies before it gets them
    found = one.core.holdings.slices["c", 0]
    world.faults = Faults(fsync_us_max=20_000)
    submit(other, 3)
    until(world, lambda: found.returned)
    other.kill()
    world.faults = Faults()
    until(world, lambda: _available(world) == 3)
    # Then all five can be had again
    taken(world, one, 5)


def _available(world: World) -> int:
    return world.pool("c").available
