"""A cap gets another home, by a move or by force: nothing that was opened is opened again."""

from vcap_es.components.decisions.centre import LoseCentre
from vcap_es.components.decisions.meta import MoveHome
from vcap_es.events.facts import IntervalOpened
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
