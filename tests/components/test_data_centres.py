"""Several data centres share a cap: exact in the sum, whatever becomes of what they say."""

import pytest

from tests.projections.lives import recorded
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.limits import Limits
from vcap_es.components.outcomes import Refused
from vcap_es.events.facts import IntervalClosed, Version
from vcap_es.projections.amounts import Amounts
from vcap_es.projections.audit import Audit
from vcap_es.projections.history import statement
from vcap_es.sim.centres import Centres, Post

SECOND = 1_000_000


def living(*names: str, post: Post | None = None, seed: int = 0) -> Centres:
    """Data centres with a master and a server each, watched at every step."""
    centres = Centres(names, post=post, seed=seed)
    centres.run(100_000)
    return centres


def available(centres: Centres, cap: str, number: int = 0) -> dict[str, int]:
    """What the pool of each data centre has."""
    return {name: world.pool(cap, number).available for name, world in centres.worlds.items()}


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


def test_a_cap_is_decided_at_its_home() -> None:
    """Elsewhere the definition is known, and a change of it is refused by name."""
    centres = living("north", "south")
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND)
    denied = centres.define("south", "c", 200, placement="even")
    assert isinstance(denied, Denied)
    assert (denied.code, "north" in denied.detail) == ("not_home", True)
    centres.define("north", "c", 300, placement="even")
    centres.run(SECOND)
    known = [world.state.metas["c"] for world in centres.worlds.values()]
    assert {(meta.version, meta.definition.total) for meta in known} == {(Version(0, 2), 300)}


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_post_does_the_sum_is_exact(seed: int) -> None:
    """A third is lost, a third comes twice, all in any order: only time is lost."""
    post = Post(lost_percent=30, repeated_percent=30, delay_us=(500, 200_000))
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
    centres.post = Post()
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
    centres = Centres(("north", "south"), limits=Limits(refund_window_ms=300))
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
    centres = Centres(("north", "south"), limits=Limits(refund_window_ms=300))
    centres.run(100_000)
    centres.define("north", "c", 100, placement="even", interval="minute")
    centres.run(20 * SECOND)
    centres.cut = {("north", "south"), ("south", "north")}
    centres.run(45 * SECOND)
    assert sum(centres.consume("south", "c", tries=3) for _ in range(60)) == 50
    assert sum(centres.consume("north", "c", tries=3) for _ in range(60)) == 50
    centres.check()
