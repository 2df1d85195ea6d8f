"""What must hold after every step of a world, whatever was lost, repeated or killed."""

from itertools import islice

from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Settled,
)
from vcap_es.events.consume_ids import find_consume_id, parse_consume_id
from vcap_es.sim.environment.oracle import equation_holds
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.world.periods import Periods
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.spans import Spans
from vcap_es.sim.world.world import World

Key = tuple[str, int]


def must(holds: bool, check: str, finding: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(check, finding)


def server_is_within(server: ServerProcess, world: World) -> None:
    """A server has no more than what was durably moved to it, and spends below its ceiling."""
    cells, incarnation = server.disk.cells, server.core.incarnation
    state = world.committed.state
    for key, found in server.core.holdings.slices.items():
        spent = found.spent(cells)
        if spent > server.disk.ceiling(key):
            raise Violation("C2", f"{incarnation} {key}: {spent} spent, above the ceiling")
        if found.balance(cells) < 0:
            raise Violation("C9", f"{incarnation} {key}: less than nothing")
        interval = state.interval(*key)
        if interval is None:
            continue
        account = interval.pool.peek(incarnation)
        if found.received > max(account.out, world.oracle.lost.get((*key, incarnation), 0)):
            raise Violation("C3", f"{incarnation} {key}: has what never durably left")
        if found.is_confirmed and (
            account.spent > spent
            or account.back > found.returned_kept
            or account.refunded > found.refunded_kept
        ):
            raise Violation("C2", f"{incarnation} {key}: told of more than it kept: {account}")


class Served:
    """The units that clients were told they have, by interval; read from the answers once.

    `last` is the end of the highest range that each incarnation named, by cap and interval.
    """

    def __init__(self, world: World, periods: Periods | None = None) -> None:
        """What is served in `world`; `periods` has what is served in others too."""
        self.world = world
        self.units: dict[Key, int] = {}
        self.last: dict[tuple[str, str, int], int] = {}
        self._seen: dict[int, int] = {}
        self._ids: set[str] = set()
        self._counted: dict[str, int] = {}
        self._settled: dict[str, str] = {}
        self._undone: set[str] = set()
        self.periods = periods or Periods(lambda: [world.oracle], self._served_twice_max)
        self._spans: dict[tuple[str, str, int], Spans] = {}

    def _served_twice_max(self, cap: str) -> int:
        """Units of a cap that may be served a second time, as operators gave up events."""
        twice = self.world.oracle.twice_max.items()
        return sum(units for (name, _), units in twice if name == cap)

    def check(self) -> None:
        """Nobody was told of more than ever existed."""
        for server in self.world.servers:
            self.read(server)
        self.check_totals()

    def check_totals(self) -> None:
        """Of no interval more was served than it ever had."""
        for key, units in self.units.items():
            oracle = self.world.oracle
            limit = oracle.minted_max.get(key, 0) + oracle.twice_max.get(key, 0)
            must(units <= limit, "C2", f"{key}: {units} served of {limit}")

    def is_news(self, server: ServerProcess) -> bool:
        """Whether a server has answered, or was asked to undo, since it was looked at last."""
        return bool(server.undone) or len(server.answers) > self._seen.get(id(server), 0)

    def skip(self, server: ServerProcess) -> None:
        """What a server has answered until now is counted elsewhere."""
        self._seen[id(server)] = len(server.answers)

    def read(self, server: ServerProcess) -> None:
        """Take in what a server has answered since it was looked at last."""
        self._read(server)
        while server.undone:
            self._forgive(server.undone.pop())

    def _read(self, server: ServerProcess) -> None:
        seen = self._seen.get(id(server), 0)
        if seen == len(server.answers):
            return
        self.periods.hear()
        for token, answer in islice(server.answers.items(), seen, None):
            self._count(answer, is_keyed=token in server.keyed)
        self._seen[id(server)] = len(server.answers)

    def _count(self, answer: object, *, is_keyed: bool) -> None:
        match answer:
            case Consumed(shadow=None, id=id_, consumed=amount, resets_at=end):
                if not (is_keyed and id_ in self._ids):
                    self._take(id_, amount)
                    self._add(id_, amount)
                    self._counted[id_] = amount
                    self.periods.check(answer.cap, id_, amount, min(self.world.now_us, end - 1))
            case Held(shadow=None, id=id_, held=amount):
                # It does not count: it may come back without a word.
                if not (is_keyed and id_ in self._ids):
                    self._take(id_, amount)
            case Settled():
                self._count_settled(answer)
            case ConsumedAll(items=items) | ConsumedEach(items=items):
                for each in items:
                    self._count(each, is_keyed=is_keyed)

    def _count_settled(self, answer: Settled) -> None:
        """What was committed is served, each unit once; what a shadow cap did not take is not."""
        named = find_consume_id(answer.id)
        if named is None or not answer.committed or answer.id in self._settled:
            return
        self._settled[answer.id] = answer.above
        held = min(answer.committed, named.end - named.start)
        parts = [(answer.id, held)]
        if answer.above:
            above = parse_consume_id(answer.above)
            parts.append((answer.above, above.end - above.start))
            self._take(*parts[-1])
        for id_, amount in parts:
            if not {id_, answer.id} & self._undone:
                self._add(id_, amount)
                self._counted[id_] = amount

    def _forgive(self, id_: str) -> None:
        """Somebody tries to undo this consume: it does not count any more, undone or not."""
        self._undone.add(id_)
        for each in (id_, self._settled.get(id_, "")):
            if each in self._counted:
                self._add(each, -self._counted.pop(each))
                self.periods.forgive(parse_consume_id(each).cap, each)

    def _take(self, id_: str, amount: int) -> None:
        """No unit is given to two callers."""
        self._ids.add(id_)
        named = parse_consume_id(id_)
        must(named.end - named.start == amount, "C13", f"{id_} names {amount} units")
        place = (named.incarnation, named.cap, named.number)
        is_new = self._spans.setdefault(place, Spans()).add(named.start, named.end)
        must(is_new, "C13", f"{id_} was given to two callers")
        self.last[place] = max(self.last.get(place, 0), named.end)

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


def watch_closely(world: World, periods: Periods | None = None) -> Served:
    """Let every server be checked whenever it has done something: that is cheaper.

    Where others serve the same caps, so that `periods` has what they serve too, the totals of
    intervals are left to who knows the others.
    """
    served, is_alone = Served(world, periods), periods is None

    def step(process: object) -> None:
        if isinstance(process, ServerProcess):
            server_is_within(process, world)
            if served.is_news(process):
                served.read(process)
                if is_alone:
                    served.check_totals()

    world.watchers.append(step)
    return served
