"""How a cap whose home is lost gets a new one, by force: the heir of the lost data centre.

What the lost home has opened is its own, and some of that may never have been heard of. So the
heir leaves out the period that is open now and the one after it, as that home may have opened
both; what was opened and heard of, others serve on. The lost home must be stopped: it would go on.
"""

from vcap_es.components.decisions.interval import opening_instant
from vcap_es.events.facts import HomeMoved, Version
from vcap_es.events.periods import first_window, next_window
from vcap_es.events.units import SECOND_US
from vcap_es.projections.states.meta import Meta

MINUTE_US = 60 * SECOND_US
"""The shortest period: no cap has come to as many numbers as there were minutes since 1970."""


def inherited(meta: Meta, latest: int, generations: int = 1) -> HomeMoved:
    """`meta` is decided here from now on, and never again where it was, whatever is heard of that.

    Its first interval is of the first period that its lost home cannot have opened by `latest`,
    in microseconds UTC, which no clock there has passed; as its numbers may not be known here, it
    goes on with numbers that it cannot have given. A `single` is never opened again. Its version
    is so many `generations` on. Raises InvalidDefinition where its calendar is not known here.
    """
    until = _opened_until(meta, latest)
    number = max(meta.next_number, -(-max(until, latest) // MINUTE_US))
    is_single = meta.definition.interval == "single"
    return HomeMoved(
        cap=meta.cap,
        version=Version(meta.version.generation + generations, 0),
        home="",
        next_number=number,
        opened_until=until,
        single_number=number - 1 if is_single else meta.single_number,
    )


def _opened_until(meta: Meta, now: int) -> int:
    """Where what may be open by `now` ends."""
    until = meta.opened_until
    window = first_window(meta.definition, now)
    while window is not None and opening_instant(window, now) <= now:
        until = max(until, window.end)
        window = next_window(meta.definition, window.end)
    return until
