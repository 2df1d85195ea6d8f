"""A data centre that is restored from a backup, while servers of the one before go on.

The generation before and the restored one are two worlds on one clock. Whatever either of their
servers answers yes to is counted by the period that it was served in.
"""

from msgspec import structs

from vcap_es.components.decisions import restore
from vcap_es.components.decisions.restore import ReadmitServer
from vcap_es.components.messages.server import Hello
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events import sealing
from vcap_es.events.chain import Stored
from vcap_es.events.clusters import generation_of
from vcap_es.events.clusters import restored as restored_cluster
from vcap_es.events.envelope import Draft
from vcap_es.events.log import head_of
from vcap_es.projections.states.data_centre import Fold
from vcap_es.sim.environment.network import Faults
from vcap_es.sim.world.invariants import watch_closely
from vcap_es.sim.world.masters import MasterProcess
from vcap_es.sim.world.periods import Periods
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

FIRST_ID = 1 << 12
"""Ids of the restored world, and its servers' names, are none of the world before."""

KNOCK_US, KNOCKS_MAX = 100_000, 50


class Restoring:
    """A world, and after `restore` the one that was restored from a backup of it.

    Of no period more is served, by both generations, than its largest total.
    """

    def __init__(
        self,
        servers: int,
        *,
        seed: int = 0,
        faults: Faults | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.old = World(servers, seed=seed, faults=faults, limits=limits)
        self.new: World | None = None
        self._seed, self._faults, self._limits = seed, faults, limits
        self._oracles = [self.old.oracle]
        self._periods = Periods(lambda: self._oracles)
        self._served = [watch_closely(self.old, self._periods)]

    def backup(self) -> list[Stored]:
        """What a backup has that is taken now."""
        return list(self.old.oracle.entries)

    def restore(self, backup: list[Stored], servers: int) -> World:
        """Begin a new generation from `backup`, with so many new servers."""
        new = self.new = restored_world(
            self.old,
            backup,
            seed=self._seed + 1,
            faults=self._faults,
            limits=self._limits,
            servers=servers,
        )
        self._oracles.append(new.oracle)
        self._served.append(watch_closely(new, self._periods))
        return new

    # ---- servers of the generation before

    def send_over(self, server: ServerProcess) -> None:
        """Let a server of the world before look for masters in the restored one."""
        new = self._restored
        self._served[0].read(server)
        self.old.servers.remove(server)
        server.kill()
        for (cap, number), found in server.core.holdings.slices.items():
            new.oracle.lost[cap, number, server.core.incarnation] = found.received
        server.site = new
        self._served[1].skip(server)
        new.servers.append(server)
        server.start(same_boot=True)

    def readmit(self, server: ServerProcess) -> object:
        """Send a server over, and let an operator readmit it when it has knocked."""
        self.send_over(server)
        return self.admit(server)

    def admit(self, server: ServerProcess) -> object:
        """Let an operator readmit a server that was sent over, when it has knocked."""
        new, incarnation = self._restored, server.core.incarnation
        for _ in range(KNOCKS_MAX):
            hello = self.knocking.get(incarnation)
            if hello is not None:
                return new.command(
                    ReadmitServer(incarnation=incarnation, name=server.name, was=hello.cluster)
                )
            new.run(KNOCK_US)
        raise AssertionError(f"{server.name} has not knocked")

    @property
    def knocking(self) -> dict[str, Hello]:
        """The old servers that have knocked at the master that leads the restored world."""
        leader = self._restored.leader
        return leader.core.strangers if leader is not None and leader.core is not None else {}

    @property
    def _restored(self) -> World:
        assert self.new is not None, "nothing is restored yet"
        return self.new


def restored_world(
    old: World,
    backup: list[Stored],
    *,
    seed: int,
    faults: Faults | None,
    limits: Limits | None,
    servers: int,
    masters: int = 1,
    witnesses: int = 0,
) -> World:
    """A new generation of the world `old`, from `backup`, with so many new servers.

    Of its masters one has the log; the other one begins empty.
    """
    fold = Fold()
    for entry in backup:
        fold.evolve(old.oracle.decode(entry))
    cluster = restored_cluster(fold.state.primacy.cluster, bytes(4))
    generation = generation_of(cluster)
    new = World(
        0,
        seed=seed,
        now=old.began_us,
        faults=faults,
        masters=0,
        dc=old.dc,
        cluster=cluster,
        scheduler=old.scheduler,
        first_id=generation * FIRST_ID,
    )
    new.tokens = old.tokens  # servers that are sent over keep their answers
    master = MasterProcess(new, 0, is_founder=True)
    ballot, last = master.ballots.ballot, backup[-1]
    master.ballots.ballot = structs.replace(ballot, promised=last.epoch)
    facts = restore.restored(
        fold.state,
        cluster=cluster,
        master=master.node,
        position=last.position,
        now=max(old.now_us, last.recorded_at),
        lacks=None,
    )
    drafts = [
        Draft(
            event_id=number.to_bytes(16, "little"),
            recorded_at=max(old.now_us, last.recorded_at),
            dc=new.dc,
            actor="restore",
            correlation="",
            fact=fact,
        )
        for number, fact in enumerate(facts, 1)
    ]
    entries = [*backup, *sealing.seal(drafts, last.epoch, head_of(last))]
    master.log.append(entries, len(entries))
    new.oracle.begin_with(entries)
    new.masters = [master]
    new.masters += [MasterProcess(new, slot, is_founder=False) for slot in range(1, masters)]
    for each in new.masters:
        each.start()
    new.servers = [
        ServerProcess(
            new, f"{'tuv'[generation - 1]}{index}", limits or Limits(), is_witness=index < witnesses
        )
        for index in range(servers)
    ]
    return new
