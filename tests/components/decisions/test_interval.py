"""What follows for intervals as time passes: in order, once, and however late it is looked at."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vcap_es.components.decisions.interval import due, next_due
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaChanged,
    MetaDefined,
    MetaRetired,
    Version,
)
from vcap_es.projections.states.data_centre import Fold
from vcap_es.projections.states.meta import Meta

NOON = 1_767_268_800_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Life:
    """One cap over time, with everything that follows for its intervals."""

    def __init__(self, definition: Definition, now: int = NOON) -> None:
        self.fold, self.now = Fold(), now
        self.facts: list[Fact] = []
        self.fold.evolve(MetaDefined(cap="c", version=Version(0, 1), definition=definition))
        self.look()

    @property
    def meta(self) -> Meta:
        return self.fold.state.metas["c"]

    def look(self) -> None:
        """Record all that is due; asked again, nothing is."""
        while facts := due(self.meta, self.now):
            self.record(facts)
        assert due(self.meta, self.now) == []

    def record(self, facts: list[Fact]) -> None:
        for fact in facts:
            self.fold.evolve(fact)
        self.facts += facts

    def pass_to(self, instant: int) -> None:
        """Look whenever something is due, until then."""
        for _ in range(100_000):
            following = next_due(self.meta, self.now)
            if following is None or following > instant:
                break
            assert following > self.now
            self.now = following
            self.look()
        self.now = max(self.now, instant)
        assert due(self.meta, self.now) == []

    def change(self, definition: Definition) -> None:
        version = Version(0, self.meta.version.number + 1)
        kind = MetaDefined if self.meta.retired else MetaChanged
        self.fold.evolve(kind(cap="c", version=version, definition=definition))
        self.look()

    def retire(self) -> None:
        version = Version(0, self.meta.version.number + 1)
        before = self.meta.next_number
        self.fold.evolve(MetaRetired(cap="c", version=version, ended_before=before))
        self.look()

    def opened(self) -> list[IntervalOpened]:
        return [fact for fact in self.facts if isinstance(fact, IntervalOpened)]


DEFINITIONS = st.builds(
    Definition,
    total=st.integers(0, 100),
    interval=st.sampled_from(["minute", "hour", "day", "week"]),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    start=st.none() | st.integers(-2 * DAY, 2 * DAY).map(lambda at: NOON + at // MINUTE * MINUTE),
    end=st.none() | st.integers(3 * DAY, 9 * DAY).map(lambda at: NOON + at // MINUTE * MINUTE),
)
STEPS = st.lists(
    st.one_of(
        st.integers(0, 3 * HOUR).map(lambda us: ("pass", us)),
        st.integers(0, 4 * DAY).map(lambda us: ("sleep", us)),
        DEFINITIONS.map(lambda definition: ("change", definition)),
        st.just(("retire", None)),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(DEFINITIONS, STEPS)
def test_no_instant_is_minted_twice(
    definition: Definition, steps: list[tuple[str, object]]
) -> None:
    """Whatever changes, however long nobody looks: no periods overlap, no numbers repeat."""
    life = Life(definition)
    for kind, value in steps:
        match kind, value:
            case "pass", int(us):
                life.pass_to(life.now + us)
            case "sleep", int(us):
                life.now += us
                life.look()
            case "change", Definition() as changed:
                life.change(changed)
            case _:
                life.retire()
    opened = life.opened()
    assert [each.number for each in opened] == list(range(len(opened)))
    for one, other in pairwise(opened):
        assert one.start < one.end <= other.start
    # And what serves now and next is there, unless the cap is over
    if not life.meta.retired and opened:
        following = next_due(life.meta, life.now)
        current = life.meta.at(life.now)
        assert current is not None or following is not None or life.meta.intervals == ()


@settings(max_examples=25, deadline=None)
@given(DEFINITIONS)
def test_looking_when_it_is_due_is_looking_all_the_time(definition: Definition) -> None:
    """A cap that is looked at only when something is due lives as one looked at every minute."""
    seldom, often = Life(definition), Life(definition)
    seldom.pass_to(NOON + 3 * HOUR)
    for minute in range(1, 181):
        often.now = NOON + minute * MINUTE
        often.look()
    assert seldom.facts == often.facts


def test_the_current_and_the_next_interval_are_open() -> None:
    """A cap has both from its definition on, and a further one from each boundary on."""
    life = Life(Definition(total=5, interval="hour"), NOON + 5 * MINUTE)
    assert [each.start for each in life.opened()] == [NOON, NOON + HOUR]
    life.pass_to(NOON + HOUR)
    assert [each.start for each in life.opened()] == [NOON, NOON + HOUR, NOON + 2 * HOUR]


def test_an_interval_ends_before_another_is_opened_and_closes_last() -> None:
    """At a boundary the facts come in the order in which amounts stay exact."""
    life = Life(Definition(total=5, interval="hour"))
    life.facts.clear()
    life.pass_to(NOON + HOUR)
    kinds = [type(fact) for fact in life.facts]
    assert kinds == [IntervalEnded, IntervalOpened, IntervalClosed]


def test_a_cap_with_a_far_start_opens_a_length_ahead() -> None:
    """A cap that starts in a month is not open today."""
    life = Life(Definition(total=5, interval="day", start=NOON + 30 * DAY))
    assert life.opened() == []
    life.pass_to(NOON + 30 * DAY)
    first = life.opened()[0]
    assert first.start == NOON + 30 * DAY


def test_a_single_is_one_interval_from_start_to_end() -> None:
    """It is opened once, ends at its end, and nothing follows, also when its end is moved later."""
    life = Life(Definition(total=5, interval="single", end=NOON + 3 * DAY))
    life.change(Definition(total=5, interval="single", end=NOON + 9 * DAY))
    life.pass_to(NOON + 20 * DAY)
    assert [(each.start, each.end) for each in life.opened()] == [(NOON, NOON + 3 * DAY)]
    assert next_due(life.meta, life.now) is None


def test_a_daily_cap_that_becomes_a_single_goes_on_as_one() -> None:
    """What is open stays; from the first period not opened yet on there is one single interval."""
    life = Life(Definition(total=5, interval="day"))
    life.change(Definition(total=50, interval="single", end=NOON + 9 * DAY))
    life.pass_to(NOON + 20 * DAY)
    opened = [(each.start - NOON, each.end - NOON, each.total) for each in life.opened()]
    half = DAY // 2
    assert opened == [
        (-half, half, 5),
        (half, half + DAY, 5),
        (half + DAY, 9 * DAY, 50),
    ]


def test_a_single_that_is_defined_again_begins_after_the_old_one() -> None:
    """Retired and defined again, a single has a second interval, after the first one's end."""
    life = Life(Definition(total=5, interval="single", end=NOON + DAY))
    life.retire()
    life.change(Definition(total=6, interval="single", end=NOON + 5 * DAY))
    life.pass_to(NOON + 6 * DAY)
    assert [(each.start, each.end) for each in life.opened()] == [
        (NOON, NOON + DAY),
        (NOON + DAY, NOON + 5 * DAY),
    ]


