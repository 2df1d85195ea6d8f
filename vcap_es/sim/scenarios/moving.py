"""A cap gets another home, by a move or by force: nothing that was opened is opened again."""

from vcap_es.components.decisions.centre import LoseCentre
from vcap_es.components.decisions.meta import MoveHome
from vcap_es.events.facts import IntervalOpened
from vcap_es.events.facts.meta import IntervalKind
from vcap_es.events.units import SECOND_US
from vcap_es.sim.world.centres import SimulatedCentres
from vcap_es.sim.world.invariants import must


def move_home(seed: int) -> None:
    """A cap moves to one that knows none of its periods: each is minted once all the same."""
    centres = SimulatedCentres(("east", "north", "south"), seed=seed)
    centres.define("north", "c", 90, placement="local", interval="minute")
    centres.run(SECOND_US)
    centres["north"].order(MoveHome(cap="c", to="south"))
    centres.run(70 * SECOND_US)
    _opened_once(centres)


def inherit_home(seed: int) -> None:
    """The heir of a lost home, cut off for minutes, knows little of what that has opened."""
    centres = SimulatedCentres(("north", "south"), seed=seed)
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND_US)
    centres.cut = {("north", "south"), ("south", "north")}
    centres.run((100 + 20 * seed) * SECOND_US)
    centres["north"].kill_master()
    for operator in ("ann", "bob"):
        centres["south"].order(LoseCentre(centre="north", heir="south"), actor=operator)
    centres.run(180 * SECOND_US)
    _opened_once(centres)
    must(bool(centres["south"].facts(IntervalOpened)), "C8", "the heir opens nothing")


def _opened_once(centres: SimulatedCentres) -> None:
    opened = [
        (fact.number, fact.start)
        for world in centres.worlds.values()
        for fact in world.facts(IntervalOpened)
    ]
    must(len(opened) > 2, "C8", f"nobody opens anything after the move: {opened}")
    must(len(dict(opened)) == len(opened), "C1", f"an interval is opened twice: {opened}")
    starts = [start for _, start in opened]
    must(len(set(starts)) == len(starts), "C1", f"a period is opened twice: {opened}")


def gather_for_a_lost_minter(seed: int) -> None:
    """Who decides a cap after its home is lost gathers what lies idle, though it minted nothing."""
    # Given three data centres with a share of a day, and the loss of the one that has opened it
    centres = SimulatedCentres(("east", "north", "south"), seed=seed)
    centres.define("north", "c", 90, placement="even", interval="day")
    centres.run(3 * SECOND_US)
    centres["north"].kill_master()
    for operator in ("ann", "bob"):
        centres["south"].order(LoseCentre(centre="north", heir="south"), actor=operator)
    centres.run(5 * SECOND_US)
    # Then the heir has its share, and that of the other one too
    taken = sum(centres.consume("south", "c", tries=30) for _ in range(60))
    must(taken == 60, "C10", f"{taken} of the 60 units of the living were had")


def edit_after_a_forced_move(seed: int) -> None:
    """Whatever calendar the heir is given, it opens nothing of a period that was opened before."""
    kinds: tuple[IntervalKind, ...] = ("hour", "day", "week", "month", "single")
    centres = SimulatedCentres(("north", "south"), seed=seed)
    centres.define("north", "c", 90, placement="even", interval="minute")
    centres.run(SECOND_US)
    for world in centres.worlds.values():
        world.take_all("c")
    # Given a home that is lost
    centres["north"].kill_master()
    for operator in ("ann", "bob"):
        centres["south"].order(LoseCentre(centre="north", heir="south"), actor=operator)
    centres.run(70 * SECOND_US)
    # When the heir's calendar is another one
    kind = kinds[seed % len(kinds)]
    end = centres["south"].now_us + 400 * 86_400 * SECOND_US
    centres.define("south", "c", 90, interval=kind, end=end if kind == "single" else None)
    # Then nothing more is served in the period that both are in, as the checker of periods says
    for _ in range(4):
        centres.run(40 * SECOND_US)
        centres["south"].take_all("c")
