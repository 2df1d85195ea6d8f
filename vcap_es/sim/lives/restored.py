"""A life that is restored from a backup in the midst of it.

Servers ask and spend all the while, in both generations. Some of the old ones are readmitted, some
go on by themselves, some die. In many lives the restored cap is then edited in every way. Of no
period is more served by both than its largest total, and a
period that the generation before cannot have opened is served in full.
"""

from collections.abc import Callable
from random import Random

from msgspec import structs

from vcap_es.components.decisions.meta import Define, Resume
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Refused
from vcap_es.components.primary_master.outputs import Done
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Definition
from vcap_es.events.periods import window_at
from vcap_es.events.sealing import recorded
from vcap_es.events.units import MS, SECOND_US
from vcap_es.projections.audit import Audit
from vcap_es.projections.balances import amounts_of, balance_of
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.lives.editing import edit
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.life import Figures
from vcap_es.sim.lives.profiles import LIMITS, Profile
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.restores import Restoring
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

EVENTS_MAX = 1_000_000
MINUTE_US = 60_000_000
CAPS = ("c", "late")
READMISSION_US = 2 * SECOND_US
DRAINS_MAX, ANSWER_US = 60, 100_000
EDITED_PERCENT, MENDS_MAX = 50, 50


class RestoredLife:
    """One life, from its seed."""

    def __init__(
        self,
        profile: Profile,
        seed: int,
        *,
        planned: list[Mishap] | None = None,
        safety_ms: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        del planned  # what happens here is drawn as it comes
        self._random = random = Random(f"{seed}/restored")
        self.mishaps: list[Mishap] = []
        self.safety_ms = random.randint(*profile.safety_ms) if safety_ms is None else safety_ms
        faults = Faults(
            lose=random.choice((0, 0, 10)),
            repeat=random.choice((0, 20)),
            delay_us_max=random.choice((500, 20_000)),
        )
        self.restoring = Restoring(random.randint(2, 3), seed=seed, faults=faults, limits=LIMITS)
        self.world = self.restoring.old
        self.world.scheduler.events_max = EVENTS_MAX
        self.world.say = say
        self._totals = dict.fromkeys(CAPS, random.choice((20, 60, 200)))
        self._edits = Random(f"{seed}/edits")
        self._is_edited = self._edits.randrange(100) < EDITED_PERCENT
        self._askers: list[ServerProcess] = []
        self.asked = 0
        self.happened: dict[str, int] = {}

    def live(self) -> None:
        """Raises `Violation` where something is not as it must be."""
        old, random = self.world, self._random
        old.run(SECOND_US)
        self._define(old, "c")
        self._askers = list(old.servers)
        self._go_on(old, self.safety_ms)
        backup = self.restoring.backup()
        self._go_on(old, random.choice((200, 5_000, 30_000, 90_000)), defines="late")
        restored_at = self._restore(backup)
        new = self.restoring.new
        assert new is not None
        self._define(new, "late")
        self._readmit(new)
        self._go_on(new, random.choice((5_000, 40_000)), defines="c")
        self._mend(new, "c")
        self._serve_in_full(new, restored_at)
        self._audit(new)

    @property
    def figures(self) -> Figures:
        """What came of it so far."""
        worlds = [each for each in (self.restoring.old, self.restoring.new) if each is not None]
        return Figures(
            events=self.world.scheduler.events,
            virtual_ms=self.world.scheduler.now_ns // MS,
            asked=self.asked,
            acknowledged=sum(each.oracle.end for each in worlds),
            elections=sum(each.elections for each in worlds),
            messages=sum(each.network.packets.sent for each in worlds),
            lost=sum(each.network.packets.lost for each in worlds),
            mishaps=self.happened,
        )

    # ---- what happens

    def _plain(self, cap: str) -> Definition:
        return Definition(total=self._totals[cap], interval="minute")

    def _define(self, world: World, cap: str) -> None:
        if world.leader is not None:
            world.order(Define(cap=cap, definition=self._plain(cap)))

    def _edit(self, world: World, cap: str) -> None:
        if world.leader is not None:
            command = edit(self._edits, cap, self._plain(cap), world.now_us)
            world.note("edit", command)
            world.order(command)

    def _mend(self, world: World, cap: str) -> None:
        """Let a cap be as it should be again."""
        for _ in range(MENDS_MAX):
            self._wait_for_leader(world)
            meta = world.state.metas[cap]
            kept = structs.replace(meta.definition, start=None)  # which stays where none is given
            if kept == self._plain(cap) and not (meta.retired or meta.paused):
                return
            self._define(world, cap)
            if world.leader is not None:
                world.order(Resume(cap=cap))
            world.run(ANSWER_US)
        must(holds=False, check="C8", finding=f"{cap} stays edited")

    def _go_on(self, world: World, duration_ms: int, defines: str = "") -> None:
        """Let callers ask for a while; a total may change, and anybody may die."""
        random, until = self._random, world.scheduler.now_ns + duration_ms * MS
        while world.scheduler.now_ns < until:
            if self._askers:
                self._ask(random.choice(self._askers))
            world.run(random.choice((1_000, 20_000, 400_000)))
            if defines and random.random() < 0.02:
                self._totals[defines] = random.choice((20, 60, 200))
                self._define(world, defines)
            if self._is_edited and defines == "c" and self._edits.random() < 0.05:
                self._edit(world, defines)
            if random.random() < 0.01:
                self._crash(world)

    def _ask(self, server: ServerProcess) -> None:
        if server.is_running:
            amount = self._random.randint(1, 5)
            cap = self._random.choice(CAPS)
            server.submit(Consume(cap=cap, minimum=amount, maximum=amount))
            self.asked += 1

    def _crash(self, world: World) -> None:
        processes: list[MasterProcess | ServerProcess] = [*world.masters, *world.servers]
        process = self._random.choice(processes)
        if process.is_running:
            self.happened["crash"] = self.happened.get("crash", 0) + 1
            process.kill()
            world.later(self._random.choice((1_000, 500_000)), process.start_unless_running)

    def _restore(self, backup: list[Stored]) -> int:
        """Restore it; the generation before goes on for a while, within the periods it has open."""
        old, random = self.world, self._random
        if random.random() < 0.5:
            old.kill_master()
            old.masters = []
        new = self.restoring.restore(backup, servers=random.randint(1, 2))
        restored_at = new.now_us
        self.happened["restore"] = 1
        self._askers += new.servers
        if old.masters:
            end = window_at("minute", "UTC", restored_at).end
            old.later(random.randrange(end - new.now_us), old.kill_master)
        new.run(SECOND_US)
        return restored_at

    def _readmit(self, new: World) -> None:
        """Some old servers come over, some die, and the others serve what they hold."""
        for server in list(self.world.servers):
            nemesis = self._random.random()
            server.start_unless_running()
            if nemesis < 0.5:
                self._wait_for_leader(new)
                done = self.restoring.readmit(server)
                must(isinstance(done, Done), "C8", f"{server.name} was not readmitted: {done}")
                self.happened["readmit"] = self.happened.get("readmit", 0) + 1
            elif nemesis < 0.7:
                server.kill()
            self._go_on(new, self._random.choice((0, 3_000)))

    def _wait_for_leader(self, world: World) -> None:
        for _ in range(100):
            if world.master is not None:
                return
            world.start_master()
            world.run(ANSWER_US)
        must(holds=False, check="C8", finding="nobody leads after the restore")

    # ---- the end

    def _serve_in_full(self, new: World, restored_at: int) -> None:
        """C10: the first period that was never open is served as usual, to the last unit."""
        following = window_at("minute", "UTC", window_at("minute", "UTC", restored_at).end).end
        new.run(max(0, following - new.now_us) + READMISSION_US)
        new.start_master()
        for server in new.servers:
            server.start_unless_running()
        new.run(READMISSION_US)
        self._wait_for_leader(new)
        for cap in CAPS:
            self._drain(new, cap)

    def _drain(self, new: World, cap: str) -> None:
        meta = new.state.metas.get(cap)
        interval = meta.at(new.now_us) if meta is not None else None
        if interval is None:
            return
        must(interval.pool.old is None, "C10", f"{cap} {interval.number} is withheld")
        for server in new.servers:
            for _ in range(DRAINS_MAX):
                token = server.submit(Consume(cap=cap, minimum=1, maximum=1_000_000))
                new.run(ANSWER_US)
                answer = server.answers.get(token)
                if isinstance(answer, Refused) and answer.code == "capped":
                    break
        pool = interval.pool
        must(pool.available <= 0, "C10", f"{cap}: {pool.available} available, and refused")

    def _audit(self, new: World) -> None:
        """The independent audit finds nothing, and the same books."""
        new.run(READMISSION_US)
        audit = Audit()
        events: list[Recorded] = [recorded(each) for each in new.oracle.entries]
        for event in events:
            audit.feed(event)
        metas = new.oracle.fold.state.metas.values()
        audit.compare(amounts_of(balance_of(meta) for meta in metas))
        must(not audit.findings, "C1", f"{audit.findings[:1]}")
