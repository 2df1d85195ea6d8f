"""Several data centres share a cap: exact in the sum, whatever becomes of what they say."""

from collections.abc import Sequence

import pytest

from tests.support.lives import recorded
from vcap_es.components.decisions.centre import AddCentre, LoseCentre, RemoveCentre
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import Define, MoveHome, Retire
from vcap_es.components.local_handler.demands import Left
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.components.primary_master.approvals import Approved
from vcap_es.components.primary_master.outputs import Done
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import (
    Definition,
    IntervalClosed,
    IntervalOpened,
    MetaChanged,
    PhaseChanged,
    TransferSent,
    Version,
)
from vcap_es.events.sealing import recorded as sealed
from vcap_es.projections.amounts import Amounts
from vcap_es.projections.audit import Audit
from vcap_es.projections.statement import statement
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres
from vcap_es.sim.world.world import World

SECOND = 1_000_000


def living(
    *names: str,
    post: MailConditions | None = None,
    seed: int = 0,
    members: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> SimulatedCentres:
    """Data centres with a master and a server each, watched at every step; `members` take part."""
    centres = SimulatedCentres(names, post=post, seed=seed, members=members, limits=limits)
    centres.run(100_000)
    return centres


def available(centres: SimulatedCentres, cap: str, number: int = 0) -> dict[str, int]:
    """What the pool of each data centre has."""
    return {name: world.pool(cap, number).available for name, world in centres.worlds.items()}


def current(world: World, cap: str = "c") -> int:
    """The number of the interval that is open now."""
    interval = world.state.metas[cap].at(world.now_us)
    assert interval is not None
    return interval.number


@pytest.mark.parametrize(
    ("names", "total", "shares"),
    [
        (("north", "south"), 1000, {"north": 500, "south": 500}),
        (("east", "north", "south"), 100, {"east": 34, "north": 33, "south": 33}),
    ],
)
def test_shares_are_there_ahead(names: tuple[str, ...], total: int, shares: dict[str, int]) -> None:
    """A day cap is split to the last unit; today's interval and tomorrow's exist everywhere."""
    centres = living(*names)
    centres.define(names[-1], "c", total, placement="even")
    centres.run(SECOND)
    for number in (0, 1):
        assert available(centres, "c", number) == shares
        assert centres.in_transit("c", number) == 0


def test_one_data_centre_may_have_it_all() -> None:
    """All traffic at one side, which is not the home: consumed is the total, then it is capped."""
    centres = living("north", "south")
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND)
    taken = sum(centres.consume("south", "c", tries=40) for _ in range(100))
    assert taken == 100
    # Then the next one is refused, anywhere
    for name in ("south", "north"):
        world = centres[name]
        answer = world.consume(world.servers[0], "c")
        for _ in range(40):
            if isinstance(answer, Refused) and answer.code == "capped":
                break
            centres.run(100_000)
            answer = world.consume(world.servers[0], "c")
        assert isinstance(answer, Refused)
        assert answer.code == "capped"
    centres.run(SECOND)
    assert centres.in_transit("c", 0) == 0
    centres.check()


def test_every_log_alone_explains_itself() -> None:
    """The audit of each data centre's log finds nothing; all logs together have each unit once."""
    centres = living("east", "north", "south")
    centres.define("east", "c", 90, placement="even")
    centres.run(SECOND)
    assert sum(centres.consume("south", "c", tries=40) for _ in range(60)) == 60
    centres.run(2 * SECOND)
    whole = Amounts()
    for world in centres.worlds.values():
        audit = Audit()
        for event in recorded(world.log):
            audit.feed(event)
        assert audit.findings == []
        lines = [line for line in statement(recorded(world.log), "c") if line.number == 0]
        assert lines[-1].available == world.pool("c").available
        whole += audit.totals().intervals["c", 0]
    assert (whole.total, whole.spent, whole.received) == (90, 60, whole.sent)
    assert whole.difference == 0


