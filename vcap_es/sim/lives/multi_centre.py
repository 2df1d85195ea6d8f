"""A life of several data centres that share caps, and of what is lost between them.

Like every life it has a time of faults, and then everything is healed: nothing may be on its way
any more, and one last caller at one data centre can have whatever is left anywhere. In many of them
definitions are edited in every way, and in some a home is lost for good, and another one forced.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from msgspec import structs

from vcap_es.components.decisions.centre import LoseCentre
from vcap_es.components.decisions.meta import Define, Resume
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.events.facts import Definition, Version
from vcap_es.events.sealing import recorded
from vcap_es.events.units import MS, SECOND_US
from vcap_es.projections.audit import Audit
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.editing import edit
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.life import Figures
from vcap_es.sim.lives.profiles import LIMITS, Profile
from vcap_es.sim.lives.profiles import mishaps as drawn
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.world import World

NAMES = ("a", "b", "c", "d", "e")
STEP_US = 100_000
CONVERGENCE_US = 30 * SECOND_US
DRAIN_TRIES, REFUSALS = 400, 8
EVENTS_MAX = 1_500_000
EDITED_PERCENT, LOSSES_PERCENT = 60, 25
"""How many lives are edited, and how many of these lose a data centre for good."""

OVER = ("capped", "ended", "not_started")
"""How a cap is refused of which nothing is to be had now."""


class SharedLife:
    """One life, from its seed; with other mishaps, if they are given."""

    _kind: type[SimulatedCentres] = SimulatedCentres
    _edited_percent = EDITED_PERCENT
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
        self._lost: set[str] = set()
        self.mishaps = drawn(profile, seed) if planned is None else planned
        self.safety_ms = random.randint(*profile.safety_ms) if safety_ms is None else safety_ms
        self.post = MailConditions(
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
        self._edits = Random(f"{seed}/edits")
        self._is_edited = self._edits.randrange(100) < self._edited_percent
        self._plain = {
            cap: Definition(
                total=self._edits.choice((7, 60, 200, 1000)),
                interval=self._edits.choice(("minute", "minute", "day")),
                placement="even",
            )
            for cap in self.caps
        }

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
            acknowledged=sum(each.oracle.end for each in worlds),
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
        if self._is_edited:
            self._later(0, self._edit)
            if len(self._living) > 2 and self._edits.randrange(100) < LOSSES_PERCENT:
                lost, heir = self._edits.sample(list(self._living), 2)
                at_us = self._edits.randrange(self.safety_ms) * 1000
                self._later(at_us, partial(self._lose, lost, heir))

    # ---- clients and operators

    @property
    def _living(self) -> dict[str, World]:
        """The data centres that are not lost."""
        worlds = self.centres.worlds.items()
        return {name: world for name, world in worlds if name not in self._lost}

    def _any_world(self) -> World:
        return self._random.choice(list(self._living.values()))

    def _home(self, cap: str) -> World:
        """Who decides a cap, as far as somebody says so."""
        for world in self._living.values():
            meta = world.committed.state.metas.get(cap)
            if meta is not None and not meta.home:
                return world
        return self.caps[cap]

    # ---- edits

    def _edit(self) -> None:
        """An operator somewhere edits a definition; whoever decides it gets to know."""
        if self._is_over:
            return
        cap = self._edits.choice(list(self.caps))
        world = self._edits.choice(list(self._living.values()))
        command = edit(self._edits, cap, self._plain[cap], world.now_us, list(self._living))
        is_known = cap in world.committed.state.metas  # else a twin of it would be defined
        if is_known and world.leader is not None and not world.leader.is_paused:
            self.world.note("edit", (world.dc, command))
            world.order(command)
        self._later(self._edits.choice((50_000, 500_000, 2 * SECOND_US)), self._edit)

    def _lose(self, lost: str, heir: str) -> None:
        """A data centre is stopped for good, when the others know what it has decided."""
        if self._is_over:
            return
        state = self.centres.worlds[lost].committed.state
        if any(meta.version != self._known(cap) for cap, meta in state.metas.items()):
            self._later(STEP_US, partial(self._lose, lost, heir))
            return
        self._lost.add(lost)
        for master in self.centres.worlds[lost].masters:
            master.kill()
        self.world.note("lost", lost)
        self.happened["lost"] = 1
        self._attest(lost, heir)

    def _known(self, cap: str) -> Version | None:
        """The version of a cap that everybody knows; None where it is not the same."""
        metas = [each.committed.state.metas.get(cap) for each in self.centres.worlds.values()]
        versions = {None if meta is None else meta.version for meta in metas}
        return versions.pop() if len(versions) == 1 else None

    def _attest(self, lost: str, heir: str) -> None:
        """Two operators say that it is lost, until that is known where it is said."""
        world = self.centres.worlds[heir]
        if world.committed.state.is_lost(lost):
            return
        if world.leader is not None and not world.leader.is_paused:
            for operator in ("ann", "bob"):
                world.order(LoseCentre(centre=lost, heir=heir), actor=operator)
        self._later(5 * STEP_US, partial(self._attest, lost, heir))

    def _mend(self, cap: str, home: World) -> str:
        """Let a cap be as it should be again; what is missing, "" where nothing is."""
        meta = home.state.metas[cap]
        if not self._is_edited or home.leader is None:
            return ""
        kept = structs.replace(meta.definition, start=None)  # which stays where none is given
        if meta.retired or kept != self._plain[cap]:
            home.order(Define(cap=cap, definition=self._plain[cap]))
            return f"{cap} is edited"
        if meta.paused:
            home.order(Resume(cap=cap))
            return f"{cap} is paused"
        return ""

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
            self._later(mishap.lasts_ms * 1000, partial(self._start, mishap.who, leader))
        elif mishap.kind == "power":
            for master in worlds[mishap.who].masters:
                master.kill(is_power_lost=True)
                self._later(mishap.lasts_ms * 1000, partial(self._start, mishap.who, master))
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
        self.world.note("nemesis", mishap)
        self.happened[mishap.kind] = self.happened.get(mishap.kind, 0) + 1

    def _start(self, name: str, master: MasterProcess) -> None:
        """What is lost is never started again."""
        if name not in self._lost:
            master.start_unless_running()

    def _join(self, pairs: set[tuple[str, str]]) -> None:
        self.centres.cut -= pairs

    def _heal(self) -> None:
        self._is_over = True
        self.centres.cut.clear()
        self.centres.post = MailConditions()
        for world in self._living.values():
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
        for name, world in self._living.items():
            audit = Audit()
            for entry in world.oracle.entries:
                audit.feed(recorded(entry))
            must(not audit.findings, "C1", f"{name}: {audit.findings[:1]}")
            leader = world.leader
            leads = leader.core.leadership if leader is not None and leader.core else None
            if leads is not None and leads.is_settled:
                must(world.replay().state == world.state, "C7", f"{name} lives in another state")

    def _missing(self) -> str:
        """What is not as it should be, "" where all is well."""
        for name, world in self._living.items():
            if world.leader is None:
                return f"nobody leads {name}"
        for cap in self.caps:
            home = self._home(cap)
            if home.dc in self._lost:
                return f"nobody decides {cap}"
            wanted = home.state.metas.get(cap)
            if wanted is None:
                self._order(cap, home)
                return f"{cap} is not defined"
            if missing := self._mend(cap, home):
                return missing
            for name, world in self._living.items():
                meta = world.state.metas.get(cap)
                if meta is None or meta.version != wanted.version:
                    return f"{name} knows {cap} as {meta and meta.version}, not {wanted.version}"
            for interval in () if self._lost else wanted.intervals:
                if (left := self.centres.in_transit(cap, interval.number)) > 0:
                    return f"{left} of {cap} {interval.number} are on their way"
        return ""

    def _drain(self, cap: str) -> None:
        """C10: one last caller can have whatever is left anywhere."""
        world = self._any_world()
        home = self._home(cap)
        server = self._random.choice([each for each in world.servers if each.is_running])
        refusals, answer = 0, object()
        for _ in range(DRAIN_TRIES):
            number = self._number(cap, home)
            answer = world.ask(server, Consume(cap=cap, minimum=1, maximum=1_000_000))
            if isinstance(answer, Consumed):
                refusals = 0
                continue
            is_capped = isinstance(answer, Refused) and answer.code in OVER
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
        for name, world in self._living.items():
            interval = world.state.interval(cap, number)
            if interval is not None:
                left[name] = (interval.pool.available, interval.pool.held)
        units = sum(max(0, available) + held for available, held in left.values())
        must(units <= 0, "C10", f"{units} of {cap} {number} are left, and refused: {left}")


def _say(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"{name} {text}")
