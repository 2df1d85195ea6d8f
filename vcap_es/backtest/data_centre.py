"""A whole data centre in one thread, on the time of a trace.

The components are the real ones. What production waits for (links, disks, clocks) happens here at
once: a message arrives in the instant it is sent, and time jumps from one thing due to the next.
"""

from collections.abc import Iterable
from pathlib import Path

from vcap_es.adapters.storage.journal_files import JournalFiles
from vcap_es.backtest.ledger import BacktestLog
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.decisions.meta import MetaCommand
from vcap_es.components.local_handler.liveness import PAUSE_US
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.components.messages.server import PROTOCOL, Broadcast, Grants, Hello, Report
from vcap_es.components.primary_master.outputs import Answer, Close, PrimaryOutput, Send
from vcap_es.components.primary_master.primary_master import PrimaryMaster
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.outputs import Abandon, Reply, SendToMaster, Write
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.errors import InvalidInput
from vcap_es.projections.states.data_centre import DataCentre, Fold

LIMITS = Limits(
    clock_margin_permille=0,  # there is one clock, so an interval is served to its last instant
    fresh_ms=1 << 40,  # no link is ever lost, so a verdict holds until other news
    lead_ms=0,  # and the next slice is filled in no time
    refund_window_ms=0,  # nobody refunds
)
SURVEY_LINES = 1000
SURVEY_US = 1_000_000
SURVEYS_PER_ROUND = 20
"""Servers look at their rates after so many lines, and so long, in so many parts."""

SIGNS_EVERY_US = 5_000_000
"""Half a dozen signs of life, before the master takes silence for loss."""

STEP_US = 10_000
PATIENCE_STEPS = 1000
"""How time goes on where somebody waits though nothing is due; no wait is as long as this."""

EPOCH, DC, MASTER, TOKEN = 1, "backtest", "primary", 1
_BOOTED_NS = 10**9
NEVER = 1 << 62


class BacktestServer:
    """One volumecap server, its core and its journal in `directory`."""

    def __init__(self, number: int, directory: Path) -> None:
        self.connection, self.due = number, NEVER
        self._files = JournalFiles(directory, slots_max=LIMITS.slots_max, synchronous=False)
        journal = self._files.begin(incarnation=lambda: f"{number:032x}", session=DC)
        files = self._files
        self.core = VolumecapServer(journal, files.cells, LIMITS, has_room=files.has_room)

    def hello(self) -> Hello:
        """How it introduces itself."""
        return Hello(
            protocol=PROTOCOL,
            incarnation=self.core.incarnation,
            session=DC,
            name=f"s{self.connection}",
            address="",
        )

    def write(self, output: Write, now_ns: int) -> None:
        """Keep a record; it is as durable as it will be at once."""
        self._files.write(output.entries)
        if output.ticket:
            self._files.sync()
            self.core.written(output.ticket, now_ns)

    def look(self) -> None:
        """See when its next alarm rings."""
        alarm_ns = self.core.holdings.next_alarm_ns()
        self.due = NEVER if alarm_ns is None else _instant(alarm_ns)

    def close(self) -> None:
        """Give the journal's files back."""
        self._files.close()