def test_a_change_is_carried_to_the_home() -> None:
    """Any data centre takes it; it is decided at home, and known where it was asked for."""
    centres = living("north", "south")
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND)
    done = centres.define("south", "c", 300, placement="even")
    assert isinstance(done, Done)
    known = [world.state.metas["c"] for world in centres.worlds.values()]
    assert {(meta.version, meta.definition.total) for meta in known} == {(Version(0, 2), 300)}
    events = map(sealed, centres["north"].oracle.entries)
    assert [each.actor for each in events if isinstance(each.fact, MetaChanged)] == [
        "operator@south"
    ]


def test_a_home_out_of_reach_is_told_by_name() -> None:
    """Nothing is decided elsewhere; what comes of a lost answer is known to nobody, and said so."""
    centres = living("north", "south")
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND)
    centres.cut = {("north", "south")}
    token = centres["south"].order(Define(cap="c", definition=Definition(total=7)))
    centres.run(6 * SECOND)
    denied = centres["south"].command_answers[token]
    assert isinstance(denied, Denied)
    assert (denied.code, "north" in denied.detail) == ("home_unreachable", True)
    # And the command that was carried, and done, is not undone
    centres.cut = set()
    centres.run(3 * SECOND)
    assert centres["south"].state.metas["c"].definition.total == 7


def test_a_moved_home_opens_what_was_not_open() -> None:
    """No period is minted twice, and the new home's changes hold for intervals of the old one."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    centres["north"].order(MoveHome(cap="c", to="south"))
    centres.run(SECOND)
    assert {world.state.metas["c"].home for world in centres.worlds.values()} == {"", "south"}
    assert centres["south"].state.metas["c"].home == ""
    # When the new home raises the total
    centres.define("east", "c", 120, placement="even", interval="minute")
    centres.run(2 * SECOND)
    # Then the old one does so with what it has opened
    minted = centres["north"].state.metas["c"].intervals
    assert [each.pool.minted for each in minted] == [120, 120]
    assert sum(centres.consume("south", "c", tries=40) for _ in range(121)) == 120
    # And the new one opens the next, of which each has its share
    centres.run(60 * SECOND)
    opened = centres["south"].facts(IntervalOpened)
    assert [(each.number, each.start) for each in opened] == [(2, minted[1].end)]
    assert available(centres, "c", 2) == {"east": 40, "north": 40, "south": 40}
    centres.check()


def test_one_that_is_added_has_shares_from_the_next_interval() -> None:
    """It learns of every definition, and may wish at once."""
    centres = living("east", "north", "south", members=("north", "south"))
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    assert "c" not in centres["east"].state.metas
    centres["south"].order(AddCentre(centre="east"))
    centres.run(3 * SECOND)
    assert available(centres, "c") == {"east": 0, "north": 45, "south": 45}
    assert centres.consume("east", "c", 20, tries=20) == 20
    centres.run(120 * SECOND)
    assert available(centres, "c", current(centres["north"])) == {
        "east": 30,
        "north": 30,
        "south": 30,
    }
    centres.check()


def test_one_that_was_alone_shares_what_it_has_open() -> None:
    """A cap that is placed evenly can be had at a data centre that comes later."""
    centres = living("north", "south", members=())
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    centres["north"].order(AddCentre(centre="south"))
    centres.run(3 * SECOND)
    assert centres.consume("south", "c", 90, tries=40) == 90
    centres.check()


def test_one_that_is_removed_drains_to_zero() -> None:
    """What it had can be had elsewhere; it is out when every book that it is in is closed."""
    centres = living("east", "north", "south", limits=Limits(refund_window_ms=300))
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    assert centres.consume("east", "c", 5, tries=10) == 5
    # When
    centres["north"].order(RemoveCentre(centre="east"))
    centres.run(5 * SECOND)
    # Then it has nothing, and grants nothing
    assert available(centres, "c")["east"] == 0
    assert centres["east"].pool("c").held == 0
    assert centres.consume("east", "c", tries=3) == 0
    assert sum(centres.consume("south", "c", tries=20) for _ in range(86)) == 85
    # And when its intervals are over, it is out, and the others know
    centres.run(240 * SECOND)
    memberships = {world.state.centres["east"].membership for world in centres.worlds.values()}
    assert memberships == {"out"}
    assert not centres["east"].state.metas["c"].intervals
    number = current(centres["north"])
    for name in ("north", "south"):
        assert centres[name].pool("c", number).available == 45
    centres.check()


def test_what_comes_late_to_one_that_drains_is_sent_on() -> None:
    """It was asked for and sent before, and lost on its way."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    # Given
    centres.cut = {("south", "east"), ("north", "east")}
    assert centres.consume("east", "c", 31) == 0
    centres.run(SECOND)
    late = centres.in_transit("c", 0)
    assert late
    # When it is removed, and then reached again
    centres["north"].order(RemoveCentre(centre="east"))
    centres.run(SECOND)
    centres.cut = set()
    centres.run(20 * SECOND)
    # Then it has nothing of what came, and the others have it all
    assert sum(centres["east"].pool("c").received.values()) == 30 + late
    assert available(centres, "c")["east"] == 0
    assert centres["east"].pool("c").held == 0
    assert sum(centres.consume("south", "c", tries=20) for _ in range(91)) == 90
    centres.check()


