"""Clients who never give up: each asks with its key until it is told yes, whatever happens.

So the end of a life is known before it begins, and no fault may change it (C6): of every cap
exactly what was demanded is spent, however often messages were lost, repeated or reordered.
"""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from msgspec import Struct

from vcap_es.components.decisions.meta import Define
from vcap_es.components.messages.client import Consume, Idempotency
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.events.facts import Definition
from vcap_es.events.units import MS
from vcap_es.projections.states.meta import Meta
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.life import REPORTS_US, Life
from vcap_es.sim.lives.profiles import EXACTLY, Profile
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

CAPS, TOTAL = ("c0", "c1"), 1_000_000
DEMANDS, ASKED_EVERY_MS = 150, 25
PATIENCE_MS = (120, 400)
STEPS_MAX, STEP_US = 300, 100_000


class Demand(Struct, frozen=True):
    """Somebody wants so many units of a cap at one server, once."""

    server: ServerProcess
    command: Consume
    key: Idempotency


class Demands:
    """All demands of one life, and which of them were met."""

    def __init__(self, world: World, seed: int) -> None:
        self.caps: list[str] = list(CAPS)
        self.asked = 0
        self.unmet: dict[Demand, None] = {}
        self.due = dict.fromkeys(CAPS, 0)
        self._world, self._random = world, Random(f"{seed}/demands")
        for number in range(DEMANDS):
            self._add(number)

    def _add(self, number: int) -> None:
        cap, amount = self._random.choice(CAPS), self._random.randint(1, 9)
        command = Consume(cap=cap, minimum=amount, maximum=amount)
        key = Idempotency(key=f"demand{number}", fingerprint=repr(command).encode())
        self.unmet[Demand(self._random.choice(self._world.servers), command, key)] = None
        self.due[cap] += amount

    def define(self) -> None:
        """Let the caps exist, with more than anybody asks for."""
        for cap in CAPS:
            self._world.order(Define(cap=cap, definition=Definition(total=TOTAL)))

    def are_defined(self, metas: Mapping[str, Meta]) -> bool:
        """Whether the caps are as they should be."""
        return metas.keys() >= set(CAPS)

    def go_on(self) -> None:
        """Let everybody ask, one after the other."""
        for number, demand in enumerate(self.unmet):
            self._later(number * ASKED_EVERY_MS, demand)

    def stop(self) -> None:
        """Nobody stops before the demand is met."""

    def _later(self, delay_ms: int, demand: Demand) -> None:
        ask = partial(demand.server.when_awake, partial(self._ask, demand))
        self._world.scheduler.later(delay_ms * MS, ask)
        patience_ms = delay_ms + self._random.randint(*PATIENCE_MS)
        self._world.scheduler.later(patience_ms * MS, partial(self._again, demand))

    def _ask(self, demand: Demand) -> None:
        self.asked += 1
        token = demand.server.submit(demand.command, demand.key)
        self._world.scheduler.later(PATIENCE_MS[0] * MS, partial(self._see, demand, token))

    def _see(self, demand: Demand, token: int) -> None:
        if isinstance(demand.server.answers.get(token), Consumed):
            self.unmet.pop(demand, None)

    def _again(self, demand: Demand) -> None:
        if demand in self.unmet:
            self._later(0, demand)


class ExactLife(Life):
    """A life that ends as its demands say."""

    def __init__(
        self,
        profile: Profile,
        seed: int,
        *,
        planned: list[Mishap] | None = None,
        safety_ms: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(profile, seed, planned=planned, safety_ms=safety_ms, say=say)
        self.demands = Demands(self.world, seed)
        self.clients = self.demands

    def _drain(self) -> None:
        """C6: of every cap that is spent which was demanded, and nothing else."""
        for _ in range(STEPS_MAX):
            if not self.demands.unmet:
                break
            self.world.run(STEP_US)
        else:
            raise Violation("C8", f"{len(self.demands.unmet)} demands are never met")
        self.world.run(2 * REPORTS_US)
        for cap, due in self.demands.due.items():
            places = self.world.pool(cap).places.values()
            spent = sum(each.spent - each.refunded for each in places)
            must(spent == due, "C6", f"of {cap} {spent} are spent, and {due} were demanded")


def live_exactly(seed: int) -> None:
    """Live one such life; raises `Violation` where its end is another."""
    ExactLife(EXACTLY, seed).live()
