"""Data centres come to know each other by their logs; who comes with another one is a namesake."""

import pytest

from vcap_es.components.decisions.centre import AddCentre, LoseCentre
from vcap_es.sim.scenarios.namesakes import begin_anew, begin_both_anew, begin_both_anew_at_once
from vcap_es.sim.world.centres import SimulatedCentres

SECOND = 1_000_000


def namesakes(centres: SimulatedCentres, name: str) -> list[str]:
    """Those of whom a data centre tells that they are not who they say."""
    master = centres[name].master
    assert master is not None
    return sorted(master.remote.namesakes())


def others(centres: SimulatedCentres, name: str) -> list[str]:
    """Those with whom a data centre shares."""
    master = centres[name].master
    assert master is not None
    return list(master.remote.others)


def rename(centres: SimulatedCentres, old: str, new: str) -> None:
    """A data centre is started with what is on its disks, under another name."""
    world = centres.worlds.pop(old)
    world.kill_master()
    world.dc = new
    centres.worlds[new] = world
    world.forward = centres.forwarding(new)
    world.start_master()
    centres.run(2 * SECOND)


def lose(centres: SimulatedCentres, at: str, lost: str, heir: str = "") -> None:
    """Two operators say so."""
    for operator in ("ann", "bob"):
        centres[at].order(LoseCentre(centre=lost, heir=heir), actor=operator)


def test_who_begins_anew_with_empty_disks_is_a_namesake() -> None:
    """It has forgotten what it consumed: under its old name it gets nothing, and opens nothing."""
    # Given two data centres, of which one has consumed 70 of a cap of the other, and of its own
    centres = SimulatedCentres(("north", "south"))
    centres.define("north", "c", 100, placement="even")
    centres.define("south", "own", 100, placement="even")
    centres.run(SECOND)
    for cap in ("c", "own"):
        assert sum(centres.consume("south", cap, tries=40) for _ in range(70)) == 70
    # When it loses everything, and is started anew
    centres.begin_anew("south")
    centres.run(10 * SECOND)
    # Then both tell that it is not who it was
    assert namesakes(centres, "north") == ["south"]
    assert namesakes(centres, "south") == ["north"]
    # And it has no part in anything, even if an operator insists
    centres["south"].order(AddCentre(centre="north"))
    centres.run(10 * SECOND)
    assert centres.consume("south", "c", 30, tries=5) == 0
    assert not centres["south"].state.metas
    # And who defines the cap there again has one that is nobody else's
    centres.define("south", "own", 100, placement="even")
    centres.run(10 * SECOND)
    for cap in ("c", "own"):
        left = centres["north"].pool(cap).available
        assert left > 0
        assert sum(centres.consume("north", cap, tries=40) for _ in range(left + 1)) == left


def test_under_another_name_it_takes_part_again() -> None:
    """The lost one has an heir, and who was started in its place is somebody new."""
    # Given one that was started anew under its old name
    centres = SimulatedCentres(("north", "south"))
    centres.define("south", "c", 100, placement="even")
    centres.run(SECOND)
    centres.begin_anew("south")
    centres.run(5 * SECOND)
    # When it is declared lost, and gets another name
    lose(centres, "north", "south", heir="north")
    rename(centres, "south", "west")
    centres["north"].order(AddCentre(centre="west"))
    centres.run(5 * SECOND)
    # Then all is shared with it
    assert (others(centres, "north"), others(centres, "west")) == (["west"], ["north"])
    centres.define("north", "new", 100, placement="even")
    centres.run(SECOND)
    assert centres["west"].pool("new").available == 50


def test_a_name_may_be_changed_before_others_know_it() -> None:
    """Who ran alone under some name shares under another one."""
    centres = SimulatedCentres(("north", "alone"), members=())
    centres.run(SECOND)
    rename(centres, "alone", "south")
    centres["north"].order(AddCentre(centre="south"))
    centres.run(5 * SECOND)
    for home, cap in (("north", "c"), ("south", "d")):
        centres.define(home, cap, 100, placement="even")
        centres.run(SECOND)
        assert [world.pool(cap).available for world in centres.worlds.values()] == [50, 50]


def test_who_has_a_clock_that_is_ahead_is_met_all_the_same() -> None:
    """It cannot add anybody, but nothing that it sends is lost."""
    centres = SimulatedCentres(("north", "south"), members=())
    centres["south"].began_us += 8 * SECOND
    centres["north"].order(AddCentre(centre="south"))
    centres.run(5 * SECOND)
    centres.define("south", "c", 100, placement="even")
    centres.run(5 * SECOND)
    assert [world.pool("c").available for world in centres.worlds.values()] == [50, 50]


def test_who_knows_another_one_by_another_log_goes_on_with_the_rest() -> None:
    """Nobody can tell which of two logs lives: the two share on without it, and agree who is in."""
    # Given that one of three is unknown to the last, and begins anew while nobody hears of it
    centres = SimulatedCentres(("first", "gone", "last"), members=("first", "last"))
    alone = {("first", "last"), ("last", "first"), ("last", "gone"), ("gone", "last")}
    centres.cut = set(alone)
    centres["first"].order(AddCentre(centre="gone"))
    centres.run(3 * SECOND)
    centres.define("first", "c", 100, placement="even")
    centres.run(SECOND)
    served = sum(centres.consume("gone", "c", tries=10) for _ in range(50))
    assert served > 0
    centres.begin_anew("gone")
    # When the last one adds it under its name, and then hears the first one again
    centres.cut = {("first", "last"), ("last", "first")}
    centres["last"].order(AddCentre(centre="gone"))
    centres.run(3 * SECOND)
    assert others(centres, "last") == ["first", "gone"]
    centres.cut = set()
    centres.run(10 * SECOND)
    # Then neither shares with what has that name, and both say so
    assert (others(centres, "first"), others(centres, "last")) == (["last"], ["first"])
    assert "gone" in namesakes(centres, "first")
    assert "gone" in namesakes(centres, "last")
    # Even if who leads there has heard of nobody yet
    centres.cut = {("last", "first")}
    centres["first"].kill_master()
    centres["first"].start_master()
    centres.run(3 * SECOND)
    assert others(centres, "first") == ["last"]
    centres.cut = set()
    # And what is decided at one is known at the other
    centres["first"].order(AddCentre(centre="last", weight=7))
    centres.run(10 * SECOND)
    assert centres["last"].state.centres["last"].weight == 7
    for name in ("first", "gone", "last"):
        served += sum(centres.consume(name, "c", tries=3) for _ in range(60))
    assert served <= 100
    centres.check()


@pytest.mark.parametrize("seed", [0, 11])
def test_late_letters_neither_count_nor_keep_others_apart(seed: int) -> None:
    """Letters of, and for, those that are gone come late to others of their names."""
    begin_anew(seed)
    begin_both_anew(seed)
    begin_both_anew_at_once(seed)
