"""Whether followers get on: nobody who could copy waits for ever for what has passed already."""

from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.world import World

LOOK_US = 100_000
STALLED_US = 10_000_000
"""What a follower has grows in this time, while nothing is wrong between it and its leader.

It is many times what the slowest disk takes, and longer than the longest pause between two tries.
"""


def watch_copies(world: World) -> None:
    """Let it be checked from now on that what a linked follower has grows.

    It must while the leader has more, and both run, undisturbed, with each other.
    """
    copies = {each.name: _Copy() for each in world.masters}

    def look() -> None:
        for each in world.masters:
            has = _has_of_more(world, each)
            copies[each.name].see(each, has, world.now_us)
        world.later(LOOK_US, look)

    look()


class _Copy:
    """What one follower had, and since when it has had no more; microseconds of true time."""

    def __init__(self) -> None:
        self._has: tuple[int, ...] | None = None
        self._since = 0

    def see(self, master: MasterProcess, has: tuple[int, ...] | None, now: int) -> None:
        """It has so much now; None while it has all, or cannot be expected to get on."""
        if has is None or has != self._has:
            self._has, self._since = has, now
        elif now - self._since > STALLED_US:
            finding = f"{master.name} has had {has[-1]} for {STALLED_US // 1_000_000}s, and no more"
            raise Violation("C8", finding)


def _has_of_more(world: World, follower: MasterProcess) -> tuple[int, ...] | None:
    """The lives and the epoch in which it has what it has; None where it need not get on."""
    leader = world.leader
    if leader is None or leader is follower or not _could_copy(world, leader, follower):
        return None
    assert leader.core is not None
    assert leader.core.leadership is not None
    known = leader.core.leadership.followers.known.get(follower.node)
    if known is None or not known.is_linked or known.match >= leader.core.replica.head.position:
        return None
    return leader.lives, follower.lives, leader.core.epoch, known.match


def _could_copy(world: World, leader: MasterProcess, follower: MasterProcess) -> bool:
    """Whether both are well and can hear each other, and it follows this leader."""
    core = follower.core
    if core is None or leader.core is None:
        return False
    is_following = (core.secondary.leader, core.secondary.epoch) == (leader.node, leader.core.epoch)
    are_well = not any(
        each.is_paused or each.log.is_full or each.log.is_hung or each.machine.slowness > 1
        for each in (leader, follower)
    )
    return is_following and are_well and world.network.is_clear(leader.name, follower.name)
