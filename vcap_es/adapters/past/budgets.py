"""How much of the reading of the past each API key may have."""

from msgspec import Struct

from vcap_es.errors import RequestRefused
from vcap_es.settings import ReadingSettings

BUSY_MS = 1000
"""When to ask again where too much is under way: nobody knows when it ends."""


class _Spent(Struct):
    """`debt_us` is what was used of the budget as of `at_ns`; it is paid off as time goes by."""

    under_way: int = 0
    debt_us: int = 0
    at_ns: int = 0


class Budgets:
    """Counts what is under way and what it has cost, for each key and for all.

    A reading that has begun is never cut short; its key waits the longer with the next one.
    """

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._spent: dict[str, _Spent] = {}
        self.under_way = 0

    def admit(self, key: str, now_ns: int) -> None:
        """One more reading of `key` begins. Raises RequestRefused where it has to wait."""
        self._forget(now_ns)
        allowed = self._settings
        spent = self._spent.get(key) or _Spent(at_ns=now_ns)
        if self.under_way >= allowed.readings_max:
            detail = (
                f"{allowed.readings_max} readings of the past are under way here, the most there"
                " may be: try another master, or again"
            )
            raise RequestRefused("busy", detail, retry_after_ms=BUSY_MS)
        if spent.under_way >= allowed.readings_per_key_max:
            detail = (
                f"{spent.under_way} readings of the past by your key are under way, the most it"
                " may have: wait for one of them"
            )
            raise RequestRefused("reading_budget", detail, retry_after_ms=BUSY_MS)
        if wait_ms := self.wait_ms(key, now_ns):
            detail = (
                f"your key has read {allowed.cpu_seconds_per_key} CPU seconds of the past ahead of"
                " its share: ask for less of it, or later"
            )
            raise RequestRefused("reading_budget", detail, retry_after_ms=wait_ms)
        spent.under_way += 1
        self.under_way += 1
        self._spent[key] = spent

    def leave(self, key: str) -> None:
        """A reading that was admitted is over."""
        self._spent[key].under_way -= 1
        self.under_way -= 1

    def charge(self, key: str, cost_us: int, now_ns: int) -> None:
        """A reading of `key` has cost so much CPU time more."""
        spent = self._spent.setdefault(key, _Spent(at_ns=now_ns))
        spent.debt_us = self._debt(spent, now_ns) + cost_us
        spent.at_ns = now_ns

    def wait_ms(self, key: str, now_ns: int) -> int:
        """How long the budget of `key` is used up yet; 0 where there is some left."""
        spent = self._spent.get(key)
        if spent is None:
            return 0
        over_us = self._debt(spent, now_ns) - self._settings.cpu_seconds_per_key * 1_000_000
        if over_us < 0:
            return 0
        return int(over_us / self._settings.cpu_share_per_key / 1000) + 1

    def _debt(self, spent: _Spent, now_ns: int) -> int:
        paid_us = (now_ns - spent.at_ns) / 1000 * self._settings.cpu_share_per_key
        return max(0, spent.debt_us - int(paid_us))

    def _forget(self, now_ns: int) -> None:
        """Keep nothing of keys that have their whole budget."""
        done = [
            key
            for key, spent in self._spent.items()
            if not spent.under_way and not self._debt(spent, now_ns)
        ]
        for key in done:
            del self._spent[key]