def test_a_home_is_not_removed() -> None:
    """Its caps are moved first."""
    centres = living("north", "south")
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    for at in ("north", "south"):
        denied = centres[at].command(RemoveCentre(centre="north"))
        assert isinstance(denied, Denied)
        assert denied.code == "is_home"


def test_one_is_lost_when_two_operators_say_so() -> None:
    """Nothing is reclaimed, it is not listened to, and the others close their books without it."""
    centres = living("east", "north", "south", limits=Limits(refund_window_ms=300))
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    lose = LoseCentre(centre="east")
    first = centres["north"].command(lose)
    assert isinstance(first, Approved)
    assert (first.approved_by, first.is_under_way) == (["operator"], False)
    assert isinstance(centres["north"].command(lose), Approved)  # the same person twice
    token = centres["north"].order(lose, actor="another")
    centres.run(SECOND)
    assert isinstance(centres["north"].command_answers[token], Done)
    # It is alive, and serves its own share; the others have theirs
    assert sum(centres.consume("east", "c", tries=2) for _ in range(31)) == 30
    assert sum(centres.consume("south", "c", tries=20) for _ in range(61)) == 60
    centres.run(120 * SECOND)
    assert [fact.number for fact in centres["north"].facts(IntervalClosed)][:1] == [0]
    denied = centres["south"].command(AddCentre(centre="east"))
    assert isinstance(denied, Denied)
    assert denied.code == "centre_lost"


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_post_does_the_sum_is_exact(seed: int) -> None:
    """A third is lost, a third comes twice, all in any order: only time is lost."""
    post = MailConditions(lost_percent=30, repeated_percent=30, delay_us=(500, 200_000))
    centres = living("east", "north", "south", post=post, seed=seed)
    centres.define("north", "c", 60, placement="even")
    centres.run(5 * SECOND)
    names = list(centres.worlds)
    taken = 0
    for turn in range(600):
        taken += centres.consume(names[turn % 3 if turn < 60 else 2], "c")
        centres.run(50_000)
        centres.check()
        if taken == 60:
            break
    assert taken == 60
    centres.post = MailConditions()
    centres.run(10 * SECOND)
    assert centres.in_transit("c", 0) == 0


