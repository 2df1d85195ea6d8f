"""Random lives of a small data centre: everything a client, an operator or fate may do."""

from random import Random

from vcap_es.components.decisions.meta import Define, Pause, Resume, Retire
from vcap_es.components.messages.client import (
    Cancel,
    Command,
    Commit,
    Consume,
    ConsumeAll,
    ConsumeEach,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import Consumed, Held, Refused
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.facts import Definition, IntervalClosed
from vcap_es.events.facts.meta import IntervalKind
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.environment.oracle import equation_holds
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.invariants import watch
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

SECOND = 1_000_000
KINDS: tuple[IntervalKind, ...] = ("minute", "minute", "minute", "hour", "day", "single")
LIMITS = Limits(
    refund_window_ms=300,
    lead_ms=2000,
    key_retention_ms=3000,
    keys_max=12,
    key_file_bytes_max=500,
)
OWNERS = ("few", "many", "many", "many")
REPEATED = 6


class Workload:
    """One life, from its seed; every step is checked, and at the end all is healed and closed."""

    def __init__(self, seed: int, *, log: bool = False) -> None:
        self.random = random = Random(seed)
        self.log = log
        faults = Faults(
            lose=random.choice((0, 0, 5, 30)),
            repeat=random.choice((0, 0, 10)),
            delay_us_max=random.choice((200, 2000, 20_000)),
            fsync_us_max=random.choice((100, 3000)),
        )
        now = NOON + random.randrange(30, 60) * SECOND
        self.world = World(random.randint(2, 5), seed=seed, now=now, faults=faults, limits=LIMITS)
        watch(self.world)
        self.caps = [f"c{index}" for index in range(random.randint(2, 4))]
        self.ids: list[tuple[ServerProcess, str]] = []
        self.tokens: list[tuple[ServerProcess, int]] = []
        self.keys = 0
        self.keyed: list[tuple[ServerProcess, Command, Idempotency, str]] = []
        self.is_rough = random.random() < 0.7

    def say(self, text: str) -> None:
        """Print what happens, if it is asked for."""
        if self.log:
            print(f"{(self.world.now_us - NOON) / 1e6:.4f} {text}")

    def live(self, steps: int = 60) -> None:
        """Do things at random, then heal and settle."""
        for cap in self.caps:
            self._define(cap)
        for _ in range(steps):
            self._act()
            self.world.run(self.random.choice((0, 300, 2000, 30_000, 200_000)))
        if self.random.random() < 0.3:
            self.world.run(self.random.randrange(30) * SECOND)
        self._heal()
        self._drain()
        self._close()

    # ---- what may happen

    def _act(self) -> None:
        """One thing at random."""
        roll = self.random.randrange(100)
        if roll < 60:
            self._ask()
        elif roll < 72:
            self._settle()
        elif roll < 80:
            self._operate()
        elif self.is_rough:
            self._harm()

    def _server(self) -> ServerProcess | None:
        """A running server."""
        running = [each for each in self.world.servers if each.is_running]
        return self.random.choice(running) if running else None

    def _ask(self) -> None:
        server, random = self._server(), self.random
        if server is None:
            return
        if self.keyed and random.random() < 0.2:
            self._ask_again()
            return
        cap = random.choice(self.caps)
        amount = random.randint(1, 6)
        consume = Consume(cap=cap, minimum=amount, maximum=amount)
        roll = random.randrange(10)
        command: Command = consume
        if roll == 0:
            command = Consume(cap=cap, minimum=1, maximum=amount)
        elif roll == 1:
            caps = random.sample(self.caps, 2)
            command = ConsumeAll(
                items=[Consume(cap=each, minimum=amount, maximum=amount) for each in caps]
            )
        elif roll == 2:
            command = ConsumeEach(
                items=[
                    Consume(cap=random.choice(self.caps), minimum=1, maximum=1) for _ in range(3)
                ]
            )
        elif roll in (3, 4):
            command = Hold(cap=cap, amount=amount, lifetime_ms=random.choice((50, 1000, 5000)))
        elif roll == 5:
            answer = server.core.consume_now(cap, amount, server.now_ns)
            if answer is not None:
                server.answers[next(self.world.tokens)] = answer
                self.ids.append((server, answer.id))
            return
        key, owner = None, ""
        if random.random() < 0.3:
            self.keys += random.random() < 0.8
            key = Idempotency(key=f"k{self.keys}", fingerprint=repr(command).encode())
            owner = OWNERS[self.keys % len(OWNERS)]
            self.keyed.append((server, command, key, owner))
        self.say(f"{server.name} {command} {key} {owner}")
        if random.random() < 0.02 and self.is_rough:
            server.dies_after = random.randrange(3)
        # A repeated key gives the same answer again: it is not another consume.
        token = server.submit(command, key, owner)
        if key is None:
            self.tokens.append((server, token))

    def _ask_again(self) -> None:
        """A client that is not sure asks again, with the same key at the same server."""
        server, command, key, owner = self.random.choice(self.keyed[-REPEATED:])
        if server.is_running:
            self.say(f"{server.name} {command} {key} {owner} again")
            server.submit(command, key, owner)

    def _settle(self) -> None:
        for server, token in self.tokens:
            answer = server.answers.get(token)
            if isinstance(answer, Consumed | Held) and answer.id:
                self.ids.append((server, answer.id))
        self.tokens = [each for each in self.tokens if each[1] not in each[0].answers]
        if not self.ids:
            return
        server, id_ = self.random.choice(self.ids)
        if not server.is_running:
            return
        amount = self.random.choice((None, 1, 2, 8))
        commands = (Cancel(id=id_), Commit(id=id_, amount=amount), Refund(id=id_, amount=amount))
        command = self.random.choice(commands)
        self.say(f"{server.name} {command}")
        server.submit(command)

    def _define(self, cap: str) -> None:
        random, now = self.random, self.world.now_us
        interval = random.choice(KINDS)
        start, end = (now + random.choice((-5, 1, 10, 40)) * SECOND for _ in range(2))
        is_single = interval == "single"
        definition = Definition(
            total=random.choice((0, 1, 3, 7, 20, 300)),
            interval=interval,
            timezone=random.choice(("UTC", "UTC", "Asia/Kathmandu")),
            start=start if random.random() < 0.2 else None,
            end=max(start, end) + SECOND if is_single or random.random() < 0.3 else None,
            pacing=random.choice(("asap", "asap", "asap", "even")),
            mode=random.choice(("hard", "hard", "hard", "shadow")),
        )
        self._command(Define(cap=cap, definition=definition))

    def _operate(self) -> None:
        cap = self.random.choice(self.caps)
        command = self.random.choice((None, None, Pause(cap=cap), Resume(cap=cap), Retire(cap=cap)))
        if command is None:
            self._define(cap)
        else:
            self._command(command)

    def _command(self, command: Define | Pause | Resume | Retire) -> None:
        if self.world.leader is not None:
            self.say(f"{command}")
            self.world.order(command)

    def _harm(self) -> None:
        world, random = self.world, self.random
        server = random.choice(world.servers)
        kind = random.choice(("kill", "machine", "cut", "join", "master", "die", "start"))
        self.say(f"harm {server.name} {kind}")
        match kind:
            case "kill":
                server.restart()
            case "machine":
                server.restart(same_boot=False)
            case "cut":
                world.cut.add(server.name)
                server.disconnect()
            case "join":
                world.cut.clear()
            case "master":
                self._master_dies()
            case "die":
                server.kill()
            case "start":
                for each in world.servers:
                    if not each.is_running:
                        each.start(same_boot=True)

    def _master_dies(self) -> None:
        if self.world.master is not None:
            self.world.kill_master()
            self.world.later(self.random.choice((1, 50_000, 2 * SECOND)), self._master_starts)

    def _master_starts(self) -> None:
        self.world.start_master()

    # ---- the end

    def _heal(self) -> None:
        """Everything works again."""
        self.say("heal")
        world = self.world
        world.faults = Faults()
        world.cut.clear()
        self._master_starts()
        for server in world.servers:
            server.dies_after = None
            if not server.is_running:
                server.start(same_boot=True)
            server.disconnect()  # a link that has lost something is a broken link
        world.run(6 * SECOND)  # every hold is over now
        assert all(server.connection for server in world.servers)

    def _drain(self) -> None:
        """Whatever is left anywhere can be had by one last caller at one server."""
        world = self.world
        state = world.master.state if world.master else None
        assert state is not None
        for cap in self.caps:
            meta = state.metas.get(cap)
            if meta is None or meta.definition.mode == "shadow":
                continue
            server = self.random.choice(world.servers)
            refusal = self._exhaust(server, cap)
            self.say(f"drained {cap} at {server.name}: {refusal}")
            expected = {"capped", "ended", "not_started", "paced", "paused", "unknown_cap"}
            assert refusal.code in expected, f"{cap} at {server.name}: {refusal}"
            if refusal.code == "capped":
                self._nothing_is_left(cap)

    def _exhaust(self, server: ServerProcess, cap: str) -> Refused:
        for _ in range(1000):
            token = server.submit(Consume(cap=cap, minimum=1, maximum=1))
            self.world.run(60_000)
            answer = server.answers[token]
            if isinstance(answer, Refused):
                return answer
        raise AssertionError("it never ends")

    def _nothing_is_left(self, cap: str) -> None:
        self.world.run(1_200_000)
        assert self.world.master is not None
        interval = self.world.master.state.metas[cap].at(self.world.now_us)
        if interval is None or interval.pool.ended:
            return
        token = self.world.servers[0].submit(Consume(cap=cap, minimum=1, maximum=1))
        self.world.run(60_000)
        answer = self.world.servers[0].answers[token]
        assert isinstance(answer, Consumed | Refused)
        self.say(f"once more {cap}: {answer}")
        if isinstance(answer, Consumed) or answer.code != "capped":
            return  # a new interval has begun
        pool = interval.pool
        assert pool.available <= 0, f"{cap}: {pool.available} available, and refused"
        held = {place: each.held for place, each in pool.places.items() if each.held}
        assert not held, f"{cap}: stranded {held}"

    def _close(self) -> None:
        """All caps are retired: every book closes, with nothing unreported."""
        world = self.world
        for cap in self.caps:
            self._command(Retire(cap=cap))
        world.run(8 * SECOND)
        assert world.master is not None
        for cap, meta in world.master.state.metas.items():
            assert meta.intervals == (), f"{cap}: not closed: {meta.intervals}"
        for fact in world.log:
            if isinstance(fact, IntervalClosed):
                assert fact.unreported == 0, f"{fact}"
        for server in world.servers:
            kept = [key for key, each in server.core.holdings.slices.items() if each.received]
            assert not kept, f"{server.name} keeps {kept}, which are closed"
        assert world.replay().state == world.master.state
        equation_holds(world.replay().state)


def live(seed: int, *, log: bool = False) -> None:
    """One whole life."""
    Workload(seed, log=log).live()
