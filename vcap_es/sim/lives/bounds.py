"""A life of amounts at their bounds: running totals that would pass them, and that must not.

Totals are as large as they can be or nearly so, and are taken, refunded and taken again, at any
server of any data centre. A cap whose running totals are at the bound is refused by its name; no
process ends, and a cap beside it is served as if nothing were.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import ValidationError

from vcap_es.components.decisions.meta import Define
from vcap_es.components.messages.client import Cancel, Consume, Hold, Refund
from vcap_es.components.messages.outcomes import Consumed, Held, Refused
from vcap_es.errors import InvalidFact
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.facts import Definition
from vcap_es.events.units import SECOND_US
from vcap_es.sim.environment.violations import Violation
from vcap_es.sim.lives.multi_centre import DRAIN_TRIES, REFUSALS, STEP_US, SharedLife
from vcap_es.sim.lives.profiles import BOUNDS
from vcap_es.sim.world.invariants import must
from vcap_es.sim.world.servers import ServerProcess
from vcap_es.sim.world.world import World

TOTALS = (MAX_AMOUNT, MAX_AMOUNT, MAX_AMOUNT - 7, MAX_AMOUNT // 2 + 3, 10**18)
PARTS = (1, 1, 1, 2, 3, 16)
"""A call asks for the total, or for one of so many parts of it."""

INNOCENT, INNOCENT_TOTAL, INNOCENT_TRIES = "innocent", 10**6, 40
GAP_US = 12_000
IDS_MAX = 50


@contextmanager
def no_number_ends_a_process() -> Iterator[None]:
    """C9: what cannot be stored, recorded or told ends a process where it is not refused before."""
    try:
        yield
    except (OverflowError, InvalidFact, ValidationError) as error:
        raise Violation("C9", f"a number ends a process: {error}") from error


class BoundLife(SharedLife):
    """The lives of the profile `bounds`."""

    _edited_percent = 0

    def live(self) -> None:
        """Raises `Violation` where something is not as it must be."""
        self._tokens: list[tuple[ServerProcess, int]] = []
        self._ids: list[tuple[ServerProcess, str]] = []
        with no_number_ends_a_process():
            super().live()
            self._serve_the_innocent()

    @property
    def _worlds(self) -> list[World]:
        return list(self.centres.worlds.values())

    def _define(self) -> None:
        super()._define()
        definition = Definition(total=INNOCENT_TOTAL, placement="even")
        self.world.order(Define(cap=INNOCENT, definition=definition))

    def _order(self, cap: str, home: World) -> None:
        definition = Definition(
            total=self._random.choice(TOTALS),
            interval="minute" if cap == "c1" else "day",
            placement=self._random.choice(("local", "even", "weighted", "spread 2")),
        )
        if home.leader is not None and not home.leader.is_paused:
            home.order(Define(cap=cap, definition=definition))

    def _act(self) -> None:
        if self._is_over:
            return
        roll = self._random.random()
        if roll < 0.01:
            self._order(*self._random.choice(list(self.caps.items())))
        elif roll < 0.45:
            self._undo()
        else:
            world = self.hot if roll < 0.7 else self._any_world()
            self._ask(self._random.choice(world.servers))
        self._later(GAP_US, self._act)

    def _ask(self, server: ServerProcess) -> None:
        if not server.is_running:
            return
        random = self._random
        cap, amount = random.choice(list(self.caps)), random.choice(TOTALS) // random.choice(PARTS)
        roll = random.random()
        command: Consume | Hold = Consume(cap=cap, minimum=amount, maximum=amount)
        if roll < 0.3:
            command = Consume(cap=cap, minimum=1, maximum=amount)
        elif roll < 0.4:
            command = Hold(cap=cap, amount=amount, lifetime_ms=500)
        self._tokens.append((server, server.submit(command)))
        self.asked += 1

    def _undo(self) -> None:
        """Let all of some consume come back, so that it can be taken once more."""
        waiting = []
        for server, token in self._tokens[-IDS_MAX:]:
            answer = server.answers.get(token)
            if isinstance(answer, Consumed | Held) and answer.id:
                self._ids.append((server, answer.id))
            elif answer is None:
                waiting.append((server, token))
        self._tokens, self._ids = waiting, self._ids[-IDS_MAX:]
        if self._ids:
            server, id_ = self._ids.pop(self._random.randrange(len(self._ids)))
            if server.is_running:
                server.submit(self._random.choice((Refund(id=id_), Refund(id=id_), Cancel(id=id_))))

    # ---- the end

    def _drain(self, cap: str) -> None:
        """C10: one last caller has whatever is left, or hears that it cannot be counted."""
        home = self._home(cap)
        is_local = home.state.metas[cap].definition.placement == "local"
        world = home if is_local else self._any_world()
        server = self._random.choice([each for each in world.servers if each.is_running])
        codes: list[str] = []
        answer: object = None
        for _ in range(DRAIN_TRIES):
            answer = world.ask(server, Consume(cap=cap, minimum=1, maximum=MAX_AMOUNT))
            code = answer.code if isinstance(answer, Refused) else ""
            if code == "counted_out":
                self._is_at_its_bound(cap, world, server)
                return
            codes = [*codes, code] if code in ("capped", "ended") else []
            if len(codes) >= REFUSALS:
                self._nothing_is_left(cap, self._number(cap, home))
                return
            self.centres.run(SECOND_US if codes else STEP_US)
        raise Violation("C10", f"{cap} cannot be drained at {world.dc}: {answer}")

    def _is_at_its_bound(self, cap: str, world: World, server: ServerProcess) -> None:
        """C10: nobody is refused for what could be counted."""
        core, totals = server.core, []
        for (name, number), found in core.holdings.slices.items():
            if name == cap:
                totals += [found.received, found.spent(server.disk.cells)]
                interval = world.state.interval(cap, number)
                totals += interval.pool.received.values() if interval is not None else ()
        must(MAX_AMOUNT in totals, "C10", f"{cap} is counted out, and comes to {totals} only")

    def _nothing_is_left(self, cap: str, number: int | None) -> None:
        """As ever, unless it lies where it cannot be moved away from any more."""
        intervals = [each.state.interval(cap, number or 0) for each in self._worlds]
        sent = [each.moved for it in intervals if it is not None for each in it.pool.sent.values()]
        if MAX_AMOUNT not in sent:
            super()._nothing_is_left(cap, number)

    def _serve_the_innocent(self) -> None:
        """C8: another cap is served everywhere."""
        for world in self._worlds:
            for server in world.servers:
                answer: object = None
                for _ in range(INNOCENT_TRIES):
                    answer = world.consume(server, INNOCENT)
                    if isinstance(answer, Consumed):
                        break
                    self.centres.run(STEP_US)
                must(isinstance(answer, Consumed), "C8", f"{server.name} answers {answer}")


def live_at_bounds(seed: int) -> None:
    """Live one such life; raises `Violation` where it does not end well."""
    BoundLife(BOUNDS, seed).live()
