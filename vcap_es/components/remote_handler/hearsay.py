"""Whether what another data centre tells can be recorded here, and counted on from there.

Each check gives why not, "" where nothing speaks against it. A message that is not believed is as
good as lost: the cap or register that it is about stays as it was, and all others go on.
"""

from vcap_es.components.messages.centre import IntervalStatus, Setting
from vcap_es.errors import VcapError
from vcap_es.events.amounts import MAX_AMOUNT, check_amount
from vcap_es.events.facts import (
    CentreChanged,
    Definition,
    HomeMoved,
    MetaLearned,
    TemplateLearned,
    Version,
)
from vcap_es.events.facts.bounds import COUNT_MAX
from vcap_es.events.instants import LAST_INSTANT
from vcap_es.events.placements import WEIGHT_MAX, check_placement, check_terms
from vcap_es.projections.states.places import Pool

DOUBTS_MAX, DOUBT_US = 100, 60_000_000
"""At most DOUBTS_MAX things that were not believed are named, each for DOUBT_US after it was told.
"""


class Doubts:
    """What was not believed lately: of what, by whom, and why."""

    def __init__(self) -> None:
        self._doubts: dict[str, tuple[str, int]] = {}

    def note(self, subject: str, why: str, now: int) -> None:
        """Of a cap, a template, a placement or a data centre something was not believed."""
        self._doubts.pop(subject, None)
        while len(self._doubts) >= DOUBTS_MAX:
            del self._doubts[next(iter(self._doubts))]
        self._doubts[subject] = why, now

    def lately(self, now: int) -> dict[str, str]:
        """Why, by what it was about."""
        return {each: why for each, (why, at) in self._doubts.items() if at >= now - DOUBT_US}


def doubt_about(about: IntervalStatus) -> str:
    """Whether an interval can be as another one says that it is."""
    if not _are_counts(about.number):
        return _no_next("interval", about.number)
    # One that was cut before it began, or as soon as it did, lasts no time.
    shortest = 1 if about.bounded is None else 0
    if about.start < 0 or not about.start + shortest <= about.end <= LAST_INSTANT + 1:
        return f"interval {about.number} cannot last from {about.start} to {about.end}"
    if about.bounded is not None and (why := doubt_version(about.bounded)):
        return why
    phase = about.phase
    if phase is not None and not _are_counts(phase.generation, phase.number):
        return f"nothing can follow its phase {phase.generation}.{phase.number}"
    return doubt_version(about.version)


def doubt_version(version: Version) -> str:
    """Whether a change of a definition can follow this one."""
    return "" if _are_counts(version.generation, version.number) else _no_next("version", version)


def doubt_register(learned: MetaLearned, moved: HomeMoved | None) -> str:
    """Whether a cap can be defined so, and decided here from now on if it was `moved`."""
    if not _are_counts(learned.ended_before) or not _is_instant(learned.opened_until):
        return f"its intervals cannot end with {learned.ended_before}, at {learned.opened_until}"
    why = doubt_version(learned.version) or _doubt_definition(learned.definition)
    return why or (_doubt_move(learned, moved) if moved is not None else "")


def _doubt_move(learned: MetaLearned, moved: HomeMoved) -> str:
    if (moved.cap, moved.version) != (learned.cap, learned.version):
        return f"it is known as {learned.version}, and was moved as {moved.version}"
    numbers = moved.next_number, moved.single_number + 1
    if _are_counts(*numbers) and _is_instant(moved.opened_until):
        return ""
    return f"no interval can follow {moved.next_number}, at {moved.opened_until}"


def doubt_setting(setting: Setting) -> str:
    """Whether a template or a placement can be as another one says."""
    if not _are_counts(setting.stamp.count):
        return _no_next("stamp", setting.stamp.count)
    if isinstance(setting, TemplateLearned):
        return "" if setting.definition is None else _doubt_definition(setting.definition)
    try:
        check_terms("local" if setting.terms is None else setting.terms)
    except VcapError as trouble:
        return str(trouble)
    return ""


def doubt_centre(changed: CentreChanged) -> str:
    """Whether a data centre can take part so."""
    if not _are_counts(changed.stamp.count):
        return _no_next("stamp", changed.stamp.count)
    return "" if 0 <= changed.weight <= WEIGHT_MAX else f"no weight is {changed.weight}"


def doubt_movement(pool: Pool, centre: str, moved: int) -> str:
    """Whether so much can have come in all from another one: no total is larger than any other."""
    more = moved - pool.received.get(centre, 0)
    if max(pool.available, pool.expired) + more <= MAX_AMOUNT:
        return ""
    return f"{more} units more would be more than any interval has"


def doubt_recovery(pool: Pool, centre: str, sent: int, received: int) -> str:
    """Whether so much can have been sent to another one, and received from it, before a restore."""
    more = max(0, sent - pool.sent_to(centre)), max(0, received - pool.received.get(centre, 0))
    there = pool.available if pool.old is None else pool.old
    is_amount = max(more) <= MAX_AMOUNT - max(abs(pool.available), pool.held, abs(there))
    return "" if is_amount else f"{max(more)} units more would be more than any interval has"


def _doubt_definition(definition: Definition) -> str:
    try:
        check_amount(definition.total, minimum=0)
        check_amount(definition.initial_total or 0, minimum=0)
        check_placement(definition.placement)
    except VcapError as trouble:
        return str(trouble)
    bounds = [each for each in (definition.start, definition.end) if each is not None]
    return "" if all(map(_is_instant, bounds)) else f"it cannot last from and to {bounds}"


def _are_counts(*numbers: int) -> bool:
    return all(0 <= each <= COUNT_MAX for each in numbers)


def _is_instant(instant: int) -> bool:
    return 0 <= instant <= LAST_INSTANT + 1


def _no_next(what: str, last: object) -> str:
    return f"nothing can follow its {what} {last}"
