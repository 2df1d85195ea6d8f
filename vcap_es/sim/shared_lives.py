"""A life of several data centres that share caps, and of what is lost between them.

Like every life it has a time of faults, and then everything is healed: nothing may be on its way
any more, and one last caller at one data centre can have whatever is left anywhere.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from vcap_es.components.commands import Consume
from vcap_es.components.decisions.meta import Define
from vcap_es.components.outcomes import Consumed, Refused
from vcap_es.events.facts import Definition
from vcap_es.events.sealing import recorded
from vcap_es.projections.audit import Audit
from vcap_es.sim.centres import Centres, Post
from vcap_es.sim.invariants import must
from vcap_es.sim.lives import Figures
from vcap_es.sim.mishaps import Mishap
from vcap_es.sim.network import MS
from vcap_es.sim.profiles import LIMITS, Profile
from vcap_es.sim.profiles import mishaps as drawn
from vcap_es.sim.site import NOON
from vcap_es.sim.violations import Violation
from vcap_es.sim.world import World

NAMES = ("a", "b", "c", "d", "e")
SECOND_US, STEP_US = 1_000_000, 100_000
CONVERGENCE_US = 30 * SECOND_US
DRAIN_TRIES, REFUSALS = 400, 8
EVENTS_MAX = 1_500_000


class SharedLife:
    """One life, from its seed; with other mishaps, if they are given."""

    _kind: type[Centres] = Centres
    _centres_max = len(NAMES)

    def __init__(
        self,
        profile: Profile,
        seed: int,
        *,
        planned: list[Mishap] | None = None,
        safety_ms: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._random = random = Random(f"{seed}/shared")
        self.mishaps = drawn(profile, seed) if planned is None else planned
        self.safety_ms = random.randint(*profile.safety_ms) if safety_ms is None else safety_ms
        self.post = Post(
            lost_percent=random.choice((0, 0, 5, 30)),
            repeated_percent=random.choice((0, 20)),
            delay_us=random.choice(((500, 500), (500, 5_000), (1_000, 100_000), (40_000, 40_000))),
        )
        self.centres = self._kind(
            NAMES[: random.randint(2, self._centres_max)],
            servers=random.randint(1, 2),
            seed=seed,
            now=NOON + random.choice((5, 40, 52)) * SECOND_US,
            limits=LIMITS,
            masters=2,
            witnesses=1,
            post=self.post,
        )
        self.centres.scheduler.events_max = EVENTS_MAX
        for name, world in self.centres.worlds.items():
            world.say = None if say is None else partial(_say, say, name)
        self.world = next(iter(self.centres.worlds.values()))
        self.caps = {f"c{number}": self._any_world() for number in range(random.randint(1, 2))}
        self.hot = self._any_world()
        self.asked = 0
        self.happened: dict[str, int] = {}
        self._is_over = False

    def live(self) -> None:
        """Raises `Violation` where something is not as it must be."""
        self.centres.run(SECOND_US)
        self._define()
        self.centres.run(self._random.choice((0, SECOND_US)))
        self._begin()
        self.centres.run(self.safety_ms * 1000)
        self._heal()
        self._converge()
        for cap in self.caps:
            self._drain(cap)
        self._converge()
        self._compare()

    @property
    def figures(self) -> Figures:
        """What came of it so far."""
        worlds = self.centres.worlds.values()
        return Figures(
            events=self.centres.scheduler.events,
            virtual_ms=self.centres.scheduler.now_ns // MS,
            asked=self.asked,
            acknowledged=sum(each.truth.end for each in worlds),
            elections=sum(each.elections for each in worlds),
            messages=self.centres.carried,
            lost=self.centres.lost,
            mishaps=self.happened,
        )

    def _begin(self) -> None:
        """From now on clients ask, and bad things happen."""
        self._later(0, self._act)
        for each in self.mishaps:
            self._later(each.at_ms * 1000, partial(self._let, each))

    # ---- clients and operators

    def _any_world(self) -> World:
        return self._random.choice(list(self.centres.worlds.values()))

    def _define(self) -> None:
        for cap, home in self.caps.items():
            self._order(cap, home)

    def _order(self, cap: str, home: World) -> None:
        definition = Definition(
            total=self._random.choice((7, 60, 200, 1000)),
            interval=self._random.choice(("minute", "day")),
            placement=self._random.choice(("even", "even", "weighted", "spread 2")),
        )
        if home.leader is not None and not home.leader.is_paused:
            home.order(Define(cap=cap, definition=definition))

    def _act(self) -> None:
        if self._is_over:
            return
        roll = self._random.random()
        if roll < 0.01:
            self._order(*self._random.choice(list(self.caps.items())))
        else:
            world = self.hot if roll < 0.5 else self._any_world()
            server = self._random.choice(world.servers)
            if server.is_running:
                amount = self._random.choice((1, 1, 2, 5))
                cap = self._random.choice(list(self.caps))
                server.submit(Consume(cap=cap, minimum=amount, maximum=amount))
                self.asked += 1
        self._later(20_000, self._act)

    # ---- mishaps

    def _later(self, delay_us: int, call: Callable[[], None]) -> None:
        self.world.later(delay_us, call)

    def _let(self, mishap: Mishap) -> None:
        """Let it happen, if there is such a data centre."""
        worlds = self.centres.worlds
        if self._is_over or mishap.who not in worlds:
            return
        if mishap.kind == "crash":
            leader = worlds[mishap.who].leader
            if leader is None:
                return
            leader.kill()
            self._later(mishap.lasts_ms * 1000, leader.start_unless_running)
        elif mishap.kind == "power":
            for master in worlds[mishap.who].masters:
                master.kill(is_power_lost=True)
                self._later(mishap.lasts_ms * 1000, master.start_unless_running)
        elif mishap.kind == "part" and mishap.other in worlds:
            pairs = {(mishap.who, mishap.other), (mishap.other, mishap.who)}
            self.centres.cut |= pairs
            self._later(mishap.lasts_ms * 1000, lambda: self._join(pairs))
        elif mishap.kind == "isolate":
            pairs = {
                pair
                for other in worlds
                if other != mishap.who
                for pair in ((mishap.who, other), (other, mishap.who))
            }
            self.centres.cut |= pairs
            self._later(mishap.lasts_ms * 1000, lambda: self._join(pairs))
        self.world.note("fate", mishap)
        self.happened[mishap.kind] = self.happened.get(mishap.kind, 0) + 1

    def _join(self, pairs: set[tuple[str, str]]) -> None:
        self.centres.cut -= pairs

    def _heal(self) -> None:
        self._is_over = True
        self.centres.cut.clear()
        self.centres.post = Post()
        for world in self.centres.worlds.values():
            for master in world.masters:
                master.start_unless_running()
        self.world.note("", "healed")

    # ---- the end

    def _converge(self) -> None:
        missing = "time"
        for _ in range(CONVERGENCE_US // STEP_US):
            self.centres.run(STEP_US)
            self.centres.check()
            missing = self._missing()
            if not missing:
                return
        raise Violation("C8", f"{CONVERGENCE_US // SECOND_US} s after all is healed: {missing}")

    def _compare(self) -> None:
        """C7: replaying a log gives what is live there; and its audit finds nothing."""
        self.centres.run(SECOND_US)
        for name, world in self.centres.worlds.items():
            audit = Audit()
            for entry in world.truth.entries:
                audit.feed(recorded(entry))
            must(not audit.findings, "C1", f"{name}: {audit.findings[:1]}")
            leader = world.leader
            leads = leader.core.leadership if leader is not None and leader.core else None
            if leads is not None and leads.is_settled:
                must(world.replay().state == world.state, "C7", f"{name} lives in another state")

    def _missing(self) -> str:
        """What is not as it should be, "" where all is well."""
        for name, world in self.centres.worlds.items():
            if world.leader is None:
                return f"nobody leads {name}"
        for cap, home in self.caps.items():
            wanted = home.state.metas.get(cap)
            if wanted is None:
                self._order(cap, home)
                return f"{cap} is not defined"
            for name, world in self.centres.worlds.items():
                meta = world.state.metas.get(cap)
                if meta is None or meta.version != wanted.version:
                    return f"{name} knows {cap} as {meta and meta.version}, not {wanted.version}"
            for interval in wanted.intervals:
                if left := self.centres.in_transit(cap, interval.number):
                    return f"{left} of {cap} {interval.number} are on their way"
        return ""

    def _drain(self, cap: str) -> None:
        """C10: one last caller can have whatever is left anywhere."""
        world = self._any_world()
        home = self.caps[cap]
        server = self._random.choice([each for each in world.servers if each.is_running])
        refusals, answer = 0, object()
        for _ in range(DRAIN_TRIES):
            number = self._number(cap, home)
            answer = world.ask(server, Consume(cap=cap, minimum=1, maximum=1_000_000))
            if isinstance(answer, Consumed):
                refusals = 0
                continue
            is_capped = isinstance(answer, Refused) and answer.code in ("capped", "ended")
            refusals = refusals + 1 if is_capped else 0
            if refusals >= REFUSALS and number == self._number(cap, home):
                self._nothing_is_left(cap, number)
                return
            self.centres.run(STEP_US if not is_capped else SECOND_US)
        raise Violation("C10", f"{cap} cannot be drained: {answer}")

    def _number(self, cap: str, home: World) -> int | None:
        interval = home.state.metas[cap].at(home.now_us)
        return None if interval is None or interval.pool.ended else interval.number

    def _nothing_is_left(self, cap: str, number: int | None) -> None:
        if number is None:
            return
        left = {}
        for name, world in self.centres.worlds.items():
            interval = world.state.interval(cap, number)
            if interval is not None:
                left[name] = (interval.pool.available, interval.pool.held)
        units = sum(max(0, available) + held for available, held in left.values())
        must(units <= 0, "C10", f"{units} of {cap} {number} are left, and refused: {left}")


def _say(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"{name} {text}")
