"""Whoever sends or receives a transfer dies at each of its steps, again and again.

A step is decided, becomes durable, is told, and is acknowledged to the broker. Between any two of
them the master that takes it dies here; or what it tells leaves when it is deposed; or the broker
loses all that it has.
"""

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Literal, get_args

from msgspec import Struct

from vcap_es.components.messages.centre import Movement, OfAnInterval, Receipt
from vcap_es.components.messages.encoding import decode_between_centres
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.interval import Sharing
from vcap_es.sim.environment.network import US
from vcap_es.sim.world.centres import Delivery, SimulatedCentres
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.world import World

Point = Literal[
    "sent, not durable",
    "sent, not published",
    "sent, publishing",
    "sent, published once deposed",
    "received, not durable",
    "received, receipt not published",
    "received, receipt published, not acknowledged",
    "received, acknowledged, receipt lost",
    "settled, not durable",
    "settled, not acknowledged",
    "broker empty",
]
POINTS: tuple[Point, ...] = get_args(Point)

SPREAD = 3
"""So much more often may one crash have happened than another one."""

SIDES = ("minter", "other")
"""The data centre that has opened the interval, or another one."""

PATIENCE_US = 1_000_000
"""A crash that finds no such step for so long is exchanged for another one."""

AWAY_US = (20_000, 300_000, 1_500_000)
LATE_US = 3_000_000
"""What leaves so late finds that another master leads."""

EMPTY_US = 200_000
"""What was on its way when the broker lost everything would have come by then."""


def step_at(point: Point, side: str) -> str:
    """How a crash is called where it is counted."""
    return f"{point} ({side})"


STEPS = [step_at(point, side) for point in POINTS for side in SIDES]


class Armed(Struct):
    """The next crash of a data centre; `is_lost` when its last receipt was lost."""

    point: Point
    since: int
    is_lost: bool = False


