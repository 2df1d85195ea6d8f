"""What clients and operators do to a data centre while it lives: everything that they may."""

from collections.abc import Mapping
from random import Random

from msgspec import structs

from vcap_es.components.decisions.meta import CapCommand, Define, Resume
from vcap_es.components.messages.client import (
    Cancel,
    Command,
    Commit,
    Consume,
    Hold,
    Idempotency,
    Refund,
)
from vcap_es.components.messages.outcomes import Consumed, Held
from vcap_es.events.facts import Definition
from vcap_es.projections.states.data_centre import DataCentre
from vcap_es.projections.states.meta import Meta
from vcap_es.sim.environment.network import US
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.editing import edit
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

IDS_MAX = 200
RATES = ("minute", "day", "day")
EDITED_PERCENT = 50
"""In so many lives definitions are edited in every way, and not their totals alone."""


class Clients:
    """They ask at random servers, on and on, until they are told to stop; `asked` counts."""

    def __init__(
        self, world: World, totals: tuple[int, ...], gap_us: int, *, may_edit: bool = True
    ) -> None:
        self.world = world
        self.asked = 0
        self.caps = [f"c{index}" for index in range(len(totals))]
        self._totals, self._gap_us = totals, gap_us
        self._random: Random = world.streams.workload
        self._ids: list[tuple[ServerProcess, str, bool]] = []
        self._tokens: list[tuple[ServerProcess, int]] = []
        self._keyed: list[tuple[ServerProcess, Command, Idempotency]] = []
        self._reads: dict[int, int] = {}
        self._edits: Random = world.streams.edits
        self._is_edited = may_edit and self._edits.randrange(100) < EDITED_PERCENT
        self._is_over = False

    def define(self) -> None:
        """Let the caps exist, as they should be."""
        for cap in self.caps:
            self.world.order(Define(cap=cap, definition=self._plain(cap)))
            if self._is_edited:
                self.world.order(Resume(cap=cap))

    def are_defined(self, metas: Mapping[str, Meta]) -> bool:
        """Whether the caps are as they should be."""
        return all(cap in metas and self._is_defined(metas[cap]) for cap in self.caps)

    def _is_defined(self, meta: Meta) -> bool:
        if not self._is_edited:
            return True
        kept = structs.replace(meta.definition, start=None)  # which stays where none is given
        return kept == self._plain(meta.cap) and not (meta.retired or meta.paused)

    def _plain(self, cap: str) -> Definition:
        index = self.caps.index(cap)
        return _definition(self._totals[index], RATES[index % len(RATES)])

    def go_on(self) -> None:
        """Ask something, and again after a while."""
        if self._is_over:
            return
        self._act()
        gap_us = int(self.world.streams.times.expovariate(1 / self._gap_us)) + 1
        self.world.scheduler.later(gap_us * US, self.go_on)

    def stop(self) -> None:
        """Ask no more."""
        self._is_over = True

    # ---- one thing

    def _act(self) -> None:
        roll = self._random.random()
        self._check_reads()
        if roll < 0.02:
            self._change_total()
        elif roll < 0.08:
            self._read()
        elif roll < 0.25:
            self._settle()
        else:
            self._ask(self._random.choice(self.world.servers))

    def _ask(self, server: ServerProcess) -> None:
        random = self._random
        cap = self.caps[0] if random.random() < 0.6 else random.choice(self.caps)
        amount = random.choice((1, 1, 1, 2, 3, 8))
        roll = random.random()
        if roll < 0.1:
            self._ask_keyed(server, Consume(cap=cap, minimum=amount, maximum=amount))
        elif roll < 0.2:
            self._submit(server, Hold(cap=cap, amount=amount, lifetime_ms=random.choice((50, 800))))
        elif roll < 0.3:
            self._submit(server, Consume(cap=cap, minimum=1, maximum=amount))
        else:
            self._submit(server, Consume(cap=cap, minimum=amount, maximum=amount))

    def _submit(
        self, server: ServerProcess, command: Command, key: Idempotency | None = None
    ) -> None:
        def submit() -> None:
            token = server.submit(command, key)
            if key is None:
                self._tokens.append((server, token))

        self.asked += 1
        server.when_awake(submit)

    def _ask_keyed(self, server: ServerProcess, command: Command) -> None:
        """A client that is not sure asks again, with the same key at the same server."""
        if self._keyed and self._random.random() < 0.5:
            self._submit(*self._random.choice(self._keyed[-5:]))
            return
        key = Idempotency(key=f"k{len(self._keyed)}", fingerprint=repr(command).encode())
        self._keyed.append((server, command, key))
        self._submit(server, command, key)

    def _settle(self) -> None:
        self._collect()
        if not self._ids:
            return
        server, id_, is_hold = self._random.choice(self._ids)
        amount = self._random.choice((None, 1, 2, 8))
        if not is_hold:
            self._submit(server, Refund(id=id_, amount=amount))
        elif self._random.random() < 0.5:
            self._submit(server, Commit(id=id_, amount=amount))
        else:
            self._submit(server, Cancel(id=id_))

    def _collect(self) -> None:
        waiting = []
        for server, token in self._tokens[-IDS_MAX:]:
            answer = server.answers.get(token)
            if answer is None:
                waiting.append((server, token))
            elif isinstance(answer, Consumed | Held) and answer.id:
                self._ids.append((server, answer.id, isinstance(answer, Held)))
        self._tokens, self._ids = waiting, self._ids[-IDS_MAX:]

    def _read(self) -> None:
        """An operator reads at some master, which may believe that it leads, and not do so."""
        master = self._random.choice(self.world.masters)
        if master.core is None or master.is_paused:
            return
        token = next(self.world.tokens)
        self._reads[token] = self.world.oracle.fold.state.epoch
        master.core.read(token, _epoch_of)
        master.flush()

    def _check_reads(self) -> None:
        """C13: what is read is not older than what was acknowledged before it was asked for."""
        for token in [each for each in self._reads if each in self.world.command_answers]:
            known, read = self._reads.pop(token), self.world.command_answers.pop(token)
            if isinstance(read, int) and read < known:
                finding = f"epoch {read} is read, and {known} had begun and acknowledged"
                raise Violation("C13", finding)

    def _change_total(self) -> None:
        leader = self.world.leader
        if leader is None or leader.is_paused:
            return
        index = self._random.randrange(len(self.caps))
        total = max(0, self._totals[index] + self._random.randint(-50, 50))
        interval = RATES[index % len(RATES)]
        command: CapCommand = Define(cap=self.caps[index], definition=_definition(total, interval))
        if self._is_edited and self._edits.randrange(2):
            cap = self.caps[index]
            command = edit(self._edits, cap, self._plain(cap), self.world.now_us)
        self.world.note("edit", command)
        self.world.order(command)


def _epoch_of(state: DataCentre) -> object:
    return state.epoch


def _definition(total: int, interval: str) -> Definition:
    return Definition(total=total, interval=interval)  # type: ignore[arg-type]  # one of RATES
