"""A process on a machine: it is killed, started again and stopped in its tracks."""

from collections import deque
from collections.abc import Callable

from vcap_es.sim.environment.machines import Machine
from vcap_es.sim.environment.network import SimulatedLink
from vcap_es.sim.environment.site import Site
from vcap_es.sim.environment.violations import Violation

Call = Callable[[], None]


class SimulatedProcess:
    """What masters and servers have in common: lives, timers, an inbox while they are paused."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.machine = Machine(name, lambda: site.scheduler.now_ns, lambda: site.now_us)
        self.lives = 0
        self.is_running = self.is_paused = False
        self._inbox: deque[Call] = deque()

    # ---- what the network tells

    def heard(self, connection: SimulatedLink, data: bytes) -> None:
        """A message has come."""
        self.when_awake(lambda: self.on_message(connection, data))

    def ended(self, connection: SimulatedLink) -> None:
        """A connection is gone."""
        self.when_awake(lambda: self.on_end(connection))

    def on_message(self, connection: SimulatedLink, data: bytes) -> None:
        """Take in a message."""
        raise NotImplementedError

    def on_end(self, connection: SimulatedLink) -> None:
        """Take in that a connection is gone."""
        raise NotImplementedError

    # ---- time

    @property
    def now_ns(self) -> int:
        """The boot clock."""
        return self.machine.boot_ns

    def later(self, delay_ns: int, call: Call) -> None:
        """Call something in `delay_ns` of true time, unless this life is over by then."""
        life = self.lives

        def due() -> None:
            if life == self.lives:
                self.when_awake(call)

        self.site.scheduler.later(delay_ns, due)

    def when_awake(self, call: Call) -> None:
        """Call something now, or when a process that is paused goes on; never in a dead one."""
        if not self.is_running:
            return
        if self.is_paused:
            self._inbox.append(call)
            return
        try:
            call()
        except AssertionError:
            raise
        except Exception as error:
            raise Violation("core", f"{self.name} raised {error!r}") from error

    # ---- life and death

    def begin_life(self) -> None:
        """The process runs; what was due for the one before it is not for this one."""
        self.lives += 1
        self.is_running, self.is_paused = True, False
        self._inbox.clear()

    def end_life(self, *, is_power_lost: bool = False) -> None:
        """The process is gone at once; who is connected hears so, unless the machine is gone."""
        self.is_running = self.is_paused = False
        self.machine.is_up = not is_power_lost
        self._inbox.clear()
        self.site.network.drop(self, is_silent=is_power_lost)

    def pause(self) -> None:
        """Stop in its tracks: the clocks go on, and what comes in queues up."""
        self.is_paused = self.is_running

    def go_on(self) -> None:
        """Take in what has queued up."""
        self.is_paused = False
        while self._inbox and self.is_running and not self.is_paused:
            self.when_awake(self._inbox.popleft())
