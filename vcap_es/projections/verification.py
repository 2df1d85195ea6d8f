"""Whether a log is what was written, and its books are right.

Three checks go over each event: its link in the chain, the rules and equations of the independent
audit, and the fold that gives the live balances; at the end the books of both are compared.
"""

from collections.abc import Sequence

from msgspec import Struct

from vcap_es.errors import LogDamaged, ProjectionStopped
from vcap_es.events.chain import GENESIS, Stored, verify
from vcap_es.events.envelope import Recorded
from vcap_es.projections.audit import Audit
from vcap_es.projections.balances import amounts_of, balance_of
from vcap_es.projections.replay import evolve
from vcap_es.projections.states.data_centre import DataCentre, Fold


class Flaw(Struct, frozen=True, kw_only=True):
    """Something that is not as it must be, found at the event at `position`."""

    position: int
    rule: str
    detail: str


class Verification:
    """Feed it every event of a log, from the first on; then ask for the `flaws`.

    `position` and `link` are those of the last event whose link held.
    """

    def __init__(self) -> None:
        self.position, self.link = 0, GENESIS
        self._audit, self._fold = Audit(), Fold()
        self._stopped: list[Flaw] = []
        self.is_over = False
        """Whether nothing more can be said, because the chain is broken."""

    @property
    def state(self) -> DataCentre:
        """What is true after the last event that could be folded."""
        return self._fold.state

    def feed_links(self, stored: Sequence[Stored]) -> None:
        """Check the links of the next events; `feed_books` takes what they say."""
        for event in stored:
            try:
                self.link = verify([event], self.link)
            except LogDamaged as damage:
                self.broken(str(damage), event.position)
                return
            self.position = event.position

    def feed_books(self, events: Sequence[Recorded]) -> None:
        """Check what the next events say, as far as their links held."""
        for event in events:
            if event.position > self.position:
                return
            self._audit.feed(event)
            if not self._stopped:
                self._evolve(event)

    def broken(self, detail: str, position: int | None = None) -> None:
        """The log cannot be read any further than its last whole link, or this `position`.

        What else cannot be read behind the first break is no news.
        """
        if self.is_over:
            return
        self.is_over = True
        at = self.position if position is None else position
        self._stopped.append(Flaw(position=at, rule="chain", detail=detail))

    def flaws(self) -> list[Flaw]:
        """All that was found. Asked once, at the end: it compares the books of both."""
        if not self._stopped:
            metas = self._fold.state.metas.values()
            self._audit.compare(amounts_of(balance_of(meta) for meta in metas))
        found = [
            Flaw(position=each.position, rule=each.rule, detail=each.detail)
            for each in self._audit.findings
        ]
        return self._stopped + found

    def _evolve(self, event: Recorded) -> None:
        try:
            evolve(self._fold, event.position, event.fact)
        except ProjectionStopped as stop:
            self._stopped.append(Flaw(position=event.position, rule="fold", detail=str(stop)))
