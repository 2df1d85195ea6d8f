"""The meta handler: takes operators' commands about caps, API keys and data centres."""

from collections.abc import Callable

from vcap_es.components.decisions import access, centre, meta, placement, restore
from vcap_es.components.decisions.access import AccessCommand, CreateKey, RevokeKey
from vcap_es.components.decisions.centre import CentreCommand, template_home
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import Define, MetaCommand
from vcap_es.components.decisions.placement import PlacementCommand
from vcap_es.components.decisions.restore import RestoreCommand
from vcap_es.events.facts import (
    CentreChanged,
    Fact,
    HomeMoved,
    MetaChanged,
    MetaDefined,
    MetaPaused,
    MetaResumed,
    MetaRetired,
    PlacementChanged,
    TemplateDefined,
    TemplateRetired,
)
from vcap_es.events.facts.bounds import COUNT_MAX
from vcap_es.events.patterns import best_match
from vcap_es.projections.states.data_centre import DataCentre

OperatorCommand = MetaCommand | AccessCommand | CentreCommand | PlacementCommand | RestoreCommand

CAPS_MAX = 1_000_000
"""Templates define no more caps than this, whoever asks for how many ids."""


class MetaHandler:
    """Decides commands against the state and records what follows."""

    def __init__(
        self,
        state: DataCentre,
        record: Callable[[Fact], None],
        *,
        dc: str,
        await_cap: Callable[[str, str], None],
    ) -> None:
        """`await_cap` lets another data centre (its second argument) define a cap."""
        self._state, self._record, self._dc, self._await_cap = state, record, dc, await_cap

    def handle(self, command: OperatorCommand) -> Denied | None:
        """Record what follows from `command`, or say why nothing does."""
        decided = self._decide(command)
        if isinstance(decided, Denied):
            return decided
        if any(map(self._is_counted_out, decided)):
            detail = "it has changed so often that its changes cannot be counted: use another name"
            return Denied(code="counted_out", detail=detail)
        for fact in decided:
            self._record(fact)
        return None

    def _is_counted_out(self, fact: Fact) -> bool:
        """Whether others would not believe the version or stamp of what is decided."""
        match fact:
            case TemplateDefined() | TemplateRetired():
                return self._state.template_stamp(fact.match).count >= COUNT_MAX
            case CentreChanged() | PlacementChanged():
                return fact.stamp.count > COUNT_MAX
            case (
                MetaDefined()
                | MetaChanged()
                | MetaPaused()
                | MetaResumed()
                | MetaRetired()
                | HomeMoved()
            ):
                return fact.version.number > COUNT_MAX
        return False

    def define_by_template(self, cap: str) -> bool:
        """Define `cap`, if there is no such cap, by the most specific template that matches it.

        One that was decided at another data centre defines caps there. Whether `cap` is
        defined here now, or known not to be: False where that is still to be heard.
        """
        if cap in self._state.metas or len(self._state.metas) >= CAPS_MAX:
            return True
        match = best_match(self._state.templates, cap)
        if match is None:
            return True
        home = template_home(self._state, self._dc, match)
        if home == self._dc:
            self.handle(Define(cap=cap, definition=self._state.templates[match]))
            return True
        self._await_cap(cap, home)
        return False

    def _decide(self, command: OperatorCommand) -> list[Fact] | Denied:
        if isinstance(command, CreateKey | RevokeKey):
            return access.decide(self._state, command)
        if isinstance(command, PlacementCommand):
            return placement.decide(self._state, self._dc, command)
        if isinstance(command, RestoreCommand):
            return restore.decide(self._state, command)
        if isinstance(command, CentreCommand):
            return centre.decide(self._state, self._dc, command)
        return meta.decide(self._state, self._dc, command)