class CrashingCentres(SimulatedCentres):
    """Data centres each of which has a crash ahead, as soon as they are armed."""

    _armed: dict[str, Armed] | None = None
    _dying: frozenset[str] = frozenset()
    _empty_until_ns = 0

    def arm(self, random: Random, happened: dict[str, int]) -> None:
        """From now on masters die at steps of transfers; `happened` counts them."""
        self._nemesis, self._happened = random, happened
        self._counts = dict.fromkeys(POINTS, 0)
        self._armed = {name: self._any() for name in self.worlds}
        self._told: dict[tuple[str, str, str, int], int] = {}
        for world in self.worlds.values():
            world.steps.append(partial(self._look, world))

    def disarm(self) -> None:
        """Nobody dies any more."""
        self._armed = None

    def _any(self) -> Armed:
        """One of those that have happened least so far."""
        least = min(self._counts.values())
        points = [point for point, times in self._counts.items() if times <= least + SPREAD]
        return Armed(self._nemesis.choice(points), self.scheduler.now_ns)

    def _waits_for(self, name: str, point: Point) -> bool:
        return self._armed is not None and self._armed[name].point == point

    def _happens(self, name: str, minter: str, *, dies: bool = True) -> None:
        """Count it, and let the master die that leads there."""
        assert self._armed is not None
        world = self.worlds[name]
        point = self._armed[name].point
        self._counts[point] += 1
        what = step_at(point, "minter" if minter in ("", name) else "other")
        self._happened[what] = self._happened.get(what, 0) + 1
        world.note("nemesis", what)
        self._armed[name] = self._any()
        if dies and world.leader is not None:
            self._dying |= {name}
            world.later(self._nemesis.choice(AWAY_US), world.leader.start_unless_running)
            world.later(0, partial(self._dies, name, world.leader))

    def _dies(self, name: str, master: MasterProcess) -> None:
        """Not amid its outputs: what is durable must be known. Nothing of it leaves since then."""
        self._dying -= {name}
        master.kill()

    def _happens_if(self, name: str, point: Point, minter: str) -> bool:
        is_so = self._waits_for(name, point)
        if is_so:
            self._happens(name, minter)
        return is_so

    # ---- a step is decided

    def _look(self, world: World) -> None:
        if self._armed is None:
            return
        if self.scheduler.now_ns - self._armed[world.dc].since > PATIENCE_US * US:
            self._armed[world.dc] = self._any()
        leader = world.leader
        if self._waits_for(world.dc, "sent, not durable") and leader and leader.core:
            for minter in _undurable(leader.core.state, world.committed.state):
                self._happens(world.dc, minter)
                return

    # ---- it is told

    def _carry(self, source: str, target: str, data: bytes) -> None:
        message = decode_between_centres(data)
        if source in self._dying:
            return
        if isinstance(message, Movement) and self._is_news(source, target, message):
            self._carry_movement(source, target, message, data)
        elif isinstance(message, Receipt):
            self._carry_receipt(source, target, message, data)
        else:
            super()._carry(source, target, data)

    def _is_news(self, source: str, target: str, message: Movement) -> bool:
        if self._armed is None:
            return False
        key = (source, target, message.about.cap, message.about.number)
        before, self._told[key] = self._told.get(key, 0), message.moved
        return message.moved > before

    def _carry_movement(self, source: str, target: str, message: Movement, data: bytes) -> None:
        minter, carry = message.about.minter, partial(super()._carry, source, target, data)
        if self._happens_if(source, "sent, not published", minter):
            return
        if self._happens_if(source, "sent, published once deposed", minter):
            self.scheduler.later(LATE_US * US, carry)
            return
        if not self._happens_if(source, "sent, publishing", minter) or self._nemesis.random() < 0.5:
            carry()
        if self._waits_for(source, "broker empty"):
            self._empty_until_ns = self.scheduler.now_ns + EMPTY_US * US
            self._deliveries.clear()
            self._happens(source, minter, dies=False)

    def _carry_receipt(self, source: str, target: str, message: Receipt, data: bytes) -> None:
        if self._happens_if(source, "received, receipt not published", message.about.minter):
            return
        if self._armed and self._waits_for(source, "received, acknowledged, receipt lost"):
            self._armed[source].is_lost = True
            return
        super()._carry(source, target, data)

    # ---- it is delivered

    def _deliver(self, delivery: Delivery) -> None:
        if self.scheduler.now_ns < self._empty_until_ns:
            self.lost += 1
            return
        name, message = delivery.target, decode_between_centres(delivery.data)
        committed = self.worlds[name].committed.state
        was_settled = isinstance(message, Receipt) and _is_settled(committed, delivery, message)
        super()._deliver(delivery)
        if isinstance(message, Movement) and not delivery.is_taken(committed):
            self._happens_if(name, "received, not durable", message.about.minter)
        elif isinstance(message, Receipt) and not was_settled:
            self._happens_if(name, "settled, not durable", message.about.minter)

    def _acknowledged(self, number: int) -> None:
        delivery = self._deliveries.get(number)
        message = decode_between_centres(delivery.data) if delivery is not None else None
        if delivery is None or not isinstance(message, OfAnInterval):
            super()._acknowledged(number)
            return
        name, minter = delivery.target, message.about.minter
        if name in self._dying:
            return
        last: Point | None = None
        if isinstance(message, Movement):
            last = "received, receipt published, not acknowledged"
        elif isinstance(message, Receipt):
            last = "settled, not acknowledged"
        if last is not None and self._happens_if(name, last, minter):
            return
        super()._acknowledged(number)
        if isinstance(message, Movement) and self._armed and self._armed[name].is_lost:
            self._happens(name, minter)


def _undurable(live: DataCentre, committed: DataCentre) -> Iterator[str]:
    """The minters of intervals of which something was sent that is not durable yet."""
    for cap, meta in live.metas.items():
        for interval in meta.intervals:
            known = committed.interval(cap, interval.number)
            sent = known.pool.sent if known is not None else {}
            for centre, each in interval.pool.sent.items():
                if centre not in sent or each.moved > sent[centre].moved:
                    yield (interval.sharing or Sharing()).minter


def _is_settled(state: DataCentre, delivery: Delivery, message: Receipt) -> bool:
    interval = state.interval(message.about.cap, message.about.number)
    sent = interval.pool.sent.get(delivery.sender.centre) if interval is not None else None
    return sent is None or sent.settled >= message.moved