def test_a_lower_total_is_paid_by_all() -> None:
    """2000 become 500, of which 900 were spent: the sum is over by 400, and nothing is granted."""
    centres = living("north", "south")
    centres.define("north", "c", 2000, placement="even")
    centres.run(SECOND)
    assert centres.consume("north", "c", 450, tries=20) == 450
    assert centres.consume("south", "c", 450, tries=20) == 450
    centres.define("north", "c", 500, placement="even")
    centres.run(10 * SECOND)
    assert sum(available(centres, "c").values()) == -400
    for name in ("north", "south"):
        world = centres[name]
        assert isinstance(world.consume(world.servers[0], "c"), Refused)
    # When it is raised again, only the rest may be had
    centres.define("north", "c", 1000, placement="even")
    centres.run(5 * SECOND)
    assert centres.consume("south", "c", 100, tries=40) == 100
    assert centres.consume("south", "c", 1, tries=5) == 0


def test_books_close_when_all_have_told_theirs() -> None:
    """A minute is over: what nobody spent expires where it is, and every data centre closes."""
    centres = SimulatedCentres(("north", "south"), limits=Limits(refund_window_ms=300))
    centres.run(100_000)
    centres.define("north", "c", 100, placement="even", interval="minute")
    centres.run(SECOND)
    assert centres.consume("south", "c", 60, tries=40) == 60
    # Given that the last transfer is lost on its way, until after the end
    centres.cut = {("north", "south"), ("south", "north")}
    centres.run(70 * SECOND)
    assert all(world.committed.state.interval("c", 0) for world in centres.worlds.values())
    # When they hear of each other again
    centres.cut = set()
    centres.run(20 * SECOND)
    # Then the books are closed everywhere, and nothing is missing
    closed = [world.facts(IntervalClosed) for world in centres.worlds.values()]
    assert [[(fact.number, fact.unreported) for fact in facts] for facts in closed] == [
        [(0, 0)],
        [(0, 0)],
    ]
    whole = Amounts()
    for world in centres.worlds.values():
        audit = Audit()
        for event in recorded(world.log):
            audit.feed(event)
        assert audit.findings == []
        whole += audit.totals().closed
    assert (whole.total, whole.spent, whole.expired) == (100, 60, 40)


def test_who_is_cut_off_at_the_boundary_has_its_share() -> None:
    """Without any link for a whole interval, a data centre still serves its share of it."""
    centres = SimulatedCentres(("north", "south"), limits=Limits(refund_window_ms=300))
    centres.run(100_000)
    centres.define("north", "c", 100, placement="even", interval="minute")
    centres.run(20 * SECOND)
    centres.cut = {("north", "south"), ("south", "north")}
    centres.run(45 * SECOND)
    assert sum(centres.consume("south", "c", tries=3) for _ in range(60)) == 50
    assert sum(centres.consume("north", "c", tries=3) for _ in range(60)) == 50
    centres.check()


