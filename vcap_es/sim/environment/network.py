"""Links between processes: slow, lossy, cut one way or both, and broken in the middle.

A connection is ordered, as TCP is: what a cut swallows comes late, or the connection breaks. With
`is_ordered` false it is as bad as datagrams: what it carries is lost, repeated and reordered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

from vcap_es.events.units import MS
from vcap_es.sim.environment.machines import Machine
from vcap_es.sim.environment.scheduler import Scheduler

US = 1_000
GIVE_UP_MS = (300, 3000)
"""After how much silence an end gives a connection up whose other end is out of reach."""


@dataclass
class Faults:
    """How bad links and disks are: chances of a hundred, and delays in microseconds.

    Reading older events from a log takes up to `read_us_max`; 0: as long as an fsync.
    """

    lose: int = 0
    repeat: int = 0
    delay_us_max: int = 500
    fsync_us_max: int = 300
    read_us_max: int = 0
    is_ordered: bool = False


@dataclass
class Packets:
    """How many messages met which fate."""

    sent: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    swallowed: int = 0


class Party(Protocol):
    """A process, as its links see it."""

    name: str
    machine: Machine
    is_running: bool

    def heard(self, connection: "SimulatedLink", data: bytes) -> None:
        """A message has come."""

    def ended(self, connection: "SimulatedLink") -> None:
        """A connection is gone."""


class End:
    """One end of a connection, and what is on its way there. `due_ns`: when the last of it comes.

    Nothing comes before `opened_ns`, when the first message does. `swallowed` is what a cut keeps
    back; None in it is the end of the connection.
    """

    def __init__(self, party: Party) -> None:
        self.party = party
        self.is_open = True
        self.opened_ns = self.due_ns = 0
        self.swallowed: list[bytes | None] = []


class SimulatedLink:
    """A connection that `dialer` made to `acceptor`; both ends know it by `number`."""

    def __init__(self, number: int, dialer: Party, acceptor: Party) -> None:
        self.number = number
        self.dialer, self.acceptor = End(dialer), End(acceptor)

    def sides(self, here: Party) -> tuple[End, End]:
        """The end of `here`, and the other one."""
        pair = self.dialer, self.acceptor
        return pair if here is self.dialer.party else (pair[1], pair[0])

    def is_open_at(self, party: Party) -> bool:
        """Whether `party` believes that it is connected."""
        return self.sides(party)[0].is_open


class Network:
    """All connections, and who can reach whom."""

    def __init__(self, scheduler: Scheduler, random: Random, faults: Faults) -> None:
        self.faults = faults
        self.packets = Packets()
        self.apart: set[str] = set()
        self._scheduler, self._random = scheduler, random
        self._numbers = count(1)
        self._connections: dict[int, SimulatedLink] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._clogs: dict[tuple[str, str], int] = {}

    # ---- connections

    def dial(self, dialer: Party, acceptor: Party) -> SimulatedLink | None:
        """Connect, if both can reach each other."""
        if self._is_cut(dialer, acceptor) or self._is_cut(acceptor, dialer):
            return None
        made = SimulatedLink(next(self._numbers), dialer, acceptor)
        self._connections[made.number] = made
        return made

    def send(self, connection: SimulatedLink, sender: Party, data: bytes) -> None:
        """Carry a message to the other end, as well as the link can."""
        here, there = connection.sides(sender)
        if not here.is_open:
            return
        self.packets.sent += 1
        if self._is_cut(sender, there.party):
            self.packets.swallowed += 1
            there.swallowed.append(data)
            return
        for _ in range(self._copies(there)):
            self._carry(connection, sender, there, data)

    def _copies(self, there: End) -> int:
        """How often a message comes: who opens a connection is always heard once."""
        faults, random = self.faults, self._random
        if faults.is_ordered or not there.opened_ns:
            return 1
        lost = faults.lose > 0 and random.random() * 100 < faults.lose
        repeated = faults.repeat > 0 and random.random() * 100 < faults.repeat
        self.packets.lost += lost
        self.packets.repeated += repeated
        return 1 - lost + repeated

    def close(self, connection: SimulatedLink, closer: Party) -> None:
        """Close a connection; the other end hears of it behind all that was sent before."""
        here, there = connection.sides(closer)
        here.is_open = False
        here.swallowed.clear()
        self._end(connection, closer, there)

    def drop(self, party: Party, *, is_silent: bool) -> None:
        """Close all connections of a process; silently, the other ends find out by themselves."""
        for connection in self._of(party):
            here, there = connection.sides(party)
            if here.is_open and not is_silent:
                self.close(connection, party)
            elif here.is_open:
                here.is_open = False
                self._give_up_later(connection, there)

    def reset(self, one: Party, other: Party) -> int:
        """Break all connections between two processes; what is on its way never comes."""
        broken = 0
        for connection in self._of(one):
            if other in (connection.dialer.party, connection.acceptor.party):
                broken += 1
                self._connections.pop(connection.number)
                for end in (connection.dialer, connection.acceptor):
                    self._scheduler.later(self._delay_ns(end), _breaker(connection, end))
        return broken

    # ---- partitions

    def cut(self, source: str, target: str) -> None:
        """Let nothing through from `source` to `target`: a connection first stalls, then breaks."""
        pair = source, target
        self._cuts[pair] = self._cuts.get(pair, 0) + 1
        for connection in list(self._connections.values()):
            names = connection.dialer.party.name, connection.acceptor.party.name
            if set(names) == set(pair):
                for end in (connection.dialer, connection.acceptor):
                    self._give_up_later(connection, end, only_if_cut=pair)

    def join(self, source: str, target: str) -> None:
        """Take one cut away. What it swallowed comes late, or the connection breaks."""
        pair = source, target
        left = self._cuts.get(pair, 0) - 1
        if left > 0:
            self._cuts[pair] = left
            return
        self._cuts.pop(pair, None)
        for connection in list(self._connections.values()):
            for end in (connection.dialer, connection.acceptor):
                here, there = connection.sides(end.party)
                if (there.party.name, here.party.name) == pair and here.swallowed:
                    self._let_through(connection, there.party, here)

    def clog(self, source: str, target: str, delay_ms: int) -> None:
        """Let everything from `source` to `target` take so much longer; 0: no longer."""
        self._clogs.pop((source, target), None)
        if delay_ms:
            self._clogs[(source, target)] = delay_ms

    def is_reachable(self, one: str, other: str) -> bool:
        """Whether both can send to each other."""
        return not ({one, other} & self.apart or {(one, other), (other, one)} & self._cuts.keys())

    def is_clear(self, one: str, other: str) -> bool:
        """Whether both can send to each other, and nothing holds that up."""
        is_clogged = bool({(one, other), (other, one)} & self._clogs.keys())
        return self.is_reachable(one, other) and not is_clogged

    # ---- inside

    def _of(self, party: Party) -> list[SimulatedLink]:
        return [
            each
            for each in self._connections.values()
            if each.dialer.party is party or each.acceptor.party is party
        ]

    def _is_cut(self, sender: Party, receiver: Party) -> bool:
        source, target = sender.name, receiver.name
        if self._cuts and (source, target) in self._cuts:
            return True
        return bool(self.apart) and not self.apart.isdisjoint((source, target))

    def _end(self, connection: SimulatedLink, closer: Party, there: End) -> None:
        if not there.is_open:
            self._connections.pop(connection.number, None)
        elif self._is_cut(closer, there.party):
            there.swallowed.append(None)
        else:
            self._carry(connection, closer, there, None)

    def _carry(
        self, connection: SimulatedLink, sender: Party, there: End, data: bytes | None
    ) -> None:
        at_ns = max(self._scheduler.now_ns + self._delay_ns(there, sender), there.opened_ns)
        there.opened_ns = there.opened_ns or at_ns
        if self.faults.is_ordered or data is None:
            at_ns = there.due_ns = max(at_ns, there.due_ns)
        elif at_ns < there.due_ns:
            self.packets.reordered += 1
        else:
            there.due_ns = at_ns

        def arrive() -> None:
            self._arrive(connection, there, data)

        self._scheduler.later(at_ns - self._scheduler.now_ns, arrive)

    def _arrive(self, connection: SimulatedLink, there: End, data: bytes | None) -> None:
        party = there.party
        if there.is_open and data is not None:
            self._scheduler.note(data)
            party.heard(connection, data)
        elif there.is_open:
            self._broken(connection, there)
        elif data is not None:
            _, sender = connection.sides(party)
            if sender.is_open and party.machine.is_up:
                self._end(connection, party, sender)  # nobody is there: a reset comes back

    def _broken(self, connection: SimulatedLink, end: End) -> None:
        """An end finds that its connection is gone."""
        if end.is_open:
            end.is_open = False
            _, there = connection.sides(end.party)
            self._end(connection, end.party, there)
            end.party.ended(connection)

    def _give_up_later(
        self, connection: SimulatedLink, end: End, only_if_cut: tuple[str, str] | None = None
    ) -> None:
        def give_up() -> None:
            if only_if_cut is None or only_if_cut in self._cuts:
                self._broken(connection, end)

        self._scheduler.later(self._random.randint(*GIVE_UP_MS) * MS, give_up)

    def _let_through(self, connection: SimulatedLink, sender: Party, there: End) -> None:
        waiting, there.swallowed = there.swallowed, []
        if None not in waiting and self._random.random() < 0.5:
            self._broken(connection, there)
            return
        for data in waiting:
            self._carry(connection, sender, there, data)

    def _delay_ns(self, there: End, sender: Party | None = None) -> int:
        delay_ns = int(self._random.random() * self.faults.delay_us_max) * US + US
        if sender is None:
            return delay_ns
        delay_ns *= sender.machine.slowness
        if self._clogs:
            delay_ns += self._clogs.get((sender.name, there.party.name), 0) * MS
        return delay_ns


def _breaker(connection: SimulatedLink, end: End) -> Callable[[], None]:
    """What a reset does to one end; nothing that is on its way is heard there any more."""

    def call() -> None:
        if end.is_open:
            end.is_open = False
            end.party.ended(connection)

    return call
