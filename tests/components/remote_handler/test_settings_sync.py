"""Templates and named placements are the same at all data centres, and each cap has one home."""

import pytest

from vcap_es.components.decisions.centre import AddCentre, LoseCentre, RemoveCentre
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import DefineTemplate, RetireTemplate
from vcap_es.components.decisions.placement import RetirePlacement, SetPlacement
from vcap_es.components.messages.outcomes import Refused
from vcap_es.events.facts import Definition, MetaDefined, Stamp, TemplateLearned
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres
from vcap_es.sim.world.world import World

SECOND = 1_000_000
PER_USER = Definition(total=10, placement="even")


def settings(world: World) -> object:
    """What a data centre knows, by whom it was decided."""
    state = world.state
    stamps = {
        match: Stamp(stamp.count, stamp.origin or world.dc)
        for match, stamp in state.template_stamps.items()
    }
    return state.templates, stamps, state.placements


def living(
    *names: str, post: MailConditions | None = None, members: tuple[str, ...] | None = None
) -> SimulatedCentres:
    """Data centres that know each other, or those of `members`."""
    centres = SimulatedCentres(names, post=post, members=members)
    centres.run(SECOND // 10)
    return centres


def test_a_template_is_known_at_all_and_defines_at_one() -> None:
    """Both sides use a new id at once: it has one home, one total, and shares from the first."""
    centres = living("north", "south")
    centres["north"].command(DefineTemplate(match="user:*", definition=PER_USER))
    centres.run(2 * SECOND)
    assert centres["south"].state.templates == {"user:*": PER_USER}
    # When
    taken = dict.fromkeys(centres.worlds, 0)
    for _ in range(20):
        for name in taken:
            taken[name] += centres.consume(name, "user:7", tries=5)
    # Then
    assert sum(taken.values()) == 10
    assert taken["south"]
    defined = {name: len(world.facts(MetaDefined)) for name, world in centres.worlds.items()}
    assert defined == {"north": 1, "south": 0}
    centres.check()


def test_while_the_home_of_a_template_is_out_of_reach_nothing_is_known() -> None:
    """A new id is neither unknown nor defined a second time; it is served when the home is back."""
    centres = living("north", "south")
    centres["north"].command(DefineTemplate(match="user:*", definition=PER_USER))
    centres.run(2 * SECOND)
    centres.cut = {("north", "south"), ("south", "north")}
    south = centres["south"]
    answer = south.consume(south.servers[0], "user:7")
    assert isinstance(answer, Refused)
    assert answer.code == "unavailable"
    centres.run(5 * SECOND)
    centres.cut = set()
    centres.run(3 * SECOND)
    assert centres.consume("south", "user:7", tries=5) == 1


def test_the_newer_word_holds_everywhere() -> None:
    """Two data centres change the same while they are parted; what was retired stays retired."""
    centres = living("east", "north", "south")
    centres["north"].command(DefineTemplate(match="a*", definition=PER_USER))
    centres["north"].command(DefineTemplate(match="b*", definition=PER_USER))
    centres["north"].command(SetPlacement(placement="mine", terms="even"))
    centres.run(2 * SECOND)
    centres.cut = {("north", "south"), ("south", "north"), ("east", "south"), ("south", "east")}
    for name, total in (("north", 1), ("south", 2)):
        centres[name].command(DefineTemplate(match="a*", definition=Definition(total=total)))
        centres[name].command(SetPlacement(placement="mine", terms=f"spread {total}"))
    centres["east"].command(RetireTemplate(match="b*"))
    # When
    centres.cut = set()
    centres.run(12 * SECOND)
    # Then
    known = [settings(world) for world in centres.worlds.values()]
    assert known[0] == known[1] == known[2]
    state = centres["east"].state
    assert state.templates == {"a*": Definition(total=2)}
    assert state.template_stamps["a*"] == Stamp(2, "south")
    assert state.placements["mine"].terms == "spread 2"


def test_who_is_added_learns_all_of_it() -> None:
    """However many there are, and though a third of the letters is lost."""
    centres = living("north", "south", members=("north",))
    for number in range(120):
        command = DefineTemplate(match=f"t{number}:*", definition=PER_USER)
        centres["north"].command(command)
    centres.post = MailConditions(lost_percent=30, delay_us=(500, 200_000))
    centres["north"].order(AddCentre(centre="south"))
    centres.run(60 * SECOND)
    assert len(centres["south"].state.templates) == 120


def test_a_template_is_moved_by_defining_it_elsewhere() -> None:
    """Who has defined caps by templates is not removed before that."""
    centres = living("north", "south")
    template = DefineTemplate(match="user:*", definition=PER_USER)
    centres["north"].command(template)
    centres.run(2 * SECOND)
    denied = centres["south"].command(RemoveCentre(centre="north"))
    assert isinstance(denied, Denied)
    assert "user:*" in denied.detail
    centres["south"].command(template)
    centres.run(2 * SECOND)
    assert centres["north"].state.template_stamps["user:*"] == Stamp(2, "south")
    assert not isinstance(centres["south"].command(RemoveCentre(centre="north")), Denied)


def test_the_heir_of_a_lost_one_defines_by_its_templates() -> None:
    """New ids go on to be served."""
    centres = living("north", "south")
    centres["north"].command(DefineTemplate(match="user:*", definition=PER_USER))
    centres.run(2 * SECOND)
    centres["north"].kill_master()
    for operator in ("ann", "bob"):
        centres["south"].order(LoseCentre(centre="north", heir="south"), actor=operator)
    centres.run(SECOND)
    assert centres.consume("south", "user:7", tries=5) == 1


def test_who_drains_becomes_no_home() -> None:
    """Neither of a template nor of a cap: it would never be out."""
    centres = living("north", "south")
    centres.define("north", "shared", 10, placement="even")
    centres.run(SECOND)
    centres["north"].order(RemoveCentre(centre="south"))
    centres.run(SECOND)
    south = centres["south"]
    for denied in (
        south.command(DefineTemplate(match="*", definition=PER_USER)),
        south.define("c", 1),
    ):
        assert isinstance(denied, Denied)
        assert denied.code == "drains"


def test_a_cap_that_is_defined_by_hand_is_not_defined_again() -> None:
    """An old letter asks the template's home for it, when an operator has helped himself."""
    centres = living("north", "south")
    centres["north"].command(DefineTemplate(match="user:*", definition=PER_USER))
    centres.run(2 * SECOND)
    centres.post = MailConditions(delay_us=(10 * SECOND, 10 * SECOND))
    south = centres["south"]
    south.consume(south.servers[0], "user:7")
    south.define("user:7", 3)
    centres.run(9 * SECOND)
    centres.post = MailConditions()
    centres.run(10 * SECOND)
    assert centres["north"].state.metas["user:7"].home == "south"


def test_a_stamp_that_was_given_twice_ends_in_one_word() -> None:
    """A log that lost events may decide something else under the same stamp."""
    centres = living("north", "south")
    for name, total in (("north", 5), ("south", 6)):
        fact = TemplateLearned(
            match="a*", definition=Definition(total=total), stamp=Stamp(3, "elsewhere")
        )
        master = centres[name].master
        assert master is not None
        master._record(fact)
    centres.run(12 * SECOND)
    totals = {world.state.templates["a*"].total for world in centres.worlds.values()}
    assert len(totals) == 1


def test_a_named_placement_changes_the_next_intervals_of_all_its_caps() -> None:
    """What is open keeps its shares."""
    centres = living("north", "south")
    centres["south"].command(SetPlacement(placement="mine", terms="even"))
    centres.run(2 * SECOND)
    centres.define("north", "c", 80, placement="mine", interval="minute")
    centres.run(SECOND)
    centres["south"].command(SetPlacement(placement="mine", terms="weighted north=1 south=3"))
    centres.run(3 * SECOND)
    for number, share in ((0, 40), (1, 40)):
        assert centres["south"].pool("c", number).available == share
    centres.run(60 * SECOND)
    assert centres["south"].pool("c", 2).available == 60


@pytest.mark.parametrize("is_template", [True, False])
def test_a_placement_that_nobody_defined_is_refused(*, is_template: bool) -> None:
    """By its name, before anything is recorded; and one that a cap has is not retired."""
    centres = living("north", "south")
    north, definition = centres["north"], Definition(total=1, placement="mine")
    if is_template:
        denied = north.command(DefineTemplate(match="*", definition=definition))
    else:
        denied = north.define("c", 1, placement="mine")
    assert isinstance(denied, Denied)
    assert denied.code == "unknown_placement"
    north.command(SetPlacement(placement="mine", terms="even"))
    if is_template:
        north.command(DefineTemplate(match="*", definition=definition))
    else:
        north.define("c", 1, placement="mine")
    denied = north.command(RetirePlacement(placement="mine"))
    assert isinstance(denied, Denied)
    assert denied.code == "placement_in_use"
