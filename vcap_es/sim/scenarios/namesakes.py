"""Who comes by a known name with an empty log is a namesake: nothing old counts for it."""

from vcap_es.components.decisions.centre import AddCentre
from vcap_es.events.units import SECOND_US
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres
from vcap_es.sim.world.invariants import must


def begin_anew(seed: int) -> None:
    """One of two loses every disk: it has no part in what its name had a part in."""
    centres = _two_with_late_letters(seed)
    centres.begin_anew("south", seed)
    centres.run(10 * SECOND_US)
    must("south" in _namesakes(centres, "north"), "C8", "nobody tells that south is a namesake")
    must("north" in _namesakes(centres, "south"), "C8", "south does not know that it is one")
    centres["south"].order(AddCentre(centre="north"))
    centres.define("north", "c", 101, placement="even")
    centres.run(20 * SECOND_US)
    must(not centres["south"].state.metas, "C2", "a namesake learns what is shared here")
    centres.check()


def begin_both_anew(seed: int) -> None:
    """Two that have the names of others that are gone share, whatever comes late of those."""
    centres = _two_with_late_letters(seed)
    _begin_both_anew(centres, seed)
    centres.run(10 * SECOND_US)
    centres.check()


def begin_both_anew_at_once(seed: int) -> None:
    """The same, where the first ones are gone before they have met."""
    centres = _two_who_meet(seed)
    _begin_both_anew(centres, seed)


def _begin_both_anew(centres: SimulatedCentres, seed: int) -> None:
    for name in ("north", "south"):
        centres.begin_anew(name, seed)
    centres.post = MailConditions()
    centres.run(2 * SECOND_US)
    centres["north"].order(AddCentre(centre="south"))
    centres.run(10 * SECOND_US)
    centres.define("north", "c", 100, placement="even")
    must(centres.consume("south", "c", tries=40) > 0, "C8", "nothing is shared any more")


def _two_with_late_letters(seed: int) -> SimulatedCentres:
    centres = _two_who_meet(seed)
    centres.define("north", "c", 100, placement="even")
    must(centres.consume("south", "c", 40 + seed, tries=400) > 0, "C8", "nothing is to be had")
    return centres


def _two_who_meet(seed: int) -> SimulatedCentres:
    """By letters of which each comes twice, up to eight seconds late."""
    centres = SimulatedCentres(("north", "south"), seed=seed, members=())
    centres.post = MailConditions(repeated_percent=100, delay_us=(1_000, 8 * SECOND_US))
    centres["north"].order(AddCentre(centre="south"))
    centres.run(SECOND_US)
    return centres


def _namesakes(centres: SimulatedCentres, name: str) -> dict[str, str]:
    master = centres[name].master
    return master.remote.namesakes() if master is not None else {}