def test_the_others_share_on_what_a_lost_home_has_minted() -> None:
    """One of them gathers in its place; what the lost one had is not to be had."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    centres.cut = {
        pair for other in ("east", "south") for pair in (("north", other), (other, "north"))
    }
    for operator in ("ann", "bob"):
        centres["east"].order(LoseCentre(centre="north"), actor=operator)
    centres.run(2 * SECOND)
    assert sum(centres.consume("south", "c", tries=40) for _ in range(61)) == 60
    centres.run(SECOND)
    assert available(centres, "c") == {"east": 0, "north": 30, "south": 0}
    centres.check()


def lost(centres: SimulatedCentres, centre: str, *, at: str, heir: str = "") -> None:
    """It is stopped, nobody reaches it any more, and two operators say so at another one."""
    centres[centre].kill_master()
    others = centres.worlds.keys() - {centre}
    centres.cut |= {pair for other in others for pair in ((centre, other), (other, centre))}
    for operator in ("ann", "bob"):
        centres[at].order(LoseCentre(centre=centre, heir=heir), actor=operator)
    centres.run(6 * SECOND)


def test_the_heir_of_a_lost_home_opens_what_that_cannot_have_opened() -> None:
    """This minute and the next were its own; from then on the heir mints, and takes changes."""
    centres = living("east", "north", "south", limits=Limits(refund_window_ms=300))
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    opened = centres["north"].facts(IntervalOpened)
    lost(centres, "north", at="east", heir="south")
    homes = {name: centres[name].state.metas["c"].home for name in ("east", "south")}
    assert homes == {"east": "south", "south": ""}
    assert centres["south"].state.metas["c"].version == Version(1, 0)
    # When it is changed where it is not decided
    assert isinstance(centres.define("east", "c", 40, placement="even", interval="minute"), Done)
    centres.run(180 * SECOND)
    # Then no period is minted twice, no number given twice, and it is served
    later = centres["south"].facts(IntervalOpened)
    assert later[0].number > opened[-1].number
    assert later[0].start == opened[-1].end
    number = current(centres["south"])
    assert [centres[each].pool("c", number).available for each in ("east", "south")] == [20, 20]
    assert sum(centres.consume("east", "c", tries=20) for _ in range(41)) == 40
    centres.check()


def test_what_was_not_heard_of_is_not_opened_again() -> None:
    """The heir was cut off for minutes: the lost home has opened some, of numbers unknown here."""
    centres = living("north", "south")
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    centres.cut = {("north", "south"), ("south", "north")}
    centres.run(170 * SECOND)
    opened = centres["north"].facts(IntervalOpened)
    lost(centres, "north", at="south", heir="south")
    centres.run(180 * SECOND)
    later = centres["south"].facts(IntervalOpened)
    assert later[0].number > opened[-1].number
    assert later[0].start >= opened[-1].end


def test_a_single_of_a_lost_home_is_never_opened_again() -> None:
    """It is one total for all time, and the lost home has opened it."""
    centres = living("north", "south")
    until = centres["north"].now_us + 86_400 * SECOND
    centres.define("north", "c", 90, placement="even", interval="single", end=until)
    centres.run(SECOND)
    lost(centres, "north", at="south", heir="south")
    centres.run(10 * SECOND)
    assert centres["south"].state.metas["c"].home == ""
    assert not centres["south"].facts(IntervalOpened)
    # And its own share of it is served
    assert sum(centres.consume("south", "c", tries=4) for _ in range(46)) == 45


def test_an_heir_may_be_named_later_and_only_once() -> None:
    """Who decides the caps of a lost one is not changed, unless that one is lost as well."""
    centres = living("east", "north", "south", "west")
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    lost(centres, "north", at="east")
    denied = centres.define("east", "c", 70, placement="even")
    assert isinstance(denied, Denied)
    assert "--heir" in denied.detail
    lost(centres, "north", at="east", heir="south")
    assert centres["south"].state.metas["c"].home == ""
    for heir, code in (("east", "has_heir"), ("north", "unknown_centre"), ("x", "unknown_centre")):
        for operator in ("ann", "bob"):
            token = centres["east"].order(LoseCentre(centre="north", heir=heir), actor=operator)
        centres.run(SECOND)
        denied = centres["east"].command_answers[token]
        assert isinstance(denied, Denied)
        assert denied.code == code
    # When the heir is lost, its own heir decides this cap too
    lost(centres, "south", at="east", heir="west")
    assert {name: centres[name].state.metas["c"].home for name in ("east", "west")} == {
        "east": "west",
        "west": "",
    }
    assert centres["west"].state.metas["c"].version == Version(2, 0)


def test_the_heir_of_an_heir_takes_what_that_never_did() -> None:
    """Both are lost one after the other, before the first heir could do anything."""
    centres = living("east", "north", "south", "west")
    centres.define("north", "c", 90, placement="even")
    centres.run(SECOND)
    centres["south"].kill_master()
    lost(centres, "north", at="east", heir="south")
    lost(centres, "south", at="east", heir="west")
    assert centres["west"].state.metas["c"].home == ""
    assert centres["west"].state.metas["c"].version == Version(2, 0)


def test_two_that_took_a_cap_until_they_met_agree() -> None:
    """Each side has named its own heir; of both words one holds, and so does its heir's."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    centres["north"].kill_master()
    centres.cut = {("east", "south"), ("south", "east")}
    for name in ("east", "south"):
        for operator in ("ann", "bob"):
            centres[name].order(LoseCentre(centre="north", heir=name), actor=operator)
    centres.run(70 * SECOND)
    assert all(centres[each].state.metas["c"].home == "" for each in ("east", "south"))
    # When they meet
    centres.cut = set()
    centres.run(20 * SECOND)
    # Then the one whose word is newer decides
    metas = {each: centres[each].state.metas["c"] for each in ("east", "south")}
    assert {each: meta.home for each, meta in metas.items()} == {"east": "south", "south": ""}
    assert metas["east"].version == metas["south"].version == Version(2, 0)


