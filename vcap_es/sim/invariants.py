"""What must hold after every step of a world, whatever was lost, repeated or killed."""

from vcap_es.components.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
)
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.sim.servers import ServerProcess
from vcap_es.sim.truth import equation_holds
from vcap_es.sim.world import World

Key = tuple[str, int]


def server_is_within(server: ServerProcess, world: World) -> None:
    """A server has no more than what was durably moved to it, and spends below its ceiling."""
    for (cap, number), found in server.core.holdings.slices.items():
        interval = world.committed.state.interval(cap, number)
        where = f"{server.core.incarnation} {cap} {number}"
        spent = found.spent(server.disk.cells)
        assert spent <= server.disk.ceiling((cap, number)), f"{where}: {spent} above the ceiling"
        assert found.balance(server.disk.cells) >= 0, where
        if interval is None:
            continue
        account = interval.pool.peek(server.core.incarnation)
        assert found.received <= account.out, f"{where}: has what never durably left"
        if found.is_confirmed:
            assert account.spent <= spent, f"{where}: told of more than it spent"
            assert account.back <= found.returned_kept, where
            assert account.refunded <= found.refunded_kept, where


class Served:
    """The units that clients were told they have, by interval; read from the answers once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.units: dict[Key, int] = {}
        self._seen: dict[int, int] = {}
        self._ids: set[str] = set()
        self._counted: dict[str, int] = {}
        self._units: set[tuple[str, str, int, int]] = set()

    def check(self) -> None:
        """Nobody was told of more than ever existed."""
        for server in self.world.servers:
            self._read(server)
            while server.undone:
                self._forgive(server.undone.pop())
        for key, units in self.units.items():
            limit = self.world.minted_max.get(key, 0)
            assert units <= limit, f"{key}: {units} served of {limit}"

    def _read(self, server: ServerProcess) -> None:
        seen = self._seen.get(id(server), 0)
        if seen == len(server.answers):
            return
        for token in list(server.answers)[seen:]:
            self._count(server.answers[token], is_keyed=token in server.keyed)
        self._seen[id(server)] = len(server.answers)

    def _count(self, answer: object, *, is_keyed: bool) -> None:
        match answer:
            case Consumed(id=id_, consumed=amount) if id_:
                if not (is_keyed and id_ in self._ids):
                    self._take(id_, amount)
                    self._add(id_, amount)
                    self._counted[id_] = amount
            case Held(id=id_, held=amount):
                # It does not count: it may come back without a word.
                if not (is_keyed and id_ in self._ids):
                    self._take(id_, amount)
            case ConsumedAll(items=items) | ConsumedEach(items=items):
                for each in items:
                    self._count(each, is_keyed=is_keyed)

    def _forgive(self, id_: str) -> None:
        """Somebody tries to undo this consume: it does not count any more, undone or not."""
        if id_ in self._counted:
            self._add(id_, -self._counted.pop(id_))

    def _take(self, id_: str, amount: int) -> None:
        """No unit is given to two callers."""
        self._ids.add(id_)
        named = parse_consume_id(id_)
        assert named.end - named.start == amount, id_
        place = (named.incarnation, named.cap, named.number)
        units = {(*place, unit) for unit in range(named.start, named.end)}
        assert not units & self._units, f"{id_} was given to two callers"
        self._units |= units

    def _add(self, id_: str, amount: int) -> None:
        named = parse_consume_id(id_)
        key = named.cap, named.number
        self.units[key] = self.units.get(key, 0) + amount


def watch(world: World) -> Served:
    """Let every step of the world be checked from now on."""
    served = Served(world)

    def step() -> None:
        if world.master is not None:
            equation_holds(world.master.state)
        for server in world.servers:
            if server.is_running:
                server_is_within(server, world)
        served.check()

    world.steps.append(step)
    return served
