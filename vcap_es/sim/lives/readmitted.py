"""A life of several data centres of which one or two are restored in its midst, and readmitted.

Callers ask all the while, at every generation; masters die, links break, and what is told is lost.
Of no period more is served than its largest total, the books of all agree in the end, and a period
that nobody can have opened before the restores is served in full.
"""

from collections.abc import Callable

from vcap_es.components.decisions.meta import Define, MoveHome
from vcap_es.components.decisions.restore import AcceptLoss, servers_missing
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Refused
from vcap_es.events.chain import Stored
from vcap_es.events.facts import Definition
from vcap_es.events.facts.meta import IntervalKind
from vcap_es.events.periods import window_at
from vcap_es.events.units import SECOND_US
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.multi_centre import STEP_US, SharedLife
from vcap_es.sim.lives.profiles import Profile
from vcap_es.sim.world.centres import SimulatedCentres
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.restored_centres import RestoredCentres, must_agree
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

READMISSION_US = 40 * SECOND_US
DRAINS_MAX = 200


class ReadmittedLife(SharedLife):
    """One life, from its seed."""

    _kind: type[SimulatedCentres] = RestoredCentres
    _centres_max = 3
    _edited_percent = 0

    def __init__(
        self,
        profile: Profile,
        seed: int,
        *,
        planned: list[Mishap] | None = None,
        safety_ms: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(profile, seed, planned=planned, safety_ms=safety_ms, say=say)
        assert isinstance(self.centres, RestoredCentres)
        self.restored = self.centres
        self.intervals: dict[str, IntervalKind] = {
            cap: self._random.choice(("minute", "day", "day")) for cap in self.caps
        }
        self.total_max = self._random.choice((7, 60, 200))
        self.restored_at = 0
        self._old: list[ServerProcess] = []
        self._acts: set[tuple[str, str]] = set()
        self._all_came_over = True

    def live(self) -> None:
        """Raises `Violation` where something is not as it must be."""
        random = self._random
        self.centres.run(SECOND_US)
        self._define()
        self.centres.run(random.choice((0, SECOND_US)))
        self._begin()
        self._go_on(random.randint(200, self.safety_ms))
        for _ in range(random.choice((1, 1, 1, 2))):
            self._lose_and_restore()
        self._let_in()
        self._go_on(random.choice((500, 5_000)))
        self._heal()
        self._readmit_all()
        self._converge()
        self._settle_books()
        if random.random() < 0.7:
            self._release()
        if random.random() < 0.2:
            self._serve_in_full()
        self._converge()
        self._compare()
        self.restored.check()

    # ---- what happens

    def _order(self, cap: str, home: World) -> None:
        """The calendar stays: two generations are compared period by period."""
        definition = Definition(
            total=self._random.choice((self.total_max // 2, self.total_max)),
            interval=self.intervals[cap],
            placement=self._random.choice(("even", "even", "weighted", "spread 2")),
        )
        self._command(home, Define(cap=cap, definition=definition))

    def _command(self, world: World, command: Define | MoveHome) -> None:
        leader = world.leader
        if leader is not None and not leader.is_paused and leader.core is not None:
            world.order(command)

    def _go_on(self, duration_ms: int) -> None:
        """Let callers ask for a while, also at the servers of generations before."""
        until = self.centres.scheduler.now_ns + duration_ms * 1_000_000
        while self.centres.scheduler.now_ns < until:
            self.centres.run(500_000)
            running = [each for each in self._old if each.is_running]
            if running:
                amount = self._random.choice((1, 2, 5))
                cap = self._random.choice(list(self.caps))
                self._random.choice(running).submit(
                    Consume(cap=cap, minimum=amount, maximum=amount)
                )
            if self._random.random() < 0.02:
                self._move_home()
            self._readmit_some()
            self.restored.check()

    def _move_home(self) -> None:
        cap = self._random.choice(list(self.caps))
        to = self._any_world().dc
        for world in self.centres.worlds.values():
            self._command(world, MoveHome(cap=cap, to=to))
        self.happened["move"] = self.happened.get("move", 0) + 1

    def _lose_and_restore(self) -> None:
        """One data centre is backed up, goes on, is lost, and restored."""
        name = self._random.choice(list(self.centres.worlds))
        backup = self._backup(name)
        self._go_on(self._random.choice((200, 2_000, 2_000, 8_000)))
        old = self.centres.worlds[name]
        old.kill_master()
        for master in old.masters:
            master.lose_disk()
        self._go_on(self._random.choice((0, 200, 5_000)))
        self._old += old.servers
        new = self.restored.restore(name, backup, servers=self._random.randint(1, 2))
        self.restored_at = max(self.restored_at, new.now_us)
        self._acts |= {
            pair
            for other in self.centres.worlds
            if other != name
            for pair in ((name, other), (other, name))
        }
        self.caps = {cap: new if home is old else home for cap, home in self.caps.items()}
        self.hot = new if self.hot is old else self.hot
        self.happened["restore"] = self.happened.get("restore", 0) + 1
        self._go_on(self._random.choice((500, 5_000)))

    def _backup(self, name: str) -> list[Stored]:
        while self.centres.worlds[name].oracle.end == 0:
            self.centres.run(STEP_US)
        return self.restored.backup(name)

    def _readmit_some(self) -> None:
        """Operators let data centres in, in any order, when these have knocked."""
        if self._acts and self._random.random() < 0.2:
            pair = self._random.choice(sorted(self._acts))
            if not self.restored.act(*pair):
                self._acts.discard(pair)
                self.happened["readmit"] = self.happened.get("readmit", 0) + 1

    def _let_in(self) -> None:
        """Some servers of the generations before come over, some die, and the others go on."""
        for name, worlds in self.restored.before.items():
            for server in [each for world in worlds for each in world.servers]:
                server.start_unless_running()
                nemesis = self._random.random()
                if nemesis < 0.6:
                    self.restored.send_over(name, server)
                    self._old.remove(server)
                    self._admit(name, server)
                else:
                    self._all_came_over = False
                    if nemesis < 0.8:
                        server.kill()
                self._go_on(self._random.choice((0, 1_000)))

    def _admit(self, name: str, server: ServerProcess) -> None:
        for _ in range(100):
            if self.restored.admit(name, server):
                return
            self.centres.run(STEP_US)
        self._all_came_over = False

    # ---- the end

    def _readmit_all(self) -> None:
        """C8: whoever is restored takes part again, when an operator at either side says so."""
        for at, about in sorted(self._acts):
            trouble = "nobody said so"
            for _ in range(READMISSION_US // STEP_US):
                trouble = self.restored.act(at, about)
                if not trouble:
                    break
                self.centres.run(STEP_US)
            must(not trouble, "C8", f"{at} did not readmit {about}: {trouble}")
        self._acts.clear()

    def _settle_books(self) -> None:
        """C8, C14: all caps are confirmed by their homes, and all books agree."""
        finding = "time"
        for _ in range(READMISSION_US // STEP_US):
            self.centres.run(STEP_US)
            self.restored.check()
            finding = self._unsettled()
            if not finding:
                must_agree(self.restored, list(self.caps))
                return
        raise Violation("C8", f"after all were readmitted: {finding}")

    def _unsettled(self) -> str:
        for name, world in self.centres.worlds.items():
            if world.master is None:
                return f"nobody leads {name}"
            for cap in self.caps:
                meta = world.state.metas.get(cap)
                is_alone = len(self.restored.before) == 1  # else they wait for a later period
                if meta is None or (is_alone and world.state.is_unconfirmed(meta)):
                    return f"{name} has not confirmed {cap}"
        homes = {cap: self._homes(cap) for cap in self.caps}
        twice = [f"{cap} is decided at {found}" for cap, found in homes.items() if len(found) != 1]
        return twice[0] if twice else self.restored.check_books(list(self.caps))

    def _homes(self, cap: str) -> list[str]:
        worlds = self.centres.worlds.items()
        return [name for name, world in worlds if not world.state.metas[cap].home]

    def _release(self) -> None:
        """Two operators release what nobody that is known can have; if nobody is unknown."""
        if not self._all_came_over or any(each.is_running for each in self._old):
            return
        for world in self.centres.worlds.values():
            if world.master is not None and not servers_missing(world.state):
                for operator in ("ann", "bob"):
                    world.order(AcceptLoss(if_told=True), operator)
                self.centres.run(STEP_US)
        self.happened["release"] = 1
        for cap in self.caps:
            for world in self.centres.worlds.values():
                self._take_all(world, cap)
        self.restored.check()

    def _take_all(self, world: World, cap: str) -> None:
        for server in [each for each in world.servers if each.is_running]:
            for _ in range(DRAINS_MAX):
                answer = world.ask(server, Consume(cap=cap, minimum=1, maximum=1_000_000))
                if isinstance(answer, Refused) and answer.code in ("capped", "ended"):
                    break
                if isinstance(answer, Refused):
                    self.centres.run(STEP_US)

    def _serve_in_full(self) -> None:
        """C10: a period that was never open before is served as usual, to the last unit."""
        for cap in self.caps:
            if self.intervals[cap] != "minute":
                continue
            now = self.centres.worlds[self.world.dc].now_us
            self._after(max(self.restored_at, now))
            (home,) = self._homes(cap)
            self.caps[cap] = self.centres.worlds[home]
            interval = self.caps[cap].state.metas[cap].at(self.caps[cap].now_us)
            must(interval is not None, "C10", f"{cap} has no interval")
            assert interval is not None
            if len(self.restored.before) == 1:
                must(interval.pool.old is None, "C10", f"{cap} {interval.number} is withheld")
                self._drain(cap)

    def _after(self, instant: int) -> None:
        """Let time pass until the period after the next one has begun."""
        following = window_at("minute", "UTC", window_at("minute", "UTC", instant).end).end
        world = self.centres.worlds[self.world.dc]
        self.centres.run(max(0, following - world.now_us) + 2 * SECOND_US)