def test_a_move_that_only_a_third_one_heard_of_is_made_all_the_same() -> None:
    """The old home is lost before the new one heard: it takes the cap when it is told."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, interval="minute")
    centres.run(SECOND)
    centres.cut = {("north", "south")}
    centres["north"].order(MoveHome(cap="c", to="south"))
    centres.run(SECOND)
    assert centres["east"].state.metas["c"].home == "south"
    lost(centres, "north", at="east", heir="east")
    centres.run(3 * SECOND)
    homes = {each: centres[each].state.metas["c"].home for each in ("east", "south")}
    assert homes == {"east": "south", "south": ""}
    centres.run(180 * SECOND)
    opened = [each for name in ("north", "south") for each in centres[name].facts(IntervalOpened)]
    starts = {each.start for each in opened}
    assert len(starts) == len(opened) > 3


def test_a_local_cap_of_a_lost_home_goes_on_behind_what_was_open() -> None:
    """Nothing is told of its intervals; but of a month that was begun before it became a day."""
    centres = living("north", "south")
    centres.define("north", "c", 90, interval="month")
    centres.run(SECOND)
    centres.define("north", "c", 90, interval="day")
    centres.run(SECOND)
    opened = centres["north"].facts(IntervalOpened)
    lost(centres, "north", at="south", heir="south")
    meta = centres["south"].state.metas["c"]
    assert meta.home == ""
    assert meta.opened_until >= opened[-1].end
    assert meta.next_number > opened[-1].number


def test_an_heir_hears_first_what_the_others_know() -> None:
    """It had missed that the cap was retired, and a cap that was defined meanwhile."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90)
    centres.run(SECOND)
    centres.cut = {("north", "south")}
    centres["north"].order(Retire(cap="c"))
    centres.define("north", "new", 7)
    centres.run(SECOND)
    lost(centres, "north", at="east", heir="south")
    metas = centres["south"].state.metas
    assert (metas["c"].home, metas["c"].retired) == ("", True)
    assert (metas["new"].home, metas["new"].definition.total) == ("", 7)


def test_who_got_a_cap_from_a_lost_home_gives_way_to_its_heir() -> None:
    """The heir had not heard that the cap was moved: what is decided by force holds."""
    centres = living("east", "north", "south")
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    centres.cut = {("north", "south"), ("east", "south")}
    centres["north"].order(MoveHome(cap="c", to="east"))
    centres.run(SECOND)
    assert centres["east"].state.metas["c"].home == ""
    centres.cut |= {("south", "east")}
    lost(centres, "north", at="south", heir="south")
    centres.run(70 * SECOND)
    assert centres["south"].state.metas["c"].home == ""
    # When they meet
    centres.cut = set()
    centres.run(5 * SECOND)
    assert centres["east"].state.metas["c"].home == "south"
    assert centres["south"].state.metas["c"].home == ""
    centres.run(180 * SECOND)
    centres.check()


