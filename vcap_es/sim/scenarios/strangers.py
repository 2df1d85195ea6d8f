"""Who comes by a known name with an empty log is a stranger: nothing old counts for it."""

from vcap_es.components.decisions.centre import AddCentre
from vcap_es.sim.centres import Centres, Post
from vcap_es.sim.invariants import must

SECOND_US = 1_000_000


def begin_anew(seed: int) -> None:
    """One of two loses every disk: it has no part in what its name had a part in."""
    centres = Centres(("north", "south"), seed=seed)
    centres.define("north", "c", 100, placement="even")
    centres.run(SECOND_US)
    must(centres.consume("south", "c", 40 + seed, tries=40) > 0, "C8", "nothing is to be had")
    centres.begin_anew("south", seed)
    centres.run(5 * SECOND_US)
    centres["south"].order(AddCentre(centre="north"))
    centres.run(10 * SECOND_US)
    must(not centres["south"].state.metas, "C2", "a stranger learns what is shared here")
    must("south" in _strangers(centres, "north"), "C8", "nobody tells that south is a stranger")
    must("north" in _strangers(centres, "south"), "C8", "south does not know that it is one")


def begin_both_anew(seed: int) -> None:
    """Letters of data centres that are gone come late to others that have their names."""
    centres = Centres(("north", "south"), seed=seed)
    centres.post = Post(repeated_percent=100, delay_us=(1_000, 8 * SECOND_US))
    centres.define("north", "c", 100, placement="even")
    must(centres.consume("south", "c", 60 + seed, tries=400) > 0, "C8", "nothing is to be had")
    centres.post = Post()
    for name in ("north", "south"):
        centres.begin_anew(name, seed)
    centres.run(SECOND_US)
    centres["north"].order(AddCentre(centre="south"))
    centres.define("north", "c", 100, placement="even")
    centres.run(20 * SECOND_US)
    centres.check()


def _strangers(centres: Centres, name: str) -> dict[str, str]:
    master = centres[name].master
    return master.remote.strangers() if master is not None else {}
