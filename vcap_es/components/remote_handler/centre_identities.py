"""Which log each data centre writes, for ever; how two come to know that, and who is a namesake.

Every letter says which log its writer has, and which log it is for. Two data centres that do not
know each other answer until each has had a letter that was for its own log: only from then on they
take part with each other. So nothing counts that is of one that is gone, or was meant for it.

Who comes by a known name with another log has lost what that one had: it would have again what that
one has consumed, and open again what it has opened. It is a namesake, and not listened to. One
whose log was restored from a backup of the known one says so. It knocks, and so do the others at
it, until an operator at either side has readmitted the other.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct, structs

from vcap_es.components.messages.centre import Members, Sender
from vcap_es.events.clusters import is_restored_from
from vcap_es.events.facts import CentreIdentified, Fact
from vcap_es.projections.states.data_centre import DataCentre

NAMED_US = 60_000_000
"""Microseconds for which a namesake is named after it was heard, and one that knocks can be let in.
"""

Meeting = Literal["known", "new", "mistaken", "namesake", "restored"]
"""Only who is known is listened to; the others are answered, so that both come to be known.

Who is mistaken takes this data centre for one that had its name. It may be so for ever, or only
until it has heard of this one. Where one of the two was restored, both must be readmitted.
"""


class Knock(Struct, frozen=True, kw_only=True):
    """A data centre that was restored, or was met before this one was: how it is known, and is now.

    `before` is what its log was, as it says.
    """

    was: str
    cluster: str
    before: list[str] = []
    at: int

    @property
    def trouble(self) -> str:
        """Why it cannot be let in as the one that is known, "" where it can."""
        if self.cluster == self.was or self.was in self.before:
            return ""
        if not self.before:
            return f"it has not yet told what {self.cluster} was restored from: ask again"
        return f"{self.cluster} was restored from a backup, but not one of {self.was}, known here"


class CentreIdentities:
    """Tells the data centres that are known by their logs from others."""

    def __init__(self, state: DataCentre, record: Callable[[Fact], None], *, dc: str) -> None:
        """Whoever is known, the `state` knows; `record` who is met first."""
        self._state, self._record, self._dc = state, record, dc
        self._heard: dict[str, str] = {}
        self._namesakes: dict[str, tuple[str, int]] = {}
        self._knocks: dict[str, Knock] = {}

    def cluster_of(self, centre: str) -> str:
        """The log that letters to a data centre are meant for; "" where it was never heard."""
        return self._state.clusters.get(centre) or self._heard.get(centre, "")

    def namesakes(self, now: int) -> dict[str, str]:
        """Those that were heard lately, by the names they use, with why and what to do."""
        return {name: why for name, (why, at) in self._namesakes.items() if at >= now - NAMED_US}

    def knocking(self, now: int) -> dict[str, Knock]:
        """Those that can be readmitted, as they were heard lately, by name."""
        return {name: each for name, each in self._knocks.items() if each.at >= now - NAMED_US}

    def meet(self, sender: Sender, now: int) -> Meeting:
        """Somebody says something: whether it is one that is known, and knows this one."""
        centre, own = sender.centre, self._state.primacy.cluster
        apart = self._state.apart.get(centre)
        known = self._state.clusters.get(centre, apart)
        if known is not None and known != sender.cluster:
            return self._meet_another(sender, known, now)
        self._heard[centre] = sender.cluster
        if apart is not None and centre not in self._state.clusters:
            return self._knock(sender, apart, now)
        if sender.to in self._state.primacy.before:
            what = f"{centre} knows {self._dc} by its log before the restore"
            self._name(centre, f"{what}: let it in there, with `vcap dc readmit {self._dc}`", now)
            return "restored"
        if sender.to not in ("", own):
            what = f"{centre} knows {self._dc} by another log than this one"
            self._name(centre, f"{what}: {_declare_lost(self._dc, 'there')}", now)
            return "mistaken"
        if not sender.to:
            return "new"
        if centre not in self._state.clusters:
            self._record(CentreIdentified(centre=centre, cluster=sender.cluster))
        return "known"

    def _meet_another(self, sender: Sender, known: str, now: int) -> Meeting:
        """By the name of a known one comes another log: restored from that one, or any other."""
        centre = sender.centre
        if self._state.is_lost(centre):
            return "namesake"
        if is_restored_from(sender.cluster, known):
            return self._knock(sender, known, now)
        if is_restored_from(known, sender.cluster):
            what = f"somebody writes as {centre} from its log before the restore"
            self._name(centre, f"{what}: if it runs still, stop it", now)
            return "namesake"
        what = f"who says to be {centre} has another log than {centre} had"
        self._name(centre, f"{what}: {_declare_lost(centre, 'here')}", now)
        return "namesake"

    def _knock(self, sender: Sender, known: str, now: int) -> Meeting:
        centre, before = sender.centre, self._knocks.get(sender.centre)
        if self._state.is_lost(centre):
            return "namesake"
        if before is None or before.cluster != sender.cluster:
            before = Knock(was=known, cluster=sender.cluster, at=now)
        self._knocks[centre] = structs.replace(before, was=known, at=now)
        return "restored"

    def knocked(self, centre: str, message: Members) -> None:
        """One that knocks tells what its log was until it was restored."""
        found = self._knocks.get(centre)
        if found is not None:
            self._knocks[centre] = structs.replace(found, before=message.before)

    def readmitted(self, centre: str) -> None:
        """It was let in."""
        self._knocks.pop(centre, None)
        self._namesakes.pop(centre, None)

    def learn(self, centre: str, clusters: Mapping[str, str], now: int) -> None:
        """Take in which logs others write, as `centre` knows them.

        One that they know differently has lost its disks, and nobody can tell which log lives; but
        where one log was restored from the other, each lets it in by an act of its own.
        """
        for name in sorted(clusters.keys() - {self._dc, centre}):
            known, theirs = self._state.clusters.get(name), clusters[name]
            if known is None:
                if name not in self._state.apart:
                    self._record(CentreIdentified(centre=name, cluster=theirs))
            elif known == theirs or self._state.is_lost(name) or is_restored_from(known, theirs):
                continue
            elif is_restored_from(theirs, known):
                what = f"{centre} has readmitted {name}, which was restored from a backup"
                self._name(name, f"{what}: let it in here too, with `vcap dc readmit {name}`", now)
            else:
                what = f"{centre} knows {name} by another log than is known here"
                self._name(name, f"{what}: {_declare_lost(name, 'at both')}", now)
                if name not in self._state.disputed:
                    self._record(CentreIdentified(centre=name, cluster=theirs))

    def _name(self, centre: str, why: str, now: int) -> None:
        self._namesakes[centre] = why, now


def _declare_lost(centre: str, where: str) -> str:
    lost = f"if the disks of {centre} were lost, declare it lost {where}"
    return f"{lost}, and start it under another name, with empty directories"