@pytest.mark.parametrize("interval", ["day", "minute"])
def test_two_caps_of_one_name_are_not_mixed(interval: str) -> None:
    """Who defined a cap before it knew of another one of that name serves its own total of it."""
    centres = living("north", "south", members=())
    centres.define("north", "c", 1000, placement="even")
    centres.define("south", "c", 10, placement="even", interval=interval)
    for name in ("north", "south"):
        centres["north"].order(AddCentre(centre=name))
    centres.run(5 * SECOND)
    assert sum(centres.consume("south", "c", tries=3) for _ in range(12)) <= 10
    assert not centres["south"].pool("c", current(centres["south"])).received
    # And both say so
    masters = {name: world.master for name, world in centres.worlds.items()}
    told = {name: master.remote.twins() for name, master in masters.items() if master}
    assert told == {"north": {"c": "south"}, "south": {"c": "north"}}


def test_a_move_that_was_not_heard_is_told_again() -> None:
    """The letter is lost, and nothing of the cap is shared: its new home takes it all the same."""
    centres = living("north", "south")
    centres.define("north", "c", 90, interval="minute")
    centres.run(SECOND)
    centres.cut = {("north", "south")}
    centres["north"].order(MoveHome(cap="c", to="south"))
    centres.run(SECOND)
    centres.cut = set()
    centres.run(10 * SECOND)
    assert centres["south"].state.metas["c"].home == ""
    centres.run(120 * SECOND)
    assert centres["south"].facts(IntervalOpened)


def test_who_is_left_alone_closes_its_books() -> None:
    """The only other data centre is lost: what both shared is closed here all the same."""
    centres = living("north", "south", limits=Limits(refund_window_ms=300))
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    for operator in ("ann", "bob"):
        centres["north"].order(LoseCentre(centre="south"), actor=operator)
    centres.run(80 * SECOND)
    assert [fact.number for fact in centres["north"].facts(IntervalClosed)] == [0]


def test_the_rest_of_another_is_had_for_all_who_wait_at_once() -> None:
    """Eight callers where nothing is left wait for two ways there and back, not for eight."""
    limits = Limits(max_wait_ms=10_000)
    centres = living("north", "south", limits=limits)
    centres.define("north", "c", 800, placement="even")
    centres.run(SECOND)
    assert centres.consume("south", "c", 780, tries=40) == 780
    # Given 40 ms from one to the other
    centres.post = MailConditions(delay_us=(40_000, 40_000))
    server = centres["south"].servers[0]
    tokens = [server.submit(Consume(cap="c", minimum=1, maximum=1)) for _ in range(8)]
    centres.run(250_000)
    assert all(isinstance(server.answers.get(token), Consumed) for token in tokens)


def test_what_was_kept_for_another_is_given_here_in_the_end() -> None:
    """One unit is left, and another one waits for two: it holds up who wants one for a while."""
    centres = living("north", "south")
    centres.define("north", "c", 60, placement="even")
    centres.run(SECOND)
    assert centres.consume("north", "c", 59, tries=40) == 59
    assert centres.consume("south", "c", 2) == 0
    # Given that something is on its way, which may be what the other one is short of
    north = centres["north"]
    assert north.master is not None
    exchange = north.master.remote._exchanges["c", 0]
    exchange.shared.told["south"].available = 1
    exchange._wisher.refuse(Left(), north.now_us)
    assert exchange.reserved(north.now_us) == 1
    refused = north.consume(north.servers[0], "c")
    assert isinstance(refused, Refused)
    assert refused.code == "capped"
    # When it is clear that nothing comes
    exchange.shared.told["south"].available = 0
    centres.run(SECOND)
    # Then
    assert centres.consume("north", "c") == 1


