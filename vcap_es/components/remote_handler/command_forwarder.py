"""Carries operators' commands to the data centre that decides, and its answers back.

An answer waits until what was decided is known here too, so that whoever asked can read it.
"""

from collections.abc import Callable
from itertools import count

from msgspec import Struct

from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import CapCommand
from vcap_es.components.messages.centre import BetweenCentres, CommandAnswer, CommandRequest
from vcap_es.events.facts import Fact, Version
from vcap_es.projections.states.data_centre import DataCentre

CARRY_US = 5_000_000
"""Microseconds without an answer after which a data centre counts as out of reach."""

HOPS_MAX = 3
CARRIED_MAX = 1_000

Conclude = Callable[[int, CommandAnswer], None]
"""Takes (token, what the home has answered)."""


class Carried(Struct):
    """A command that another data centre decides; `facts` are what it recorded, when it has."""

    token: int
    home: str
    command: CapCommand
    actor: str
    correlation: str
    until: int
    hops: int = 0
    answer: CommandAnswer | None = None


class CommandForwarder:
    """The commands that are under way to other data centres, in the memory of one epoch."""

    def __init__(
        self,
        state: DataCentre,
        *,
        dc: str,
        epoch: int,
        tell: Callable[[str, BetweenCentres], None],
        conclude: Conclude,
        deny: Callable[[int, Denied], None],
    ) -> None:
        """`conclude` or `deny` answers the token of each command, once.

        Numbers begin with what of the `epoch` fits, so that no late answer is taken for that of
        another one.
        """
        self._state, self._tell, self._conclude, self._deny = state, tell, conclude, deny
        self._dc, self._numbers = dc, count(epoch % (1 << 30) << 32)
        self._carried: dict[int, Carried] = {}

    def carry(
        self, token: int, home: str, command: CapCommand, actor: str, correlation: str, now: int
    ) -> None:
        """Let the data centre `home` decide `command`."""
        if self._state.is_lost(home):
            self._deny(token, _lost(home))
            return
        if len(self._carried) >= CARRIED_MAX:
            self._deny(token, _unreachable(home, "too many commands are under way to it"))
            return
        self._send(Carried(token, home, command, actor, correlation, now + CARRY_US))

    def answered(self, centre: str, answer: CommandAnswer) -> None:
        """Another data centre has decided."""
        carried = self._carried.get(answer.number)
        if carried is None or carried.home != centre or carried.answer is not None:
            return
        if answer.denied is None:
            carried.answer = answer
            self._conclude_if_known(answer.number, carried)
            return
        del self._carried[answer.number]
        if answer.denied.home not in ("", self._dc) and carried.hops < HOPS_MAX:
            carried.home, carried.hops = answer.denied.home, carried.hops + 1
            self._send(carried)
        else:
            self._deny(carried.token, answer.denied)

    def learned(self, cap: str) -> None:
        """The definition of `cap` has changed here."""
        for number, carried in list(self._carried.items()):
            if carried.command.cap == cap:
                self._conclude_if_known(number, carried)

    def step(self, now: int) -> None:
        """Give up what takes too long."""
        while self._carried:
            number, carried = next(iter(self._carried.items()))
            if carried.until > now:
                return
            del self._carried[number]
            if carried.answer is not None:
                self._conclude(carried.token, carried.answer)
            else:
                seconds = CARRY_US // 1_000_000
                word = f"it did not answer within {seconds} s, so it may have been done or not"
                self._deny(carried.token, _unreachable(carried.home, word))

    def next_due(self) -> int | None:
        """When `step` is wanted next, in microseconds UTC; None where nothing is under way."""
        first = next(iter(self._carried.values()), None)
        return first.until if first is not None else None

    def _send(self, carried: Carried) -> None:
        number = next(self._numbers)
        self._carried[number] = carried
        ask = CommandRequest(
            number=number,
            command=carried.command,
            actor=carried.actor,
            correlation=carried.correlation,
            until=carried.until,
        )
        self._tell(carried.home, ask)

    def _conclude_if_known(self, number: int, carried: Carried) -> None:
        answer = carried.answer
        if answer is None:
            return
        versions = [version for each in answer.facts if (version := _version_in(each))]
        meta = self._state.metas.get(carried.command.cap)
        if versions and (meta is None or meta.version < max(versions)):
            return
        del self._carried[number]
        self._conclude(carried.token, answer)


def _version_in(fact: Fact) -> Version | None:
    return getattr(fact, "version", None)


def _lost(home: str) -> Denied:
    detail = f"{home} decides this, and is lost: name its heir (vcap dc lose {home} --heir NAME)"
    return Denied(code="home_unreachable", detail=detail)


def _unreachable(home: str, why: str) -> Denied:
    detail = f"{home} decides this, and {why}: ask again, here or there"
    return Denied(code="home_unreachable", detail=detail)