def test_the_initial_total_is_for_a_first_period_cut_short() -> None:
    """Only where the start cuts a period short does it open with the initial total."""
    cut = Life(Definition(total=10, interval="hour", start=NOON + MINUTE, initial_total=3), NOON)
    cut.pass_to(NOON + 2 * HOUR)
    assert [each.total for each in cut.opened()] == [3, 10, 10, 10]
    whole = Life(Definition(total=10, interval="hour", start=NOON, initial_total=3), NOON)
    assert [each.total for each in whole.opened()] == [10, 10]


def test_an_interval_is_not_closed_over_units_that_are_held() -> None:
    """A refund after the last report of a holder is waited for until it has come back."""
    life = Life(Definition(total=5, interval="hour"))
    pool = life.meta.intervals[0].pool
    account = pool.account("s")
    account.out, pool.available, account.spent, account.refunded = 3, 2, 3, 1
    account.final = True
    life.pass_to(NOON + HOUR)
    assert life.meta.interval(0) is not None
    account.back, pool.expired = 1, 3
    life.look()
    assert IntervalClosed(cap="c", number=0, unreported=0) in life.facts


def test_an_open_interval_is_closed_after_a_day_at_the_latest() -> None:
    """A holder that is never heard of again delays the close by 24 hours."""
    life = Life(Definition(total=5, interval="hour"))
    pool = life.meta.intervals[0].pool
    account = pool.account("s")
    account.out, pool.available = 3, 2
    life.pass_to(NOON + 25 * HOUR - 1)
    assert life.meta.interval(0) is not None
    life.pass_to(NOON + 25 * HOUR)
    assert life.meta.interval(0) is None
    assert IntervalClosed(cap="c", number=0, unreported=3) in life.facts
