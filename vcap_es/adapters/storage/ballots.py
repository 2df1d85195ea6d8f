"""Where a voter keeps its ballot."""

from secrets import token_hex
from typing import Protocol

from vcap_es.components.consensus.voter import Ballot, founded
from vcap_es.components.decisions.primacy import master_id


class Ballots(Protocol):
    """A place for one ballot."""

    @property
    def ballot(self) -> Ballot:
        """The ballot that was kept last."""
        ...

    def keep(self, ballot: Ballot) -> None:
        """Replace the ballot; it is durable when this returns."""
        ...


class MemoryBallots:
    """A ballot that nobody else relies on: that of a master which is the only voter.

    With the name of a `cluster`, it is that of the master who founds it.
    """

    def __init__(self, slot: int = 0, cluster: str = "") -> None:
        ballot = Ballot(node=master_id(slot, token_hex(16)), start=1)
        self._ballot = founded(ballot, cluster) if cluster else ballot

    @property
    def ballot(self) -> Ballot:
        """See `Ballots`."""
        return self._ballot

    def keep(self, ballot: Ballot) -> None:
        """See `Ballots`."""
        self._ballot = ballot