def test_an_heir_hears_of_another_one_that_was_lost_before_they_met() -> None:
    """Who learned from that one hears the new word, and both have one definition again."""
    centres = living("east", "north", "south", "west")
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND)
    centres["north"].kill_master()
    apart = {("east", "south"), ("east", "west")}
    centres.cut = apart | {(there, here) for here, there in apart}
    for name in ("east", "west"):
        for operator in ("ann", "bob"):
            centres[name].order(LoseCentre(centre="north", heir=name), actor=operator)
    centres.run(70 * SECOND)
    centres["west"].order(
        Define(cap="c", definition=Definition(total=77, placement="even", interval="minute"))
    )
    centres.run(2 * SECOND)
    assert centres["south"].state.metas["c"].version == Version(1, 1)
    # When the other one is lost too
    centres.cut = set()
    lost(centres, "west", at="east", heir="east")
    centres.run(70 * SECOND)
    # Then
    assert isinstance(centres.define("south", "c", 55, placement="even", interval="minute"), Done)
    metas = {name: centres[name].state.metas["c"] for name in ("east", "south")}
    assert {name: meta.home for name, meta in metas.items()} == {"east": "", "south": "east"}
    assert {(meta.version, meta.definition.total) for meta in metas.values()} == {
        (Version(2, 1), 55)
    }


@pytest.mark.parametrize("callers", [1, 6])
def test_a_client_that_wants_more_than_can_be_counted_harms_nobody(callers: int) -> None:
    """What is asked of others has an end; the next one who asks for a unit gets it."""
    limits = Limits(max_wait_ms=10_000)
    centres = SimulatedCentres(("north", "south"), servers=3, limits=limits)
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND)
    assert centres.consume("south", "c", 30, tries=10) == 30
    south = centres["south"]
    for server in south.servers[: 1 + callers // 3]:
        for _ in range(callers):
            server.submit(Consume(cap="c", minimum=MAX_AMOUNT, maximum=MAX_AMOUNT))
    centres.run(12 * SECOND)
    assert sum(centres.consume("south", "c", tries=20) for _ in range(71)) == 70


def test_the_rest_is_had_in_few_transfers() -> None:
    """Who alone consumes what is gathered elsewhere does not wish for every unit."""
    centres = living("north", "south", post=MailConditions(delay_us=(40_000, 40_000)))
    centres.define("north", "c", 1_000, placement="even")
    centres.run(SECOND)
    assert sum(centres.consume("south", "c", tries=40) for _ in range(1_000)) == 1_000
    # Then hardly more is sent than halves, and halves of that
    assert any(fact.phase.mode == "gather" for fact in centres["north"].facts(PhaseChanged))
    sent = [fact for fact in centres["north"].facts(TransferSent) if fact.number == 0]
    assert len(sent) < 50
    centres.check()


def test_what_is_on_its_way_is_not_gone() -> None:
    """Who gathers has sent more than was needed: a consume that needs it back is not capped."""
    centres = living("north", "south", post=MailConditions(delay_us=(40_000, 40_000)))
    centres.define("north", "c", 1_000, placement="even")
    centres.run(SECOND)
    north, south = centres["north"], centres["south"]
    # Given that the rest is gathered at one, and the other one alone consumes
    while not any(fact.phase.mode == "gather" for fact in north.facts(PhaseChanged)):
        assert centres.consume("south", "c", 5, tries=40) == 5
    centres.run(SECOND)
    sent = len(north.facts(TransferSent))
    while len(north.facts(TransferSent)) == sent:
        token = south.servers[0].submit(Consume(cap="c", minimum=1, maximum=1))
        for _ in range(200):
            centres.run(1_000)
            if token in south.servers[0].answers or len(north.facts(TransferSent)) > sent:
                break
    # When the one that has just sent a part of it needs a little more than is left there
    pool = north.pool("c")
    assert pool.sent["south"].moved > pool.sent["south"].settled
    wanted = pool.available + pool.held + 2
    token = north.servers[0].submit(Consume(cap="c", minimum=wanted, maximum=wanted))
    centres.run(SECOND)
    # Then it is not told that there is nothing
    answer = north.servers[0].answers[token]
    assert not (isinstance(answer, Refused) and answer.code == "capped")
    assert centres.consume("north", "c", wanted, tries=40) == wanted
