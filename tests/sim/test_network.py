"""Simulated links: ordered or not, cut, clogged, reset, and what each end hears of it."""

from random import Random

from vcap_es.events.units import MS
from vcap_es.sim.environment.machines import Machine
from vcap_es.sim.environment.network import Faults, Network, SimulatedLink
from vcap_es.sim.environment.scheduler import Scheduler


class Listener:
    """A process that only notes what it hears; None for the end of a connection."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name, self.is_running = name, True
        self.machine = Machine(name, lambda: scheduler.now_ns, lambda: 0)
        self.told: list[bytes | None] = []

    def heard(self, connection: SimulatedLink, data: bytes) -> None:
        self.told.append(data)

    def ended(self, connection: SimulatedLink) -> None:
        self.told.append(None)


class Pair:
    """Two processes and a connection between them."""

    def __init__(self, faults: Faults | None = None, seed: int = 0) -> None:
        self.scheduler = Scheduler()
        self.network = Network(
            self.scheduler, Random(seed), faults or Faults(is_ordered=True, delay_us_max=5000)
        )
        self.a, self.b = Listener("a", self.scheduler), Listener("b", self.scheduler)
        made = self.network.dial(self.a, self.b)
        assert made is not None
        self.connection = made

    def send(self, *words: bytes) -> None:
        for word in words:
            self.network.send(self.connection, self.a, word)

    def run(self, duration_ms: int) -> None:
        until_ns = self.scheduler.now_ns + duration_ms * MS
        while self.scheduler.step(until_ns):
            pass


WORDS = [bytes([each]) for each in range(50)]


def test_an_ordered_link_keeps_the_order() -> None:
    """Whatever the delays, what was sent first comes first, and once."""
    pair = Pair()
    pair.send(*WORDS)
    pair.run(100)
    assert pair.b.told == WORDS


def test_a_bad_link_loses_repeats_and_reorders() -> None:
    """All but the first message, which opens the connection and comes before the others."""
    pair = Pair(Faults(lose=30, repeat=30, delay_us_max=5000))
    pair.send(*WORDS)
    pair.run(100)
    assert pair.b.told[0] == WORDS[0]
    assert pair.b.told != sorted(pair.b.told)  # type: ignore[type-var]  # nothing has ended
    assert set(pair.b.told) < set(WORDS)
    assert len(pair.b.told) > len(set(pair.b.told))
    packets = pair.network.packets
    assert min(packets.lost, packets.repeated, packets.reordered) > 0


def test_who_closes_is_heard_behind_what_it_said() -> None:
    """The end comes last; and nothing is carried afterwards."""
    pair = Pair()
    pair.send(b"1", b"2")
    pair.network.close(pair.connection, pair.a)
    pair.send(b"3")
    pair.run(100)
    assert pair.b.told == [b"1", b"2", None]
    assert pair.a.told == []


def test_a_cut_first_swallows_and_then_breaks_both_ends() -> None:
    """One way is enough: who waits for answers gives the connection up in the end."""
    pair = Pair()
    pair.send(b"1")
    pair.run(10)
    pair.network.cut("a", "b")
    pair.send(b"2")
    pair.run(200)
    assert (pair.a.told, pair.b.told) == ([], [b"1"])
    pair.run(5000)
    assert (pair.a.told, pair.b.told) == ([None], [b"1", None])
    assert pair.network.dial(pair.a, pair.b) is None
    pair.network.join("a", "b")
    assert pair.network.dial(pair.a, pair.b) is not None


def test_what_a_short_cut_swallowed_comes_late_or_never() -> None:
    """When the cut is over, the other end gets all of it in order, or the connection breaks."""
    fates = []
    for seed in range(20):
        pair = Pair(seed=seed)
        pair.network.cut("a", "b")
        pair.send(b"1", b"2")
        pair.run(100)
        pair.network.join("a", "b")
        pair.send(b"3")
        pair.run(100)
        fates.append(pair.b.told)
    assert [b"1", b"2", b"3"] in fates
    assert [None] in fates
    assert all(nemesis in ([b"1", b"2", b"3"], [None]) for nemesis in fates)


def test_a_killed_process_is_missed_at_once_and_a_lost_machine_after_a_while() -> None:
    """A process ends with its connections; a machine without power says nothing."""
    killed, lost = Pair(), Pair()
    killed.network.drop(killed.a, is_silent=False)
    lost.a.machine.is_up = False
    lost.network.drop(lost.a, is_silent=True)
    killed.run(100)
    lost.run(100)
    assert (killed.b.told, lost.b.told) == ([None], [])
    lost.run(5000)
    assert lost.b.told == [None]


def test_a_reset_takes_what_is_on_its_way() -> None:
    """Both ends hear of it, and nothing comes behind."""
    pair = Pair(Faults(is_ordered=True, delay_us_max=50_000))
    pair.send(*WORDS)
    pair.network.reset(pair.a, pair.b)
    pair.run(1000)
    assert pair.b.told[-1] is None
    assert pair.b.told[:-1] == WORDS[: len(pair.b.told) - 1]
    assert len(pair.b.told) <= len(WORDS)
    assert pair.a.told == [None]


def test_a_clogged_link_is_slow_one_way() -> None:
    """The other way is as fast as ever."""
    pair = Pair()
    pair.network.clog("a", "b", 500)
    pair.send(b"1")
    pair.network.send(pair.connection, pair.b, b"2")
    pair.run(400)
    assert (pair.a.told, pair.b.told) == ([b"2"], [])
    pair.run(200)
    assert pair.b.told == [b"1"]