class BacktestDataCentre:
    """One primary master and its servers. Whatever is asked is answered when a call returns."""

    def __init__(self, ledger: BacktestLog, directory: Path, *, servers: int, now: int) -> None:
        """Begin at the instant `now`, with the journals of `servers` servers in `directory`."""
        self.now = now
        self._ledger = ledger
        self._master = PrimaryMaster(
            Fold(), dc=DC, name=MASTER, epoch=EPOCH, now=now, on_demand=True
        )
        self._open_until: dict[str, int] = {}
        self._servers = [
            BacktestServer(number, directory / f"server{number}")
            for number in range(1, servers + 1)
        ]
        self._talking: dict[BacktestServer, None] = {}
        self._is_asked = True
        self._answers: dict[int, object] = {}
        self._next_due = self._master_due = NEVER
        self._surveyed_at = self._ticked_at = self._signs_at = now
        self._lines = 0
        for each in self._servers:
            self._master.received(each.connection, each.hello(), now)
            each.core.connected(self._now_ns)
        self._settle()

    @property
    def state(self) -> DataCentre:
        """What is true now."""
        return self._master.state

    def command(self, command: MetaCommand) -> None:
        """Let an operator's command hold. Raises InvalidInput where it is denied."""
        self._is_asked = True
        self._master.command(TOKEN, command, DC, "", self.now)
        self._settle()
        answer = self._answers.pop(TOKEN)
        if isinstance(answer, Denied):
            raise InvalidInput(answer.detail)

    def advance(self, at: int) -> None:
        """Let time pass until the instant `at`, and everything happen that is due until then."""
        while self._next_due <= at:
            self.now = max(self.now, self._next_due)
            self._ring()
        self.now = max(self.now, at)

    def consume(self, place: int, cap: str, amount: int) -> Consumed | Refused:
        """Ask the server at `place` for `amount` units of `cap`, now."""
        server = self._servers[place % len(self._servers)]
        if self.now >= self._open_until.get(cap, 0):
            self._open(cap)
        self._lines += 1
        if self._lines >= SURVEY_LINES:
            self._survey()
        now_ns = self._now_ns
        return server.core.consume_now(cap, amount, now_ns) or self._submit(
            server, Consume(cap=cap, minimum=amount, maximum=amount)
        )

    def stop(self) -> None:
        """Stop all servers in order: everything unspent comes back, everything spent is told."""
        for each in self._servers:
            each.core.stop(self._now_ns)
        self._talk(self._servers)
        for _ in range(PATIENCE_STEPS):
            if all(each.core.holdings.is_empty() for each in self._servers):
                return
            self._wait()
        raise AssertionError("servers hold what they cannot give back")

    def close(self) -> None:
        """Give the journals' files back."""
        for each in self._servers:
            each.close()

    # ---- what happens between two lines

    def _open(self, cap: str) -> None:
        """Let the current interval of `cap` be open: until its end nobody need look again."""
        meta = self.state.metas.get(cap)
        if meta is None:
            return  # a template defines it as soon as a server asks, and opens its first interval
        interval = meta.at(self.now)
        if interval is None:
            self._is_asked = True
            self._master.open_now(cap, self.now)
            interval = meta.at(self.now)
        if interval is not None:
            self._open_until[cap] = interval.end

    @property
    def _now_ns(self) -> int:
        """The boot clock of every server."""
        return self.now * 1000 + _BOOTED_NS

    def _submit(self, server: BacktestServer, command: Consume) -> Consumed | Refused:
        server.core.submit(TOKEN, command, None, self._now_ns)
        self._talk([server])
        for _ in range(PATIENCE_STEPS):
            answer = self._answers.pop(TOKEN, None)
            if answer is not None:
                assert isinstance(answer, Consumed | Refused)
                return answer
            self._wait()
        raise AssertionError(f"{command} was never answered")

    def _wait(self) -> None:
        """Let a moment pass for somebody who waits, and let him say again what for."""
        for each in self._servers:
            each.core.holdings.repeat(self._now_ns)
        self._talk(self._servers)
        self.advance(self.now + STEP_US)

    def _ring(self) -> None:
        """Tell the time to everybody who wanted to hear it now."""
        wants_signs = self._wants_signs()
        due = [each for each in self._servers if wants_signs or each.due <= self.now]
        if wants_signs or self._master_due <= self.now:
            self._is_asked = True
            self._master.tick(self.now)
            self._ticked_at = self.now
        for each in due:
            each.core.tick(self._now_ns)
        self._talk(due)

    @property
    def _listens(self) -> bool:
        """Whether the master takes silence for loss: it was told the time a moment ago."""
        return self.now - self._ticked_at <= PAUSE_US

    def _wants_signs(self) -> bool:
        """Whether everybody is to give a sign of life."""
        if not self._listens:
            self._signs_at = self.now
        is_due = self.now - self._signs_at >= SIGNS_EVERY_US
        if is_due:
            self._signs_at = self.now
        return is_due

    def _survey(self) -> None:
        """Let servers see how fast they spend, when it is worth a look."""
        if self.now - self._surveyed_at < SURVEY_US:
            return
        self._lines, self._surveyed_at = 0, self.now
        for each in self._servers:
            for _ in range(SURVEYS_PER_ROUND):
                each.core.holdings.survey(self._now_ns)
        self._talk(self._servers)

    def _talk(self, servers: Iterable[BacktestServer]) -> None:
        """These servers may have something to say: go on until nobody has."""
        self._talking.update(dict.fromkeys(servers))
        self._settle()

    def _settle(self) -> None:
        """Carry what is said, and commit what is decided, until there is nothing left."""
        touched: dict[BacktestServer, None] = {}
        while self._talking or self._is_asked:
            while self._talking:
                server, _ = self._talking.popitem()
                touched[server] = None
                self._flush(server)
            if self._is_asked:
                self._commit()
        # Only now: most alarms were for a consume that waited, and are called off again.
        for each in touched:
            each.look()
        self._next_due = min(self._master_due, *(each.due for each in self._servers))

    def _commit(self) -> None:
        """One commit round of the master, if it has decided or has to say anything."""
        self._is_asked = False
        started = self._master.begin_round(self.now)
        if started is not None:
            self._ledger.append(started.drafts, EPOCH)
            for output in self._master.round_committed(started, 0):
                self._do(output)
        tick = self._master.next_tick(self.now)
        self._master_due = NEVER if tick is None else tick

    def _flush(self, server: BacktestServer) -> None:
        for output in server.core.take(self._now_ns):
            match output:
                case SendToMaster(Report(holdings=[])) if not self._listens:
                    pass  # a sign of life that nobody misses
                case SendToMaster(message):
                    self._is_asked = True
                    self._master.received(server.connection, message, self.now)
                case Write():
                    self._talking[server] = None
                    server.write(output, self._now_ns)
                case Reply(token, outcome):
                    self._answers[token] = outcome
                case Abandon(reason):
                    raise AssertionError(reason)

    def _do(self, output: PrimaryOutput) -> None:
        match output:
            case Send(connection, message):
                if isinstance(message, Broadcast | Grants):
                    server = self._servers[connection - 1]
                    server.core.received(message, self._now_ns)
                    self._talking[server] = None
            case Answer(token, outcome):
                self._answers[token] = outcome
            case Close(_, reason):
                raise AssertionError(reason)


def _instant(at_ns: int) -> int:
    """The first whole microsecond at which the boot clock shows `at_ns`."""
    return -(-(at_ns - _BOOTED_NS) // 1000)
