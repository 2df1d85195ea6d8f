"""Several simulated data centres on one clock, and what their masters say to each other.

A message between them may be lost, come twice, late or out of order, and finds whoever leads there
when it comes; where nobody leads, it is gone. Like a broker, the post keeps what was delivered
until it is acknowledged, and delivers it again where that takes too long.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from random import Random

from msgspec import Struct

from vcap_es.components.decisions.centre import AddCentre
from vcap_es.components.messages.centre import Movement, Sender
from vcap_es.components.messages.encoding import decode_between_centres
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.places import Pool
from vcap_es.sim.environment.network import US
from vcap_es.sim.environment.oracle import Oracle
from vcap_es.sim.environment.scheduler import Scheduler
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.world.invariants import Served, must, watch_closely
from vcap_es.sim.world.periods import Periods
from vcap_es.sim.world.world import World

REDELIVERY_US = 3_000_000
JOIN_STEP_US, JOIN_STEPS_MAX = 10_000, 1_000


class Delivery(Struct, frozen=True):
    """What was delivered, and is not acknowledged."""

    sender: Sender
    target: str
    data: bytes

    def is_taken(self, state: DataCentre) -> bool:
        """Whether what it moves is in `state`; what moves nothing is."""
        message = decode_between_centres(self.data)
        if not isinstance(message, Movement):
            return True
        about = message.about
        interval = state.interval(about.cap, about.number)
        if interval is None:
            meta = state.metas.get(about.cap)
            return meta is not None and about.number < meta.closed_before
        return interval.pool.received.get(self.sender.centre, 0) >= message.moved


class MailConditions(Struct):
    """How bad the way between data centres is: what is lost or repeated, of a hundred; delays."""

    lost_percent: int = 0
    repeated_percent: int = 0
    delay_us: tuple[int, int] = (1_000, 1_000)


class SimulatedCentres:
    """The data centres by name, and the post between them."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        servers: int = 1,
        seed: int = 0,
        now: int = NOON,
        limits: Limits | None = None,
        masters: int = 1,
        witnesses: int = 0,
        post: MailConditions | None = None,
        members: Sequence[str] | None = None,
    ) -> None:
        """All of `names` run; of them all, or those of `members`, share caps from the beginning."""
        self.scheduler = Scheduler()
        self.post = post or MailConditions()
        self.cut: set[tuple[str, str]] = set()
        self.carried = self.lost = self.redelivered = 0
        self._deliveries: dict[int, Delivery] = {}
        self._last = 0
        self._random = Random(f"{seed} post")
        self.worlds: dict[str, World] = {}
        self.served: list[Served] = []
        self._gone: list[World] = []
        self._oracles: list[Oracle] = []
        self.periods = Periods(lambda: self._oracles)
        self._begin = partial(
            World,
            servers,
            limits=limits,
            masters=masters,
            witnesses=witnesses,
            scheduler=self.scheduler,
        )
        for index, name in enumerate(names):
            self._found(name, seed + index, now)
        self._join(self.worlds if members is None else members)

    def _found(self, name: str, seed: int, now: int) -> None:
        cluster = f"{name}-{len(self._gone)}"
        world = self.worlds[name] = self._begin(dc=name, seed=seed, now=now, cluster=cluster)
        self._oracles.append(world.oracle)
        self.served.append(watch_closely(world, self.periods))
        world.forward = self.forwarding(name)
        world.acknowledged = self._acknowledged

    def begin_anew(self, name: str, seed: int = 0) -> None:
        """All that a data centre had is gone, and somebody starts it with empty disks."""
        world = self.worlds[name]
        world.kill_master()
        for each in world.servers:
            each.kill()
        self._gone.append(world)
        self._found(name, seed, world.began_us)

    def _join(self, members: Collection[str]) -> None:
        """One data centre takes in all others; they hear of it before anything bad happens."""
        post, self.post = self.post, MailConditions()
        self._run_until(lambda: all(each.leader for each in self.worlds.values()))
        if members:
            first = self.worlds[next(iter(members))]
            for name in members:
                first.order(AddCentre(centre=name))
            self._run_until(
                lambda: all(self._knows(self.worlds[each], members) for each in members)
            )
        self.post = post

    def _knows(self, world: World, members: Collection[str]) -> bool:
        if world.leader is None:
            return False
        state, all_of_them = world.state, set(members)
        met = {*state.clusters, world.dc}
        return state.centres.keys() == all_of_them and met >= all_of_them

    def _run_until(self, is_so: Callable[[], bool]) -> None:
        for _ in range(JOIN_STEPS_MAX):
            if is_so():
                return
            self.run(JOIN_STEP_US)
        raise Violation("C8", "the data centres never knew each other")

    def __getitem__(self, name: str) -> World:
        return self.worlds[name]

    def run(self, duration_us: int) -> None:
        """Let time pass everywhere."""
        until_ns = self.scheduler.now_ns + duration_us * US
        while self.scheduler.step(until_ns):
            for world in self.worlds.values():
                for step in world.steps:
                    step()

    def define(self, at: str, cap: str, total: int, **fields: object) -> object:
        """Define a cap at one data centre."""
        return self.worlds[at].define(cap, total, **fields)

    def consume(self, at: str, cap: str, amount: int = 1, *, tries: int = 1) -> int:
        """The units that a client gets there, asking so often until it is told yes."""
        world = self.worlds[at]
        for _ in range(tries):
            if isinstance(world.consume(world.servers[0], cap, amount), Consumed):
                return amount
            self.run(100_000)
        return 0

    # ---- the post

    def forwarding(self, source: str) -> Callable[[str, bytes], None]:
        """How messages of the data centre of this name are carried."""

        def forward(target: str, data: bytes) -> None:
            copies = 1 + (self._random.randrange(100) < self.post.repeated_percent)
            for _ in range(copies):
                self._carry(source, target, data)

        return forward

    def _carry(self, source: str, target: str, data: bytes) -> None:
        self.carried += 1
        if (source, target) in self.cut or self._random.randrange(100) < self.post.lost_percent:
            self.lost += 1
            return
        delay_us = self._random.randint(*self.post.delay_us)
        master = self.worlds[source].master
        to = master.remote.cluster_of(target) if master is not None else ""
        delivery = Delivery(Sender(source, self.worlds[source].cluster, to), target, data)
        self.scheduler.later(delay_us * US, lambda: self._deliver(delivery))

    def _deliver(self, delivery: Delivery) -> None:
        leader = self.worlds[delivery.target].leader
        if leader is None or leader.core is None or leader.is_paused:
            self.lost += 1
            return
        self._last += 1
        number, messages = self._last, [decode_between_centres(delivery.data)]
        receiver = leader.core.forwarded(number, delivery.sender, messages, leader.moment)
        if receiver != "heard":
            self.lost += 1
            return
        if delivery.is_taken(leader.core.state):
            self._deliveries[number] = delivery
            self.scheduler.later(REDELIVERY_US * US, lambda: self._deliver_again(number))
        leader.flush()

    def _deliver_again(self, number: int) -> None:
        """The broker has waited long enough: who took it is gone."""
        delivery = self._deliveries.pop(number, None)
        if delivery is not None:
            self.redelivered += 1
            self._deliver(delivery)

    def _acknowledged(self, number: int) -> None:
        """An acknowledged message is forgotten: by then, what it brought must be durable."""
        delivery = self._deliveries.pop(number, None)
        if delivery is not None and not delivery.is_taken(
            self.worlds[delivery.target].committed.state
        ):
            raise Violation("C14", f"{delivery} was acknowledged before it was durable")

    # ---- what must hold

    def in_transit(self, cap: str, number: int) -> int:
        """Units on their way between data centres, as the acknowledged events have it."""
        pools = self._pools(cap, number)
        sent = sum(each.moved for pool in pools.values() for each in pool.sent.values())
        return sent - sum(sum(pool.received.values()) for pool in pools.values())

    def check(self) -> None:
        """C1, C2, C14: nothing is minted twice, served beyond the total, or received unsent."""
        self._check_served()
        keys = {
            (cap, interval.number)
            for world in self.worlds.values()
            for cap, meta in world.committed.state.metas.items()
            for interval in meta.intervals
        }
        for cap, number in keys:
            pools = self._pools(cap, number)
            minters = [name for name, pool in pools.items() if pool.minted]
            if len(minters) > 1:
                raise Violation("C1", f"{cap} {number} is minted by {minters}")
            for target, pool in pools.items():
                for source in pool.received.keys() & pools.keys():
                    known, sent = pool.received[source], pools[source].sent.get(target)
                    moved = sent.moved if sent is not None else 0
                    finding = f"{target} has {known} of {cap} {number}, {moved} were sent"
                    must(known <= moved, "C14", finding)

    def _check_served(self) -> None:
        worlds = [*self.worlds.values(), *self._gone]
        for key in {key for served in self.served for key in served.units}:
            units = sum(served.units.get(key, 0) for served in self.served)
            limit = max(world.oracle.minted_max.get(key, 0) for world in worlds)
            must(units <= limit, "C2", f"{key}: {units} served of {limit}")

    def _pools(self, cap: str, number: int) -> dict[str, Pool]:
        found = {
            name: world.committed.state.interval(cap, number) for name, world in self.worlds.items()
        }
        return {name: each.pool for name, each in found.items() if each is not None}
