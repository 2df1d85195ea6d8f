"""A data centre in one thread, on virtual time: the real cores, on simulated links and disks.

Messages go through their real encoding. Masters and servers lose their processes, their machines
and their links; what is acknowledged is compared with one truth all the while.
"""

from collections.abc import Callable
from typing import TypeVar

from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.window import WINDOW, LogWindow
from vcap_es.components.decisions.meta import Define
from vcap_es.components.messages.client import Command, Consume, Idempotency
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.meta_handler import OperatorCommand
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.facts import Definition, Fact
from vcap_es.projections.states.data_centre import DataCentre, Fold
from vcap_es.projections.states.places import Pool
from vcap_es.sim.environment.network import US, Faults
from vcap_es.sim.environment.scheduler import Scheduler
from vcap_es.sim.environment.site import NOON, Site
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.servers import ServerProcess

F = TypeVar("F")


class World(Site):
    """One or two masters and their servers, the first of which are witnesses; on virtual time."""

    def __init__(
        self,
        servers: int,
        *,
        seed: int = 0,
        now: int = NOON,
        faults: Faults | None = None,
        limits: Limits | None = None,
        masters: int = 1,
        witnesses: int = 0,
        timings: Timings | None = None,
        spawns: bool = False,
        dc: str = "dc1",
        cluster: str = "simulated",
        scheduler: Scheduler | None = None,
        window: LogWindow = WINDOW,
        first_id: int = 1,
    ) -> None:
        super().__init__(
            seed=seed,
            now=now,
            faults=faults or Faults(),
            timings=timings or Timings(),
            dc=dc,
            cluster=cluster,
            scheduler=scheduler,
            window=window,
            first_id=first_id,
        )
        self.steps: list[Callable[[], None]] = []
        self.masters = [
            MasterProcess(self, slot, is_founder=slot == 0, spawns=spawns)
            for slot in range(masters)
        ]
        for master in self.masters:
            master.start()
        self.servers = [
            ServerProcess(self, f"s{index}", limits or Limits(), is_witness=index < witnesses)
            for index in range(servers)
        ]

    # time

    def later(self, delay_us: int, call: Callable[[], None]) -> None:
        """Call something in `delay_us` microseconds."""
        self.scheduler.later(delay_us * US, call)

    def run(self, duration_us: int) -> None:
        """Let time pass."""
        until_ns = self.scheduler.now_ns + duration_us * US
        while self.scheduler.step(until_ns):
            for step in self.steps:
                step()

    # masters

    @property
    def leader(self) -> MasterProcess | None:
        """The master that leads the highest epoch."""
        leading = [each for each in self.masters if each.core and each.core.leadership]
        return max(leading, key=lambda each: each.core.epoch if each.core else 0, default=None)

    @property
    def master(self) -> PrimaryMaster | None:
        """What leads, inside."""
        found = self.leader
        return found.core.primary if found is not None and found.core is not None else None

    def kill_master(self) -> None:
        """End all masters at once: what is not on their disks is gone."""
        for each in self.masters:
            each.kill()

    def start_master(self) -> None:
        """Start all masters that do not run."""
        for each in self.masters:
            each.start_unless_running()

    def spawn(self, slot: int) -> None:
        """See `Site`."""
        self.masters[slot].start_unless_running()

    @property
    def cut(self) -> set[str]:
        """The names of those whom nobody can reach."""
        return self.network.apart

    # operators

    def order(self, command: OperatorCommand, actor: str = "operator") -> int:
        """Give an operator's command to the leader; the token under which its answer will be."""
        leader, token = self.leader, next(self.tokens)
        assert leader is not None
        assert leader.core is not None
        leader.core.command(token, command, actor, "", leader.moment)
        leader.flush()
        return token

    def command(self, command: OperatorCommand) -> object:
        """An operator's command, and its answer."""
        token = self.order(command)
        self.run(5_000)
        return self.command_answers.get(token)

    def define(self, cap: str, total: int, **fields: object) -> object:
        """Define a cap."""
        return self.command(Define(cap=cap, definition=Definition(total=total, **fields)))  # type: ignore[arg-type]  # the caller's fields

    # clients

    def ask(
        self, server: ServerProcess, command: Command, idempotency: Idempotency | None = None
    ) -> object:
        """What a client is answered."""
        token = server.submit(command, idempotency)
        return self.answer(server, token)

    def answer(self, server: ServerProcess, token: int) -> object:
        """The answer to an earlier call, when it is there."""
        for _ in range(1000):
            if token in server.answers:
                return server.answers[token]
            self.run(1000)
        raise AssertionError(f"{server.name} did not answer call {token}")

    def consume(self, server: ServerProcess, cap: str, amount: int = 1) -> object:
        """What a client is answered to a consume of exactly this amount."""
        return self.ask(server, Consume(cap=cap, minimum=amount, maximum=amount))

    def take_all(self, cap: str, servers: "list[ServerProcess] | None" = None) -> int:
        """The units that callers at these servers get, one by one, until all are refused."""
        asked, taken = list(servers or self.servers), 0
        while asked:
            server = self.random.choice(asked)
            if isinstance(self.consume(server, cap), Consumed):
                taken += 1
            else:
                asked.remove(server)
        return taken

    # what is true

    @property
    def state(self) -> DataCentre:
        """The live state of the leading master."""
        assert self.master is not None
        return self.master.state

    def pool(self, cap: str, number: int = 0) -> Pool:
        """The pool of an interval that is not closed."""
        found = self.state.interval(cap, number)
        assert found is not None, f"{cap} {number} is closed or was never open"
        return found.pool

    @property
    def log(self) -> list[Fact]:
        """All facts that are acknowledged."""
        return self.oracle.facts

    @property
    def committed(self) -> Fold:
        """The state that the acknowledged facts give."""
        return self.oracle.fold

    def facts(self, kind: type[F]) -> list[F]:
        """All facts of one kind that are on the log."""
        return [fact for fact in self.log if isinstance(fact, kind)]

    def replay(self) -> Fold:
        """The state that the log gives from the beginning."""
        fold = Fold()
        for fact in self.log:
            fold.evolve(fact)
        return fold
