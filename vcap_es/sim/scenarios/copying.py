"""A copy that is longer than what the leader has at hand is made, however late anything comes."""

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.window import LogWindow
from vcap_es.components.primary_master.followers import Follower
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.scenarios.small_world import until
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.world import World

SECOND = 1_000_000
WINDOW = LogWindow(recent=8, message=4, under_way=16)
EVENTS = 100
READ_US = 400_000
"""Longer than a leader waits before it asks again."""

ASKS_MAX = 3
"""So often at most it asks between the third and the 13th second: the pauses double, up to 5 s."""


def a_fetch_that_a_broken_link_overtakes_is_not_waited_for() -> None:
    """Given slow reads, and links that break during each of them, the copy is made."""
    world = _world_that_copies()
    for _ in range(10):
        until(world, lambda: _followed(world).fetches)
        world.network.reset(*world.masters)
        world.run(SECOND // 2)
    world.run(60 * SECOND)
    _is_whole(world)


def a_follower_that_is_silent_for_long_is_not_sent_all_again() -> None:
    """Given one that stops in its tracks, it is only asked; then it goes on, and the copy does."""
    world = _world_that_copies()
    until(world, lambda: _followed(world).match > 0)
    world.masters[1].pause()
    world.run(3 * SECOND)  # all that may be under way is
    sent = _followed(world).sequence
    world.run(10 * SECOND)
    assert 0 < _followed(world).sequence - sent <= ASKS_MAX
    world.masters[1].go_on()
    world.run(60 * SECOND)
    _is_whole(world)


def _world_that_copies() -> World:
    """The leader has many events, and the other master begins with none, on slow disks."""
    world = World(1, masters=2, timings=Timings(), window=WINDOW)
    world.masters[1].kill()
    world.run(2 * SECOND)
    for number in range(EVENTS):
        world.define(f"c{number}", 10)
    world.faults = Faults(read_us_max=READ_US, is_ordered=True)
    world.masters[1].start()
    until(world, lambda: _known(world))
    return world


def _known(world: World) -> dict[str, Follower]:
    core = _leader(world).core
    assert core is not None
    assert core.leadership is not None
    return core.leadership.followers.known


def _followed(world: World) -> Follower:
    return _known(world)[world.masters[1].node]


def _leader(world: World) -> MasterProcess:
    assert world.leader is not None
    return world.leader


def _is_whole(world: World) -> None:
    leader, follower = world.masters
    assert len(follower.log.entries) == len(leader.log.entries), (
        f"{len(follower.log.entries)} of {len(leader.log.entries)} events were copied"
    )
