"""A life: a data centre from its founding, through all mishaps, to the day when all is well again.

First safety, with every fault there is; then everything is healed, and it must come to rest: both
masters in sync, every server served, every unit accounted for.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from vcap_es.components.decisions.meta import Define
from vcap_es.components.decisions.primacy import WITNESSES_MAX, Config, is_witness
from vcap_es.components.master.master import Master
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.events.facts import Definition
from vcap_es.projections.snapshots import Snapshot, restore, take
from vcap_es.projections.states.data_centre import Fold
from vcap_es.projections.states.meta import Meta
from vcap_es.sim.environment.oracle import equation_holds
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.clients import Clients
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.nemesis import Nemesis
from vcap_es.sim.lives.profiles import LIMITS, Options, Profile, mishaps, options
from vcap_es.sim.world.copying import watch_copies
from vcap_es.sim.world.invariants import Served, must, watch_closely
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

EVENTS_MAX = 150_000
CONVERGENCE_MS = 20_000
STEP_US = 100_000
REPORTS_US = 800_000
"""In this time every server has told of everything that it holds."""

HOLDS_US = 1_000_000
"""In this time every hold is over."""

DRAINS_MAX = 40
ANSWER_US = 60_000
PROBE, PROBES_MAX, DEFINITIONS_MAX = "probe", 40, 40


class Figures(Struct):
    """What came of a life, to be added up."""

    events: int = 0
    virtual_ms: int = 0
    asked: int = 0
    acknowledged: int = 0
    elections: int = 0
    messages: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    swallowed: int = 0
    mishaps: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Figures") -> None:
        """Count another life as well."""
        for name in self.__struct_fields__[:-1]:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for kind, count in other.mishaps.items():
            self.mishaps[kind] = self.mishaps.get(kind, 0) + count


class Askers(Protocol):
    """Those who use a data centre while it lives."""

    caps: list[str]
    asked: int

    def define(self) -> None:
        """Let their caps exist."""

    def are_defined(self, metas: Mapping[str, Meta]) -> bool:
        """Whether their caps are as they should be."""

    def go_on(self) -> None:
        """Begin to ask."""

    def stop(self) -> None:
        """Ask no more."""


def live(profile: Profile, seed: int) -> None:
    """Live one whole life; raises `Violation` where something is not as it must be."""
    Life(profile, seed).live()


class Life:
    """One life, from its seed; with other mishaps or another length, if they are given."""

    def __init__(
        self,
        profile: Profile,
        seed: int,
        *,
        planned: list[Mishap] | None = None,
        safety_ms: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.profile, self.seed = profile, seed
        self.options: Options = options(profile, seed)
        self.mishaps = mishaps(profile, seed) if planned is None else planned
        self.safety_ms = self.options.safety_ms if safety_ms is None else safety_ms
        self.world = World(
            self.options.servers,
            seed=seed,
            now=self.options.now,
            faults=self.options.faults,
            limits=LIMITS,
            masters=2,
            witnesses=self.options.witnesses,
            timings=self.options.timings,
            spawns=self.options.spawns,
            window=self.options.window,
        )
        self.world.scheduler.events_max = EVENTS_MAX
        self.world.say = say
        self.nemesis = Nemesis(self.world)
        totals, gap_us = self.options.totals, self.options.gap_us
        self.clients: Askers = Clients(self.world, totals, gap_us, may_edit=not profile.gives_up)
        self.served: Served = watch_closely(self.world)
        watch_copies(self.world)
        nodes = (*self.world.masters, *self.world.servers)
        for node, rate in zip(nodes, self.options.rates, strict=True):
            node.machine.rate_permille = rate

    def live(self) -> None:
        """Raises `Violation` where something is not as it must be."""
        world = self.world
        world.run(2_000)
        self.clients.define()
        self.clients.go_on()
        world.run(self.options.waits_ms * 1000)
        self.nemesis.plan(self.mishaps)
        world.run(self.safety_ms * 1000)
        self.clients.stop()
        may_leave = self.options.leaves_one and not self.nemesis.has_harmed_disks
        self.nemesis.heal(left_out=world.servers[-1] if may_leave else None)
        world.note("", "healed")
        self._converge()
        if self.profile.is_steady:
            must(world.elections == 1, "C8", f"{world.elections} elections, though nobody fell out")
        self._serve()
        self._drain()
        self._compare()

    @property
    def figures(self) -> Figures:
        """What came of it so far."""
        world = self.world
        packets = world.network.packets
        return Figures(
            events=world.scheduler.events,
            virtual_ms=world.scheduler.now_ns // 1_000_000,
            asked=self.clients.asked,
            acknowledged=world.oracle.end,
            elections=world.elections,
            messages=packets.sent,
            lost=packets.lost,
            repeated=packets.repeated,
            reordered=packets.reordered,
            swallowed=packets.swallowed,
            mishaps=self.nemesis.happened,
        )

    # ---- the end: it comes to rest

    def _converge(self) -> None:
        """C8: whatever has happened, it is whole again in a while."""
        missing = "time"
        for _ in range(CONVERGENCE_MS * 1000 // STEP_US):
            self.world.run(STEP_US)
            missing = self._missing()
            if not missing:
                return
        raise Violation("C8", f"{CONVERGENCE_MS / 1000:g}s after all is healed: {missing}")

    def _missing(self) -> str:
        """What is not as it should be, "" where all is well."""
        leader = self.world.leader
        if leader is None or leader.core is None or leader.core.leadership is None:
            roles = {each.name: each.core.role if each.core else "" for each in self.world.masters}
            return f"nobody leads, {roles}"
        leadership, config = leader.core.leadership, leader.core.leadership.config
        nodes = {each.node for each in self.world.masters}
        if set(config.isr) != nodes:
            return f"in sync are {config.isr}, not {nodes}"
        if leadership.proposal is not None or config.before:
            return f"{leadership.proposal or config} is under way"
        missing = self._missing_voters(config, nodes)
        if missing:
            return missing
        if not leadership.is_settled or not leadership.is_active:
            return "the leader is not at rest"
        lost = [each.name for each in self._servers if not self._is_linked(each, leader)]
        return f"{', '.join(lost)} not linked to {leader.name}" if lost else ""

    def _missing_voters(self, config: Config, nodes: set[str]) -> str:
        """Both masters vote, and three witnesses, or one where there are not three."""
        there = {each.voter.ballot.node for each in self._servers if each.voter}
        voting = {each for each in config.voters if is_witness(each)}
        gone = {each.ballots.ballot.node for each in self.world.servers if each.ballots} - there
        count = 3 if len(there | voting) >= WITNESSES_MAX else 1
        if set(config.voters) != nodes | voting or not voting <= there | gone:
            return f"voters are {config.voters}, not {nodes} and some of {there | gone}"
        if len(voting) != count:
            return f"voters are {config.voters}, though there are {there}"
        ballots = [
            each for each in self.world.oracle.ballots if each.node in nodes | voting & there
        ]
        if any(each.config != config for each in ballots):
            return f"a voter does not hold {config}"
        return ""

    def _is_linked(self, server: ServerProcess, leader: MasterProcess) -> bool:
        return server.serves_from is leader

    def _serve(self) -> None:
        """A new cap is defined, and a consume of it is answered yes, everywhere."""
        metas = self.world.oracle.fold.state.metas
        for _ in range(DEFINITIONS_MAX):
            if PROBE in metas and self.clients.are_defined(metas):
                break
            if self.world.leader is not None:
                self.clients.define()  # who was not answered asks again
                self.world.order(Define(cap=PROBE, definition=Definition(total=1000)))
            self.world.run(STEP_US)
        else:
            raise Violation("C8", "no cap can be defined")
        for server in self._servers:
            answers = []
            for _ in range(PROBES_MAX):
                answers.append(self._ask(server, PROBE, 1))
                if isinstance(answers[-1], Consumed):
                    break
            must(isinstance(answers[-1], Consumed), "C8", f"{server.name} answers {answers[-1]}")

    def _ask(self, server: ServerProcess, cap: str, amount: int) -> object:
        token = server.submit(Consume(cap=cap, minimum=1, maximum=amount))
        for _ in range(10):
            self.world.run(ANSWER_US)
            if token in server.answers:
                return server.answers[token]
        raise Violation("C8", f"{server.name} does not answer")

    # ---- the end: nothing is missing

    def _drain(self) -> None:
        """C10: one last caller can have whatever is left anywhere, but for what the dead hold."""
        self.world.run(REPORTS_US)
        callers = {cap: self.world.random.choice(self._servers) for cap in self.clients.caps}
        numbers = {cap: self._exhaust(server, cap) for cap, server in callers.items()}
        self.world.run(HOLDS_US)  # what was held comes back
        drained = {
            cap: server for cap, server in callers.items() if not self._gives_more(server, cap)
        }
        self.world.run(REPORTS_US)
        for cap in drained:
            if numbers[cap] == self._number(cap) is not None:
                self._nothing_is_left(cap, numbers[cap] or 0)

    def _exhaust(self, server: ServerProcess, cap: str) -> int | None:
        """Take all that there is; the interval that it was taken of."""
        answer: object = None
        for _ in range(DRAINS_MAX):
            number, answer = self._number(cap), self._ask(server, cap, 1_000_000)
            if isinstance(answer, Refused) and answer.code in ("capped", "not_started"):
                return number
        raise Violation("C10", f"{cap} cannot be drained: {answer}")

    def _gives_more(self, server: ServerProcess, cap: str) -> bool:
        """A hold has expired, or another interval has begun."""
        answer: object = None
        for _ in range(PROBES_MAX):
            answer = self._ask(server, cap, 1)
            if not isinstance(answer, Refused) or answer.code == "capped":
                break
        return isinstance(answer, Consumed)

    def _nothing_is_left(self, cap: str, number: int) -> None:
        pool = self.world.pool(cap, number)
        held = {place: each.held for place, each in pool.places.items() if each.held}
        stranded = {place: units for place, units in held.items() if place in self._living}
        must(pool.available <= 0, "C10", f"{cap}: {pool.available} available, and refused")
        must(not stranded, "C10", f"{cap}: stranded at the living: {stranded}")

    @property
    def _living(self) -> set[str]:
        """The incarnations that serve now."""
        return {each.core.incarnation for each in self._servers}

    @property
    def _servers(self) -> list[ServerProcess]:
        """The servers that are not left out."""
        return [each for each in self.world.servers if each.is_running]

    def _number(self, cap: str) -> int | None:
        """The interval that is served now; None where it is not sure.

        A leader's clock may be wrong, while servers count on from what they had heard before.
        """
        leader, meta = self.world.leader, self.world.state.metas.get(cap)
        assert leader is not None
        stamp = self.world.oracle.entries[-1].recorded_at
        interval = meta.at(max(stamp, leader.moment.utc)) if meta is not None else None
        if meta is None or interval is not meta.at(self.world.now_us):
            return None
        return None if interval is None or interval.pool.ended else interval.number

    def _compare(self) -> None:
        """C5, C7, C13: every copy says the same, and what clients were told is in it."""
        world, oracle = self.world, self.world.oracle
        world.run(REPORTS_US)
        for _ in range(50):
            world.run(20_000)
            cores = [each.core for each in world.masters if each.core is not None]
            if all(self._is_at_rest(each) for each in cores):
                break
        else:
            raise Violation("C8", "the masters do not come to rest")
        replayed = world.replay().state
        equation_holds(replayed)
        for each in world.masters:
            links = [entry.link for entry in each.log.entries]
            must(links == [entry.link for entry in oracle.entries], "C5", f"{each.name}'s log")
            assert each.core is not None
            must(each.core.state == replayed, "C7", f"{each.name} lives in another state")
        self._compare_snapshot()
        for (incarnation, cap, number), last in self.served.last.items():
            interval = replayed.interval(cap, number)
            if interval is not None and incarnation in self._living:
                spent = interval.pool.peek(incarnation).spent
                finding = f"{incarnation} spent {spent} of {cap} {number}, and was asked {last}"
                must(last <= spent, "C13", finding)

    def _is_at_rest(self, core: Master) -> bool:
        end = self.world.oracle.end
        is_whole = core.replica.committed == core.replica.head.position == end
        return is_whole and (core.leadership is None or core.leadership.is_settled)

    def _compare_snapshot(self) -> None:
        """C7: a snapshot and what comes behind it give the same as the whole log."""
        world, oracle = self.world, self.world.oracle
        middle = world.random.randint(0, oracle.end)
        fold = Fold()
        for fact in oracle.facts[:middle]:
            fold.evolve(fact)
        master = world.masters[0]
        taken = take(fold.state, master.head_at(middle))
        restored = restore(taken, oracle.link_at(middle))
        assert isinstance(restored, Snapshot), restored
        again = Fold(restored.state)
        for fact in oracle.facts[middle:]:
            again.evolve(fact)
        must(
            again.state == world.replay().state, "C7", f"a snapshot at {middle} gives another state"
        )
