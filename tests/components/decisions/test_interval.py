"""What follows for intervals as time passes: in order, once, and however late it is looked at."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vcap_es.components.decisions.interval import due, next_due
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalBounded,
    IntervalClosed,
    IntervalEnded,
    IntervalHeard,
    IntervalOpened,
    MetaChanged,
    MetaDefined,
    MetaRetired,
    Returned,
    ToppedUp,
    Version,
)
from vcap_es.events.periods import period_of
from vcap_es.projections.states.data_centre import Fold
from vcap_es.projections.states.interval import Interval
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

    def bounds(self) -> dict[int, tuple[int, int]]:
        """The bounds that each interval had last, by its number."""
        bounding = [
            each for each in self.facts if isinstance(each, IntervalOpened | IntervalBounded)
        ]
        return {each.number: (each.start, each.end) for each in bounding}

    def move(self, amount: int, server: str = "s") -> None:
        """Move so many units of the current interval on to a server."""
        interval = self.meta.at(self.now)
        assert interval is not None
        moved = interval.pool.peek(server).out + amount
        number = interval.number
        self.record([ToppedUp(cap="c", number=number, incarnation=server, moved=moved)])

    def give_back(self, number: int, amount: int, server: str = "s") -> None:
        """A server returns so many units of an interval."""
        interval = self.meta.interval(number)
        assert interval is not None
        returned = interval.pool.peek(server).back + amount
        self.record([Returned(cap="c", number=number, incarnation=server, returned=returned)])
        self.look()

    @property
    def current(self) -> Interval:
        """The open interval that contains now."""
        interval = self.meta.at(self.now)
        assert interval is not None
        assert not interval.pool.ended
        return interval


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
    served = sorted((start, end) for start, end in life.bounds().values() if start != end)
    for one, other in pairwise(served):
        assert one[0] < one[1] <= other[0]
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


def test_a_single_whose_end_is_moved_goes_on_to_the_new_end() -> None:
    """Moved while it is open, it stays one interval, and nothing follows after its new end."""
    life = Life(Definition(total=5, interval="single", end=NOON + 3 * DAY))
    life.change(Definition(total=5, interval="single", end=NOON + 9 * DAY))
    life.pass_to(NOON + 20 * DAY)
    assert life.bounds() == {0: (NOON, NOON + 9 * DAY)}
    assert next_due(life.meta, life.now) is None


def test_a_single_that_is_extended_after_its_end_serves_its_rest() -> None:
    """What it served before its end is not served again; what was never served is."""
    # Given a single of which 7 units were moved out before its end
    life = Life(Definition(total=100, interval="single", end=NOON + HOUR))
    life.move(7)
    life.pass_to(NOON + 2 * HOUR)
    assert life.meta.at(life.now) is None
    # When its end is moved to after now
    life.change(Definition(total=100, interval="single", end=NOON + 9 * DAY))
    # Then the rest is open, and rises by what comes back
    assert (life.current.pool.available, life.current.total) == (93, 100)
    life.give_back(0, 3)
    assert life.current.pool.available == 96


def test_a_daily_cap_that_becomes_a_single_goes_on_as_one() -> None:
    """The day that is open becomes the single, and counts against its total; nothing follows."""
    life = Life(Definition(total=5, interval="day"))
    life.move(4)
    life.change(Definition(total=50, interval="single", end=NOON + 9 * DAY))
    assert life.current.pool.available == 46
    life.pass_to(NOON + 20 * DAY)
    assert life.bounds() == {0: (NOON - DAY // 2, NOON + 9 * DAY), 1: (NOON, NOON)}


def test_a_cap_defined_again_serves_what_is_left_of_its_period() -> None:
    """Retired and defined again, it goes on in the period with its rest, and with its debt."""
    # Given a cap of which 7 of 10 units were moved out when it was retired
    life = Life(Definition(total=10))
    life.move(7)
    life.retire()
    # When it is defined again, once with less than that
    life.change(Definition(total=10))
    assert life.current.pool.available == 3
    life.retire()
    life.change(Definition(total=5))
    # Then it has what is left, which may be less than nothing, and the next day is whole
    assert life.current.pool.available == -2
    assert [each.pool.available for each in life.meta.intervals if each.start > life.now] == [5]


def test_what_was_withdrawn_before_it_began_costs_the_period_that_it_was_of() -> None:
    """Units of the next day that a server has count against that day until they are back."""
    # Given a day of which a server has units before it begins
    life = Life(Definition(total=10))
    life.record([ToppedUp(cap="c", number=1, incarnation="s", moved=4)])
    # When the cap is defined again
    life.retire()
    life.change(Definition(total=10))
    # Then that day has 6, and all 10 when they have come back
    assert life.meta.interval(3).pool.available == 6
    life.give_back(1, 4)
    assert life.meta.interval(3).pool.available == 10


def test_an_hour_that_becomes_a_day_counts_against_the_day() -> None:
    """The whole calendar period is the new one, and what hours of it had counts against it."""
    # Given two hours of a day, of which 10 and 20 units were moved out
    life = Life(Definition(total=50, interval="hour"))
    life.move(10)
    life.pass_to(NOON + HOUR)
    life.move(20)
    # When the cap becomes a daily one
    life.change(Definition(total=100, interval="day"))
    # Then the day has 70 units, and goes on to midnight
    assert life.current.pool.available == 70
    assert life.current.end == NOON + DAY // 2


def test_a_day_that_becomes_an_hour_ends_there() -> None:
    """What a day had counts against the hour in which it ended, and against no later one."""
    # Given a day of which 30 units were moved out
    life = Life(Definition(total=50))
    life.move(30)
    # When the cap becomes an hourly one, and nobody can serve the day any more
    life.change(Definition(total=40, interval="hour"))
    life.record([IntervalHeard(cap="c", number=0, at=life.now + 5)])
    # Then this hour has 10 left, and the next one is whole
    assert life.current.pool.available == 10
    life.pass_to(NOON + HOUR)
    assert life.current.pool.available == 40


def test_who_has_not_heard_of_an_end_may_serve_on() -> None:
    """As long as somebody may serve a day that was cut, each hour of it counts what it may have."""
    # Given a day of which a server has 30 units, and has not heard that it was cut
    life = Life(Definition(total=50))
    life.move(30)
    life.change(Definition(total=40, interval="hour"))
    # When the next hour comes
    life.pass_to(NOON + HOUR)
    # Then that has 10, until the server has returned what it has
    assert life.current.pool.available == 10
    life.give_back(0, 30)
    assert life.current.pool.available == 40


def test_a_start_that_is_moved_holds_for_what_has_not_begun() -> None:
    """A start is postponed or brought forward until something has been moved out."""
    for interval in ("single", "day", "hour"):
        end = NOON + 9 * DAY
        life = Life(Definition(total=5, interval=interval, start=NOON + MINUTE, end=end))
        life.change(Definition(total=5, interval=interval, start=NOON + 10 * MINUTE, end=end))
        life.pass_to(NOON + 10 * MINUTE - 1)
        assert life.meta.at(life.now) is None
        life.change(Definition(total=5, interval=interval, start=NOON + 5 * MINUTE, end=end))
        assert life.current.pool.available == 5
        life.move(2)
        life.change(Definition(total=5, interval=interval, start=NOON + 20 * MINUTE, end=end))
        assert life.current.pool.available == 3


def test_an_end_that_is_moved_cuts_what_is_open() -> None:
    """The interval ends at the new end, and what is left of it is there if the end goes away."""
    # Given a day of which 7 of 100 units were moved out
    life = Life(Definition(total=100))
    life.move(7)
    # When its end is moved to an hour from now, and taken away after that
    life.change(Definition(total=100, end=NOON + HOUR))
    assert life.current.end == NOON + HOUR
    life.pass_to(NOON + 2 * HOUR)
    assert all(each.pool.ended or each.start > life.now for each in life.meta.intervals)
    life.change(Definition(total=100))
    # Then 93 are left of the day
    assert life.current.pool.available == 93
    assert life.current.start == NOON + HOUR


MOVES = st.lists(
    st.one_of(
        st.integers(0, 3 * HOUR).map(lambda us: ("pass", us)),
        st.integers(0, 2 * DAY).map(lambda us: ("sleep", us)),
        DEFINITIONS.map(lambda definition: ("change", definition)),
        st.just(("retire", None)),
        st.integers(1, 60).map(lambda amount: ("move", amount)),
        st.integers(1, 60).map(lambda amount: ("return", amount)),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(DEFINITIONS, MOVES)
def test_a_period_is_minted_once_whatever_is_edited(
    definition: Definition, steps: list[tuple[str, object]]
) -> None:
    """All that is moved out in a period, by all intervals of it, is within one of its totals."""
    life, moves, totals = Life(definition), list[tuple[int, int]](), [(NOON, definition)]
    for kind, value in steps:
        interval = life.meta.at(life.now)
        open_ = interval if interval is not None and not interval.pool.ended else None
        match kind, value:
            case "pass", int(us):
                life.pass_to(life.now + us)
            case "sleep", int(us):
                life.now += us
                life.look()
            case "change", Definition() as changed:
                life.change(changed)
                totals.append((life.now, changed))
            case "move", int(amount) if open_ is not None and not life.meta.retired:
                amount = min(amount, max(0, open_.pool.available))
                life.move(amount)
                moves.append((life.now, amount))
            case "return", int(amount):
                for each in life.meta.intervals:
                    amount = min(amount, each.pool.peek("s").held)
                    life.give_back(each.number, amount)
                    moves.append((life.now, -amount))
            case "retire", _:
                life.retire()
        if life.meta.retired:
            continue
        # Then no more is out than some definition allowed since the period began
        period = period_of(life.meta.definition, life.now)
        started = max((at for at, _ in totals if at <= period.start), default=NOON)
        most = max(each.total for at, each in totals if at >= started)
        assert sum(amount for at, amount in moves if at >= period.start) <= most


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
