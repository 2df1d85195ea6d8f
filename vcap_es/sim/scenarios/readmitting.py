"""A data centre is restored, and readmitted: nothing is served twice, and all books agree."""

from vcap_es.components.decisions.restore import AcceptLoss
from vcap_es.events.chain import Stored
from vcap_es.sim.world.restored_centres import RestoredCentres, must_agree
from vcap_es.sim.world.world import World

SECOND, MINUTE = 1_000_000, 60_000_000
TOTAL = 100
NORTH, SOUTH, EAST = "north", "south", "east"


def _begun(*names: str, interval: str = "day", servers: int = 1) -> RestoredCentres:
    """Data centres that share a cap of north."""
    centres = RestoredCentres(names or (NORTH, SOUTH), servers=servers)
    centres.define(NORTH, "c", TOTAL, placement="even", interval=interval)
    centres.run(2 * SECOND)
    return centres


def _take(centres: RestoredCentres, at: str, units: int) -> None:
    taken = sum(centres.consume(at, "c", tries=40) for _ in range(units))
    assert taken == units, f"{taken} of {units} were taken"


def _restored(centres: RestoredCentres, backup: list[Stored], name: str = NORTH) -> World:
    old = centres[name]
    centres.run(SECOND)
    old.kill_master()
    for each in old.masters:
        each.lose_disk()
    new = centres.restore(name, backup)
    centres.run(3 * SECOND)
    return new


def _is_exact(centres: RestoredCentres) -> None:
    """Whatever anybody may have still, is had; nothing is served twice."""
    for world in centres.worlds.values():
        world.take_all("c")
    centres.run(10 * SECOND)
    must_agree(centres, ["c"])
    centres.check()


def what_others_received_is_known_again() -> None:
    """What north had sent after its backup is with south, and not withheld twice."""
    centres = _begun()
    backup = centres.backup(NORTH)
    _take(centres, SOUTH, 80)
    new = _restored(centres, backup)
    assert new.pool("c").withheld == TOTAL // 2
    centres.readmit_all(NORTH)
    centres.run(5 * SECOND)
    sent = new.pool("c").sent_to(SOUTH)
    assert sent >= 80, f"{sent} were sent"
    assert new.pool("c").available <= 0
    _is_exact(centres)


def what_others_had_sent_is_withheld() -> None:
    """North had what south sent it after the backup, and served it: it is not free."""
    centres = _begun()
    backup = centres.backup(NORTH)
    _take(centres, NORTH, 90)
    new = _restored(centres, backup)
    centres.readmit_all(NORTH)
    centres.run(5 * SECOND)
    assert new.pool("c").received.get(SOUTH, 0) >= 40
    assert new.pool("c").available <= 0
    _is_exact(centres)


def a_share_that_was_served_is_withheld() -> None:
    """South is restored, and gets nothing again that it was sent before by its old name."""
    centres = _begun()
    backup = centres.backup(SOUTH)
    _take(centres, SOUTH, 70)
    new = _restored(centres, backup, SOUTH)
    centres.readmit_all(SOUTH)
    centres.run(5 * SECOND)
    assert new.pool("c").available <= 0
    _is_exact(centres)


def an_interval_of_the_generation_before_has_one_total() -> None:
    """Of a period that north had opened after its backup, south serves the share that it has."""
    centres = _begun(interval="minute")
    backup = centres.backup(NORTH)
    centres.run(MINUTE)
    _take(centres, SOUTH, 20)
    new = _restored(centres, backup)
    centres.readmit_all(NORTH)
    centres.run(8 * SECOND)
    numbers = [each.number for each in new.state.metas["c"].intervals if not each.pool.ended]
    periods = [each.start for each in new.state.metas["c"].intervals if not each.pool.ended]
    assert len(set(periods)) == len(periods), f"a period is open twice: {numbers}"
    _is_exact(centres)


def a_change_that_the_backup_lacks_is_not_lost() -> None:
    """South knows the total that north was given since: north confirms that one."""
    centres = _begun()
    backup = centres.backup(NORTH)
    centres.define(NORTH, "c", 60, placement="even", interval="day")
    centres.run(2 * SECOND)
    new = _restored(centres, backup)
    centres.readmit_all(NORTH)
    centres.run(5 * SECOND)
    metas = [world.state.metas["c"] for world in centres.worlds.values()]
    assert [each.definition.total for each in metas] == [60, 60]
    assert len({each.version for each in metas}) == 1
    assert not new.state.is_unconfirmed(new.state.metas["c"])


def one_side_alone_lets_nobody_in() -> None:
    """Until both operators have said so, neither listens to the other."""
    centres = _begun()
    backup = centres.backup(NORTH)
    _restored(centres, backup)
    centres.readmit(SOUTH, NORTH)
    centres.run(5 * SECOND)
    for name, master in ((each, centres[each].master) for each in (NORTH, SOUTH)):
        assert master is not None
        if name == NORTH:
            assert not master.remote.others
    assert SOUTH not in centres[NORTH].state.clusters


def what_is_released_nobody_else_has() -> None:
    """With all servers and data centres told, two operators release what nobody can have."""
    centres = _begun()
    _take(centres, NORTH, 5)  # so the backup knows the server
    centres.run(2 * SECOND)
    backup = centres.backup(NORTH)
    _take(centres, NORTH, 10)
    _take(centres, SOUTH, 10)
    server = centres[NORTH].servers[0]
    new = _restored(centres, backup)
    centres.readmit_all(NORTH)
    centres.run(8 * SECOND)
    _accept(new)
    assert new.pool("c").withheld, "it is released though a data centre has told, and no server"
    centres.send_over(NORTH, server)
    for _ in range(50):
        if centres.admit(NORTH, server):
            break
        centres.run(SECOND // 10)
    centres.run(8 * SECOND)
    _accept(new)
    assert not new.pool("c").withheld
    _is_exact(centres)
    served = sum(each.units.get(("c", 0), 0) for each in centres.served)
    assert served == TOTAL, f"{served} were served"


def nothing_is_released_before_all_have_told() -> None:
    """East is not readmitted: what it had from north is not known."""
    centres = _begun(NORTH, SOUTH, EAST)
    backup = centres.backup(NORTH)
    _take(centres, EAST, 60)
    new = _restored(centres, backup)
    centres.readmit(SOUTH, NORTH)
    centres.readmit(NORTH, SOUTH)
    centres.run(8 * SECOND)
    _accept(new)
    assert new.pool("c").withheld
    _is_exact_so_far(centres)


def _is_exact_so_far(centres: RestoredCentres) -> None:
    for world in centres.worlds.values():
        world.take_all("c")
    centres.check()


def _accept(world: World) -> None:
    for operator in ("ann", "bob"):
        world.order(AcceptLoss(if_told=True), operator)
    world.run(SECOND)
