"""How a cap whose home is lost gets a new one, by force: the heir of the lost data centre.

What the lost home has opened is its own, and some of that may never have been heard of. So the
heir leaves out the period that is open now and the one after it, as that home may have opened
both; what was opened and heard of, others serve on. The lost home must be stopped: it would go on.
"""

from vcap_es.components.decisions.interval import opening_instant
from vcap_es.events.facts import HomeMoved, Version
from vcap_es.events.instants import SECOND_US
from vcap_es.events.periods import first_window, next_window
from vcap_es.projections.states.meta import Meta

MINUTE_US = 60 * SECOND_US
"""The shortest period: no more numbers than minutes can have been given to what was not heard."""


def inherited(meta: Meta, latest: int) -> HomeMoved:
    """`meta` is decided here from now on, and never again where it was, whatever is heard of that.

    Its first interval is of the first period that its lost home cannot have opened by `latest`,
    in microseconds UTC, which no clock there has passed. A `single` is never opened again. Raises
    InvalidDefinition where its calendar cannot be computed here.
    """
    until = _opened_until(meta, latest)
    unheard = -(-(until - meta.opened_until) // MINUTE_US) if meta.next_number else 0
    number = max(meta.next_number + unheard, meta.ended_before + 1)
    is_single = meta.definition.interval == "single"
    return HomeMoved(
        cap=meta.cap,
        version=Version(meta.version.generation + 1, 0),
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
