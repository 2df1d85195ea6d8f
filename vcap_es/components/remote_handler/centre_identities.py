"""Which log each data centre writes, for ever; how two come to know that, and who is a namesake.

Every letter says which log its writer has, and which log it is for. Two data centres that do not
know each other answer until each has had a letter that was for its own log: only from then on they
take part with each other. So nothing counts that is of one that is gone, or was meant for it.

Who comes by a known name with another log has lost what that one had: it would have again what that
one has consumed, and open again what it has opened. It is a namesake, and not listened to.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from vcap_es.components.messages.centre import Sender
from vcap_es.events.facts import CentreIdentified, Fact
from vcap_es.projections.states.data_centre import DataCentre

NAMED_US = 60_000_000
"""A namesake is named for so long after it was heard."""

Meeting = Literal["known", "new", "mistaken", "namesake"]
"""Only who is known is listened to; the others are answered, so that both come to be known.

Who is mistaken takes this data centre for one that had its name. It may be so for ever, or only
until it has heard of this one.
"""


class CentreIdentities:
    """Tells the data centres that are known by their logs from others."""

    def __init__(self, state: DataCentre, record: Callable[[Fact], None], *, dc: str) -> None:
        """Whoever is known, the `state` knows; `record` who is met first."""
        self._state, self._record, self._dc = state, record, dc
        self._heard: dict[str, str] = {}
        self._namesakes: dict[str, tuple[str, int]] = {}

    def cluster_of(self, centre: str) -> str:
        """The log that letters to a data centre are meant for; "" where it was never heard."""
        return self._state.clusters.get(centre) or self._heard.get(centre, "")

    def namesakes(self, now: int) -> dict[str, str]:
        """Those that were heard lately, by the names they use, with why and what to do."""
        return {name: why for name, (why, at) in self._namesakes.items() if at >= now - NAMED_US}

    def meet(self, sender: Sender, now: int) -> Meeting:
        """Somebody says something: whether it is one that is known, and knows this one."""
        centre, own = sender.centre, self._state.primacy.cluster
        if self._state.clusters.get(centre, sender.cluster) != sender.cluster:
            if not self._state.is_lost(centre):
                what = f"who says to be {centre} has another log than {centre} had"
                self._name(centre, f"{what}: {_declare_lost(centre, 'here')}", now)
            return "namesake"
        self._heard[centre] = sender.cluster
        if sender.to not in ("", own):
            what = f"{centre} knows {self._dc} by another log than this one"
            self._name(centre, f"{what}: {_declare_lost(self._dc, 'there')}", now)
            return "mistaken"
        if not sender.to:
            return "new"
        if centre not in self._state.clusters:
            self._record(CentreIdentified(centre=centre, cluster=sender.cluster))
        return "known"

    def learn(self, centre: str, clusters: Mapping[str, str], now: int) -> None:
        """Take in which logs others write, as `centre` knows them.

        One that they know differently has lost its disks, and nobody can tell which log lives.
        """
        for name in sorted(clusters.keys() - {self._dc, centre}):
            known = self._state.clusters.get(name)
            if known is None:
                self._record(CentreIdentified(centre=name, cluster=clusters[name]))
            elif known != clusters[name] and not self._state.is_lost(name):
                what = f"{centre} knows {name} by another log than is known here"
                self._name(name, f"{what}: {_declare_lost(name, 'at both')}", now)
                if name not in self._state.disputed:
                    self._record(CentreIdentified(centre=name, cluster=clusters[name]))

    def _name(self, centre: str, why: str, now: int) -> None:
        self._namesakes[centre] = why, now


def _declare_lost(centre: str, where: str) -> str:
    lost = f"if the disks of {centre} were lost, declare it lost {where}"
    return f"{lost}, and start it under another name, with empty directories"
