"""Lookups: what is left of a cap, asked of the master and answered when it has spoken."""

from collections.abc import Callable

from vcap_es.components.messages.outcomes import Level, Refused
from vcap_es.components.messages.refusals import unavailable
from vcap_es.components.timing_wheel import Alarm
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.slice import Slice
from vcap_es.events.units import MS


class Lookups:
    """Who looks a cap up, until the master has answered or the time is over."""

    def __init__(
        self, holdings: SliceEngine, reply: Callable[[int, Level | Refused], None]
    ) -> None:
        self._holdings, self._reply = holdings, reply
        self._asked: dict[int, tuple[str, Alarm]] = {}
        holdings.heard = self._heard
        holdings.noted = self._noted

    def ask(self, token: int, cap: str) -> None:
        """Answer `token` with a level or a refusal."""
        if len(self._asked) >= self._holdings.limits.waiting_max:
            self._reply(token, unavailable(cap, "too many lookups wait here"))
            return
        at_ns = self._holdings.now_ns + self._holdings.limits.max_wait_ms * MS
        alarm = self._holdings.alarm(at_ns, lambda _: self._give_up(token))
        self._asked[token] = (cap, alarm)
        self._look(token, cap)

    def _look(self, token: int, cap: str) -> None:
        refusal = self._holdings.refusal_of(cap)
        found = self._holdings.slice_at(cap)
        if refusal is not None:
            self._answer(token, refusal)
        elif found is not None:
            found.lookups[token] = None
            self._holdings.reporter.hunger(found)
        else:
            self._holdings.table.watch(cap).lookups[token] = None
            self._holdings.reporter.hunger_for(cap)

    def _heard(self, found: Slice) -> None:
        """The master has spoken of this slice."""
        for token in list(found.lookups):
            self._answer(token, self._level(found))

    def _noted(self, cap: str) -> None:
        """The master has told what this cap is."""
        watched = self._holdings.table.watch(cap)
        waiting, watched.lookups = watched.lookups, {}
        for token in waiting:
            self._look(token, cap)

    def _give_up(self, token: int) -> None:
        cap = self._asked[token][0]
        found = self._holdings.slice_at(cap)
        if found is not None:
            self._answer(token, self._level(found))
        else:
            self._answer(token, unavailable(cap, "the primary master did not answer in time"))

    def _answer(self, token: int, answer: Level | Refused) -> None:
        cap, alarm = self._asked.pop(token)
        self._holdings.alarms.call_off(alarm)
        watched = self._holdings.table.watched.get(cap)
        if watched is not None:
            watched.lookups.pop(token, None)
            for found in watched.slices.values():
                found.lookups.pop(token, None)
        self._reply(token, answer)

    def _level(self, found: Slice) -> Level:
        notice = self._holdings.notice_of(found.cap)
        here = found.balance(self._holdings.cells)
        return Level(
            cap=found.cap,
            here=here,
            remaining=here + found.pool_available,
            total=found.total,
            start=found.start,
            resets_at=found.end,
            name=notice.interval if notice else "",
            mode=notice.mode if notice else "hard",
            withheld=found.pool_withheld,
        )
