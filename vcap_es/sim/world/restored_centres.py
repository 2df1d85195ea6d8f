"""Several data centres of which some are restored from backups, and readmitted.

The generation before is a world of its own, which nobody else hears any more; its servers go on.
"""

from collections.abc import Sequence

from vcap_es.components.decisions.restore import ReadmitCentre, ReadmitServer
from vcap_es.components.primary_master.outputs import Done
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.chain import Stored
from vcap_es.sim.environment.site import NOON
from vcap_es.sim.world.centres import MailConditions, SimulatedCentres
from vcap_es.sim.world.invariants import must, watch_closely
from vcap_es.sim.world.restores import restored_world
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

ACT_STEP_US, ACT_STEPS_MAX = 200_000, 100


class RestoredCentres(SimulatedCentres):
    """Data centres that share caps. `before` has the worlds of generations before, by name."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        servers: int = 1,
        seed: int = 0,
        limits: Limits | None = None,
        masters: int = 1,
        witnesses: int = 0,
        post: MailConditions | None = None,
        now: int = NOON,
    ) -> None:
        super().__init__(
            names,
            servers=servers,
            seed=seed,
            limits=limits,
            masters=masters,
            witnesses=witnesses,
            post=post,
            now=now,
        )
        self._seed, self._limits = seed, limits
        self._masters, self._witnesses = masters, witnesses
        self.before: dict[str, list[World]] = {}

    # ---- restoring

    def backup(self, name: str) -> list[Stored]:
        """What a backup of a data centre has that is taken now."""
        return list(self.worlds[name].oracle.entries)

    def restore(self, name: str, backup: list[Stored], servers: int = 1) -> World:
        """Restore a data centre; the generation before is not reached by any letter any more."""
        old = self.worlds[name]
        new = restored_world(
            old,
            backup,
            seed=self._seed + 100 + len(self._gone),
            faults=old.faults,
            limits=self._limits,
            servers=servers,
            masters=self._masters,
            witnesses=min(self._witnesses, servers),
        )
        self._gone.append(old)
        self.before.setdefault(name, []).append(old)
        self.worlds[name] = new
        self._deliveries = {
            number: each for number, each in self._deliveries.items() if each.target != name
        }
        self._oracles.append(new.oracle)
        self.served.append(watch_closely(new, self.periods))
        new.say = old.say
        old.forward = old.acknowledged = None
        new.forward = self.forwarding(name)
        new.acknowledged = self._acknowledged
        return new

    # ---- acts

    def act(self, at: str, about: str) -> str:
        """An operator at one data centre readmits another one; why not, "" where it is done."""
        world = self.worlds[at]
        master = world.master
        if master is None:
            return f"nobody leads {at}"
        knock = master.remote.knocking().get(about)
        known = master.state.clusters.get(about)
        if knock is None:
            is_known = known == self.worlds[about].cluster
            return "" if is_known else f"{about} has not knocked at {at}"
        if knock.trouble:
            return knock.trouble
        done = world.command(ReadmitCentre(centre=about, cluster=knock.cluster, was=knock.was))
        return "" if isinstance(done, Done) else f"{at} answers {done}"

    def readmit(self, at: str, about: str) -> None:
        """The same, when the other one has knocked."""
        trouble = ""
        for _ in range(ACT_STEPS_MAX):
            trouble = self.act(at, about)
            if not trouble:
                return
            self.run(ACT_STEP_US)
        raise AssertionError(f"{at} did not readmit {about}: {trouble}")

    def readmit_all(self, name: str) -> None:
        """All others readmit a restored one, and it them."""
        for other in self.worlds:
            if other != name:
                self.readmit(other, name)
                self.readmit(name, other)

    def send_over(self, name: str, server: ServerProcess) -> None:
        """Let a server of a generation before look for masters in the restored one."""
        new = self.worlds[name]
        old = next(each for each in self.before[name] if server in each.servers)
        old_served, served = (
            next(each for each in self.served if each.world is world) for world in (old, new)
        )
        old_served.read(server)
        old.servers.remove(server)
        server.kill()
        for (cap, number), found in server.core.holdings.slices.items():
            new.oracle.lost[cap, number, server.core.incarnation] = found.received
        server.site = new
        served.skip(server)
        new.servers.append(server)
        server.start(same_boot=True)

    def admit(self, name: str, server: ServerProcess) -> bool:
        """Let an operator readmit a server that was sent over; whether it had knocked."""
        new, incarnation = self.worlds[name], server.core.incarnation
        leader = new.leader
        strangers = leader.core.strangers if leader is not None and leader.core is not None else {}
        hello = strangers.get(incarnation)
        if hello is None or new.master is None:
            return False
        command = ReadmitServer(incarnation=incarnation, name=server.name, was=hello.cluster)
        return isinstance(new.command(command), Done)

    # ---- what must hold

    def check(self) -> None:
        """Nothing is received unsent, but of one that was restored; nor served twice."""
        self._check_served()
        for served in self.served:
            for server in served.world.servers:
                served.read(server)
        if not self.before:
            super().check()

    def check_books(self, caps: Sequence[str]) -> str:
        """What does not agree between two data centres about what was moved; "" where all does."""
        for cap in caps:
            pools = {
                (name, interval.number): interval.pool
                for name, world in self.worlds.items()
                for interval in (
                    world.state.metas[cap].intervals if cap in world.state.metas else ()
                )
            }
            for (name, number), pool in pools.items():
                for other in self.worlds:
                    there = pools.get((other, number))
                    sent = pool.sent_to(other)
                    received = there.received.get(name, 0) if there is not None else None
                    if received is not None and sent != received:
                        return f"{name} sent {sent} of {cap} {number} to {other}: {received} came"
                    if received is None and sent and not self._was_closed(other, cap, number):
                        return f"{other} does not know {cap} {number}, of which {name} sent {sent}"
        return ""

    def _was_closed(self, name: str, cap: str, number: int) -> bool:
        meta = self.worlds[name].state.metas.get(cap)
        return meta is not None and number < meta.closed_before


def must_agree(centres: RestoredCentres, caps: Sequence[str]) -> None:
    """C14: the books of all data centres agree."""
    finding = centres.check_books(caps)
    must(not finding, "C14", finding)
