"""The meta handler: takes operators' commands about caps, API keys and data centres."""

from collections.abc import Callable

from vcap_es.components.decisions import access, centre, meta
from vcap_es.components.decisions.access import AccessCommand, CreateKey, RevokeKey
from vcap_es.components.decisions.centre import CentreCommand
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import Define, MetaCommand
from vcap_es.events.facts import Definition, Fact
from vcap_es.events.patterns import best_match
from vcap_es.projections.states.data_centre import DataCentre

OperatorCommand = MetaCommand | AccessCommand | CentreCommand

CAPS_MAX = 1_000_000
"""Templates define no more caps than this, whoever asks for how many ids."""


class MetaHandler:
    """Decides commands against the state and records what follows."""

    def __init__(self, state: DataCentre, record: Callable[[Fact], None], dc: str) -> None:
        self._state, self._record, self._dc = state, record, dc

    def handle(self, command: OperatorCommand) -> Denied | None:
        """Record what follows from `command`, or say why nothing does."""
        decided = self._decide(command)
        if isinstance(decided, Denied):
            return decided
        for fact in decided:
            self._record(fact)
        return None

    def define_by_template(self, cap: str) -> bool:
        """Define `cap` by the most specific template that matches it; whether there was one."""
        template = self._template_for(cap)
        if template is None or len(self._state.metas) >= CAPS_MAX:
            return False
        return self.handle(Define(cap=cap, definition=template)) is None

    def _decide(self, command: OperatorCommand) -> list[Fact] | Denied:
        if isinstance(command, CreateKey | RevokeKey):
            return access.decide(self._state, command)
        if isinstance(command, CentreCommand):
            return centre.decide(self._state, self._dc, command)
        return meta.decide(self._state, self._dc, command)

    def _template_for(self, cap: str) -> Definition | None:
        match = best_match(self._state.templates, cap)
        return self._state.templates[match] if match is not None else None
