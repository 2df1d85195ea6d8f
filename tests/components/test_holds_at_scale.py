"""A server with as many open holds as it keeps: each expires in time, and none is looked for."""

from vcap_es.components.commands import Cancel, Hold
from vcap_es.components.holdings import Output, Reply, Write
from vcap_es.components.journal_records import Journal
from vcap_es.components.limits import Limits
from vcap_es.components.messages import Broadcast, Grant, Notice, Period, Standing
from vcap_es.components.outcomes import Held, Refused, Settled
from vcap_es.components.timing_wheel import STEPS_MAX, TICK_NS
from vcap_es.components.volumecap_server import VolumecapServer

NOW = 1_767_268_800_000_000
BOOTED_NS = 10**12
SECOND, HOUR = 10**9, 3600 * 10**9
HOLDS, WAVES = 60_000, 6
LEVELS = 5
ENTRIES_PER_EXPIRY = 2
"""What came back, and that the hold is settled."""


class Server:
    """A server core that has `units` of one cap for a day, and whose disk is synced at once."""

    def __init__(self, units: int, limits: Limits) -> None:
        self.now_ns = BOOTED_NS
        self.cells = [0] * 16
        self.core = VolumecapServer(Journal(incarnation="me", start=1), self.cells, limits)
        self.replies: dict[int, object] = {}
        self.entries_max = self.calls = 0
        self.wheel = self.core.holdings.alarms
        self.core.connected(self.now_ns)
        period = Period(0, NOW - 1, NOW + 24 * HOUR // 1000, units)
        notice = Notice("c", "active", "day", "hard", "asap", None, [period])
        echo_ns = self.now_ns
        self.core.received(
            Broadcast(epoch=1, number=1, now=NOW, echo_ns=echo_ns, notices=[notice]), self.now_ns
        )
        grant = Grant("c", 0, units, 0, 0, 0, False, False, (1, 0), None, None, 0)
        self.core.received(
            Standing(epoch=1, number=2, incarnation="me", now=NOW, echo_ns=echo_ns, grants=[grant]),
            self.now_ns,
        )
        self.flush()
        self.core.disconnected()  # nobody else is told of what comes back, so no answer waits

    def flush(self) -> None:
        """Do what the core wants done, until it wants nothing more."""
        while outputs := self.core.take(self.now_ns):
            for each in outputs:
                self._do(each)

    def _do(self, output: Output) -> None:
        match output:
            case Write(entries, ticket):
                self.entries_max = max(self.entries_max, len(entries))
                if ticket:
                    self.core.written(ticket, self.now_ns)
            case Reply(token, outcome):
                self.replies[token] = outcome

    def ask(self, token: int, command: Hold | Cancel) -> object:
        """What a client is answered."""
        self.core.submit(token, command, None, self.now_ns)
        self.flush()
        return self.replies.pop(token)

    def pass_until(self, now_ns: int) -> None:
        """Let time pass; the core is called when it wants to be."""
        while (wanted := self.core.holdings.next_alarm_ns()) is not None and wanted <= now_ns:
            self.now_ns = max(self.now_ns, wanted)
            self.core.tick(self.now_ns)
            self.flush()
            self.calls += 1
        self.now_ns = now_ns

    @property
    def here(self) -> int:
        """The units that are free."""
        return self.core.holdings.slices[("c", 0)].balance(self.cells)

    @property
    def open_holds(self) -> int:
        """The holds that are neither settled nor expired."""
        return self.core.holdings.slices[("c", 0)].open_holds


def hold(server: Server, token: int, lifetime_ns: int) -> object:
    """What a client is answered that asks for a unit."""
    return server.ask(token, Hold(cap="c", amount=1, lifetime_ms=lifetime_ns // 10**6))


def test_as_many_holds_as_there_may_be_expire_in_waves() -> None:
    """Each wave comes back whole when its time is over, and no hold is touched in between."""
    # Given as many holds as the server keeps, in waves that end a minute after each other
    server = Server(HOLDS, Limits(marks_max=HOLDS, ceiling_step_min=HOLDS))
    for number in range(HOLDS):
        wave = number % WAVES
        assert isinstance(hold(server, number, HOUR // 2 + wave * 60 * SECOND), Held)
    refused = hold(server, HOLDS, SECOND)
    assert isinstance(refused, Refused)
    assert (server.here, server.open_holds) == (0, HOLDS)
    server.pass_until(BOOTED_NS + HOUR // 4)
    # When time passes in which none expires, then nothing is done
    entered = server.wheel.slots_entered, server.wheel.alarms_moved
    server.pass_until(BOOTED_NS + HOUR // 4 + SECOND)
    assert (server.wheel.slots_entered, server.wheel.alarms_moved) == entered
    # When a wave's time is over, then its units come back, and no others
    for wave in range(WAVES):
        at_ns = BOOTED_NS + HOUR // 2 + wave * 60 * SECOND
        server.pass_until(at_ns - 1)
        assert server.here == HOLDS * wave // WAVES
        server.pass_until(at_ns + TICK_NS)
        assert server.here == HOLDS * (wave + 1) // WAVES
    assert server.open_holds == 0
    # And no hold cost more than its way down the levels, and no call did more than its share
    assert server.wheel.alarms_moved <= LEVELS * HOLDS
    assert server.wheel.slots_entered <= LEVELS * server.calls
    assert server.entries_max <= 1 + ENTRIES_PER_EXPIRY * STEPS_MAX


def test_a_hold_that_is_settled_leaves_no_alarm() -> None:
    """Holds that are settled before their time are not looked at when it comes."""
    server = Server(100, Limits())
    for number in range(100):
        held = hold(server, number, HOUR)
        assert isinstance(held, Held)
        alarms = len(server.wheel)
        assert isinstance(server.ask(number, Cancel(id=held.id)), Settled)
        assert (len(server.wheel), server.open_holds) == (alarms - 1, 0)
