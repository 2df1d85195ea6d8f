"""The checkers fire: each claim that contradicts what was acknowledged is found."""

import pytest

from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.decisions.primacy import Config
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import Definition, EpochStarted, Version
from vcap_es.events.log import Head
from vcap_es.events.sealing import seal
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta
from vcap_es.projections.states.places import Account, Pool
from vcap_es.sim.environment.disks import LogDisk
from vcap_es.sim.environment.oracle import Claim, Oracle, equation_holds
from vcap_es.sim.environment.violations import Violation

BOTH = Config(1, 1, "a", ("a", "b"), ("a", "b", "w"))
ALONE = Config(1, 2, "a", ("a",), ("a", "b", "w"))


def log_of(epochs: int, *, actor: str = "") -> list[Stored]:
    """A log of so many events; with another actor, it is another log."""
    drafts = [
        Draft(
            event_id=bytes([each]) * 16,
            recorded_at=each,
            dc="dc1",
            actor=actor,
            correlation="",
            fact=EpochStarted(epoch=each, leader="a"),
        )
        for each in range(1, epochs + 1)
    ]
    return seal(drafts, epochs, Head())


class Copy:
    """A master's disk with the first events of a log."""

    def __init__(self, node: str, entries: list[Stored]) -> None:
        self.node = self.name = node
        self.is_sound = True
        self.log = LogDisk(list(entries), len(entries))


class Case:
    """A truth of five events, which master `a` has, and `b` as many of as a test says."""

    def __init__(self, *, at_b: int = 5) -> None:
        self.entries = log_of(5)
        self.oracle = Oracle()
        self.a, self.b = Copy("a", self.entries), Copy("b", self.entries[:at_b])
        self.oracle.copies += [self.a, self.b]

    def claim(
        self, copy: Copy, committed: int, *, config: Config | None = None, **fields: object
    ) -> None:
        link = copy.log.link_at(committed)
        claimed = {"node": copy.node, "epoch": 1, "is_elected": False, **fields}
        claim = Claim(config=config, committed=committed, link=link, **claimed)  # type: ignore[arg-type]  # as the test says
        self.oracle.hear(copy, claim)


def fails(check: str, call: "Case", *arguments: object, **fields: object) -> None:
    """The claim is found out by this checker."""
    with pytest.raises(Violation) as found:
        call.claim(*arguments, **fields)  # type: ignore[arg-type]  # as the test says
    assert found.value.check == check


def test_what_holds_is_not_found() -> None:
    """A leader commits, and its follower follows."""
    case = Case()
    case.claim(case.a, 5, config=BOTH, is_elected=True)
    case.claim(case.b, 3)
    assert case.oracle.end == 5


def test_c3_committed_before_it_is_durable_everywhere() -> None:
    """Everybody in sync has it on the disk, or it is not acknowledged."""
    case = Case(at_b=4)
    case.claim(case.a, 4, config=BOTH)
    fails("C3", case, case.a, 5, config=BOTH)
    Case(at_b=4).claim(case.a, 5, config=ALONE)


def test_c3_a_leader_without_an_acknowledged_event() -> None:
    """Whoever leads has everything."""
    case = Case(at_b=4)
    case.claim(case.a, 5, config=ALONE)
    fails("C3", case, case.b, 4, config=BOTH, is_elected=True, epoch=2)


def test_c3_in_sync_by_majority_and_without_everything() -> None:
    """What a majority holds counts, whether or not the leader knows of it yet."""
    case = Case(at_b=4)
    held = [Ballot(node=node, config=BOTH) for node in ("a", "w")]
    case.oracle.votes += [lambda: held[0], lambda: held[1], lambda: None]
    fails("C3", case, case.a, 5, config=ALONE)


def test_c4_two_leaders_of_one_epoch() -> None:
    """An epoch has one leader for ever."""
    case = Case()
    case.claim(case.a, 5, config=BOTH, is_elected=True)
    fails("C4", case, case.b, 5, config=BOTH, is_elected=True)


def test_c5_logs_that_differ_where_they_are_committed() -> None:
    """Nobody takes another event for committed, or one that nobody committed."""
    case = Case()
    case.claim(case.a, 4, config=BOTH)
    fails("C5", case, case.b, 5)
    case.b.log.entries = log_of(5, actor="else")
    fails("C5", case, case.b, 4)


def test_c12_setting_aside_what_was_acknowledged() -> None:
    """What is behind it may go; what was acknowledged may not."""
    case = Case()
    case.claim(case.a, 4, config=BOTH)
    case.oracle.is_cut(case.b, 4)
    with pytest.raises(Violation, match="C12"):
        case.oracle.is_cut(case.b, 3)


def test_c1_and_c9_an_equation_that_does_not_hold() -> None:
    """Minted is all that is anywhere, and nowhere is less than nothing."""

    def state(pool: Pool) -> DataCentre:
        interval = Interval(number=0, start=0, end=1, pool=pool)
        definition = Definition(total=5)
        return DataCentre(metas={"c": Meta("c", Version(0, 1), definition, intervals=(interval,))})

    equation_holds(state(Pool(minted=5, available=3, accounts={"s": Account(out=2)})))
    with pytest.raises(Violation, match="C1"):
        equation_holds(state(Pool(minted=5, available=4, accounts={"s": Account(out=2)})))
    with pytest.raises(Violation, match="C9"):
        equation_holds(state(Pool(minted=5, available=6, accounts={"s": Account(spent=1, back=1)})))
