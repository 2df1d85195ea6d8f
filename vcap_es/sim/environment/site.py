"""The ground that all processes of a simulated data centre stand on."""

from collections.abc import Callable
from itertools import count
from random import Random

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.sim.environment.network import US, Faults, Network, Party
from vcap_es.sim.environment.oracle import Oracle
from vcap_es.sim.environment.scheduler import Scheduler, Streams

NOON = 1_767_268_800_000_000
"""2026-01-01 12:00 UTC, in microseconds."""


class Site:
    """Time, links, randomness and what is known to be true; and who there is.

    `watchers` are called with each server when it has done something. `say` prints what happens,
    where somebody wants to read it.
    """

    def __init__(
        self,
        *,
        seed: int,
        now: int,
        faults: Faults,
        timings: Timings,
        dc: str,
        cluster: str,
        scheduler: Scheduler | None,
        window: LogWindow = WINDOW,
        first_id: int,
    ) -> None:
        self.began_us = now
        self.timings, self.window = timings, window
        self.dc, self.cluster = dc, cluster
        self.forward: Callable[[str, bytes], None] | None = None
        self.acknowledged: Callable[[int], None] | None = None
        self.scheduler = scheduler or Scheduler()
        self.streams = Streams(seed)
        self.random = Random(seed)
        self.network = Network(self.scheduler, self.streams.net, faults)
        self.oracle = Oracle()
        self.master_parties: list[Party] = []
        self.tokens = count(1)
        self.command_answers: dict[int, object] = {}
        self.closings: list[str] = []
        self.may_abandon = False
        self.watchers: list[Callable[[object], None]] = []
        self.elections = self.crashes = 0
        self.say: Callable[[str], None] | None = None
        self._ids = count(first_id)

    @property
    def faults(self) -> Faults:
        """How bad links and disks are now."""
        return self.network.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.network.faults = faults

    @property
    def now_us(self) -> int:
        """True time: microseconds UTC, as a perfect wall clock has it."""
        return self.began_us + self.scheduler.now_ns // US

    @now_us.setter
    def now_us(self, instant: int) -> None:
        """Let it be that late at once: what was due in between happens now."""
        self.scheduler.now_ns = (instant - self.began_us) * US

    def new_id(self) -> str:
        """What no other call gives."""
        return f"{next(self._ids):04x}"

    def fsync_ns(self, slowness: int) -> int:
        """How long the next fsync takes."""
        return self._disk_ns(self.faults.fsync_us_max, slowness)

    def read_ns(self, slowness: int) -> int:
        """How long the next reading of older events takes."""
        return self._disk_ns(self.faults.read_us_max or self.faults.fsync_us_max, slowness)

    def _disk_ns(self, us_max: int, slowness: int) -> int:
        return (int(self.streams.disk.random() * us_max) + 1) * US * slowness

    def spawn(self, slot: int) -> None:
        """A leading master starts the process of another slot."""

    def note(self, who: str, what: object) -> None:
        """Say what happened, if anybody listens."""
        if self.say is not None:
            self.say(f"{self.scheduler.now_ns / 1e9:10.6f} {who:4} {what}")
