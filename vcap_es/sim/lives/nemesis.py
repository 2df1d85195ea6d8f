"""Fate lets mishaps happen in a world, and in the end makes everything good again."""

from collections.abc import Callable
from functools import partial
from itertools import count, permutations

from vcap_es.components.decisions.primacy import Config, is_quorum
from vcap_es.events.units import MS
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

SLOWNESS = 10
AWAY_MS = 5
Undo = Callable[[], None]
Node = MasterProcess | ServerProcess


class Nemesis:
    """`happened` counts the mishaps that came about, by kind.

    No disk is harmed that has the only copy of what was acknowledged: nobody could bear that.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.happened: dict[str, int] = {}
        nodes: list[Node] = [*world.masters, *world.servers]
        self._processes = {each.name: each for each in nodes}
        self._undos: dict[int, Undo] = {}
        self._numbers = count()
        self._is_healed = False

    def plan(self, mishaps: list[Mishap]) -> None:
        """Let all of these happen in their time."""
        for each in mishaps:
            self._later(each.at_ms, self._happening(each))

    @property
    def has_harmed_disks(self) -> bool:
        """Whether some disk has lost what was on it."""
        return bool(self.happened.keys() & {"wipe", "tail", "behind"})

    def heal(self, left_out: Node | None = None) -> None:
        """From now on everything works; what lost something on its way is connected anew.

        `left_out` is dead, and stays so.
        """
        world = self.world
        self._is_healed = True
        for undo in list(self._undos.values()):
            undo()
        self._undos.clear()
        is_lossy = not world.faults.is_ordered
        world.faults = Faults(is_ordered=True)
        for each in self._processes.values():
            if each is left_out:
                each.kill()
            else:
                each.start_unless_running()
        if is_lossy:
            for one, other in permutations(self._processes.values(), 2):
                world.network.reset(one, other)

    # ---- one mishap

    def _later(self, delay_ms: int, call: Callable[[], None]) -> None:
        def due() -> None:
            if not self._is_healed:
                call()

        self.world.scheduler.later(delay_ms * MS, due)

    def _happening(self, mishap: Mishap) -> Callable[[], None]:
        def happen() -> None:
            undo = self._begin(mishap)
            if undo is None:
                return
            self.world.note("nemesis", mishap)
            self.happened[mishap.kind] = self.happened.get(mishap.kind, 0) + 1
            number = next(self._numbers)  # two mishaps may be alike
            self._undos[number] = undo
            self._later(mishap.lasts_ms, partial(self._end, number))

        return happen

    def _end(self, number: int) -> None:
        undo = self._undos.pop(number, None)
        if undo is not None:
            undo()

    def _begin(self, mishap: Mishap) -> Undo | None:
        """Let it happen; how it is undone, or None where it cannot happen now."""
        who, other, process = mishap.who, mishap.other, self._processes[mishap.who]
        match mishap.kind:
            case "crash":
                return self._crash(process)
            case "power":
                return self._power(process)
            case "amid":
                return self._amid(process, mishap.lasts_ms)
            case "behind":
                return self._behind(process, mishap.lasts_ms, is_wiped=mishap.amount > 0)
            case "pause":
                return self._pause(process)
            case "slow":
                return self._slow(process)
            case "wall":
                return self._wall(process, mishap.amount)
            case "stop":
                return self._stop(process)
            case "cut":
                return self._cut_all([(who, other)])
            case "part":
                return self._cut_all([(who, other), (other, who)])
            case "isolate":
                return self._isolate(who)
            case "clog":
                return self._clog(who, other, mishap.amount)
            case "reset":
                return self._reset(process, self._processes[other])
            case "fsync":
                return self._fsync(process)
            case "full":
                return self._full(process)
            case "hang":
                return self._hang(process)
            case "tail":
                return self._tail(process, mishap.amount, is_heard=other == "heard")
            case "wipe":
                return self._wipe(process)
            case "switch":
                return self._switch()
            case "force":
                return self._force(process, self._processes[other])
        raise AssertionError(f"nobody knows the mishap {mishap.kind}")

    # ---- processes

    def _crash(self, process: Node) -> Undo:
        process.kill()
        return process.start_unless_running

    def _power(self, process: Node) -> Undo:
        process.kill(is_power_lost=True)
        return process.start_unless_running

    def _amid(self, process: Node, lasts_ms: int) -> Undo:
        """Crash it while it writes its ballot, as soon as it does within this time."""

        def crash() -> None:
            process.kill()
            self._later(AWAY_MS, process.start_unless_running)

        self._when_voting(process, lasts_ms, crash)
        return _nothing

    def _behind(self, process: Node, lasts_ms: int, *, is_wiped: bool) -> Undo:
        """Crash it, or take its disk as well, when it has written its ballot."""

        def crash() -> None:
            if process.ballots is not None and process.ballots.writing is not None:
                self._later(1, crash)
                return
            process.kill(is_power_lost=is_wiped)
            if is_wiped and self._may_lose_disk(process):
                process.lose_disk()
            self._later(AWAY_MS, process.start_unless_running)

        self._when_voting(process, lasts_ms, crash)
        return _nothing

    def _when_voting(self, process: Node, left_ms: int, then: Callable[[], None]) -> None:
        if process.ballots is not None and process.ballots.writing is not None:
            then()
        elif left_ms > 0:
            self._later(1, partial(self._when_voting, process, left_ms - 1, then))

    def _pause(self, process: Node) -> Undo:
        process.pause()
        return process.go_on

    def _slow(self, process: Node) -> Undo:
        process.machine.slowness = SLOWNESS

        def undo() -> None:
            process.machine.slowness = 1

        return undo

    def _wall(self, process: Node, amount: int) -> Undo:
        process.machine.wall_ahead_us += amount

        def undo() -> None:
            process.machine.wall_ahead_us -= amount

        return undo

    def _stop(self, process: Node) -> Undo | None:
        """An orderly stop of a server; who takes too long is killed."""
        if not isinstance(process, ServerProcess) or not process.is_running:
            return None
        process.core.stop(process.now_ns)
        process.flush()

        def undo() -> None:
            process.kill()
            process.start_unless_running()

        return undo

    # ---- links

    def _isolate(self, name: str) -> Undo:
        others = [each for each in self._processes if each != name]
        return self._cut_all([pair for each in others for pair in permutations((name, each))])

    def _cut_all(self, pairs: list[tuple[str, ...]]) -> Undo:
        for source, target in pairs:
            self.world.network.cut(source, target)

        def undo() -> None:
            for source, target in pairs:
                self.world.network.join(source, target)

        return undo

    def _clog(self, source: str, target: str, delay_ms: int) -> Undo:
        self.world.network.clog(source, target, delay_ms)
        return lambda: self.world.network.clog(source, target, 0)

    def _reset(self, one: Node, other: Node) -> Undo | None:
        return _nothing if self.world.network.reset(one, other) else None

    # ---- disks

    def _fsync(self, process: Node) -> Undo | None:
        if not isinstance(process, MasterProcess):
            return None
        process.fails_fsync = True
        return _nothing

    def _full(self, process: Node) -> Undo | None:
        if not isinstance(process, MasterProcess):
            return None
        process.log.is_full = True

        def undo() -> None:
            process.log.is_full = False

        return undo

    def _hang(self, process: Node) -> Undo | None:
        if not isinstance(process, MasterProcess):
            return None
        process.log.is_hung = True

        def undo() -> None:
            process.log.is_hung = False

        return undo

    def _tail(self, process: Node, amount: int, *, is_heard: bool) -> Undo | None:
        """A bit flips at rest; what is missing was known as committed where it is asked for.

        That is in all ballots, or also in what the witnesses have heard.
        """
        if not isinstance(process, MasterProcess) or not self._may_lose_disk(process):
            return None
        voters = [each.voter for each in self.world.servers if each.voter is not None]
        known = [each.committed if is_heard else each.ballot.committed for each in voters]
        known += [] if is_heard else [process.ballots.ballot.committed]
        after = min(*known, len(process.log.entries)) - amount
        if after < 0:
            return None
        process.kill(is_power_lost=True)
        process.log.lose_tail(after)
        process.is_sound = False
        return process.start_unless_running

    def _wipe(self, process: Node) -> Undo | None:
        if not self._may_lose_disk(process):
            return None
        process.kill(is_power_lost=True)
        process.lose_disk()
        return process.start_unless_running

    # ---- operators

    def _switch(self) -> Undo | None:
        leader = self.world.leader
        if leader is None or leader.core is None or leader.is_paused:
            return None
        leader.core.switch_over(next(self.world.tokens), "operator", leader.moment)
        leader.flush()
        return _nothing

    def _force(self, process: Node, lost: Node) -> Undo | None:
        """All that one master had alone is lost for good: two operators let the other one lead."""
        if not isinstance(process, MasterProcess) or not isinstance(lost, MasterProcess):
            return None
        leadership = lost.core.leadership if lost.core is not None else None
        is_alone = leadership is not None and leadership.config.isr == (lost.node,)
        if not is_alone or process.core is None or process.ballots.ballot.config is None:
            return None
        lost.kill(is_power_lost=True)
        lost.lose_disk()
        self.world.oracle.give_up(process)
        for operator in ("one", "another"):
            process.core.approve_promotion(next(self.world.tokens), operator, process.moment)
        process.flush()
        return lost.start_unless_running

    # ---- what others can bear

    def _may_lose_disk(self, process: Node) -> bool:
        """Whether the others have everything, and can decide without it."""
        ballots = [each.ballots for each in self._processes.values() if each.ballots is not None]
        configs: list[Config] = []
        for each in ballots:
            kept = (each.ballot, each.writing or each.ballot)
            configs += [ballot.config for ballot in kept if ballot.config is not None]
        configs += self._proposals
        lost = [each.ballots for each in self.world.masters if not each.is_sound]
        others = [
            each.ballot.node
            for each in ballots
            if each is not process.ballots and each not in lost and each.ballot.config is not None
        ]
        if process.ballots is not None and not all(is_quorum(each, others) for each in configs):
            return False
        return isinstance(process, ServerProcess) or any(
            self._has_everything(each, configs)
            for each in self.world.masters
            if each is not process
        )

    @property
    def _proposals(self) -> list[Config]:
        """What is proposed, and may not be on any disk yet."""
        leads = [each.core.leadership for each in self.world.masters if each.core is not None]
        return [each.proposal for each in leads if each is not None and each.proposal is not None]

    def _has_everything(self, master: MasterProcess, configs: list[Config]) -> bool:
        oracle = self.world.oracle
        has_log = master.is_sound and master.log.has(oracle.end, oracle.link_at(oracle.end))
        is_admitted = master.ballots.ballot.config is not None
        return has_log and is_admitted and all(master.node in each.isr for each in configs)


def _nothing() -> None:
    """What has passed already need not be undone."""
