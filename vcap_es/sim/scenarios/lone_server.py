"""One volumecap server alone, against a master made by hand."""

from itertools import count

from vcap_es.components.messages.client import (
    Command,
    Consume,
    Idempotency,
)
from vcap_es.components.messages.server import (
    Broadcast,
    Grant,
    Grants,
    Holding,
    Notice,
    NoticeState,
    OpenInterval,
    RecallRoundId,
    Report,
    Watch,
)
from vcap_es.components.volumecap_server.slices.journal import Journal, Kept
from vcap_es.components.volumecap_server.slices.outputs import (
    Reply,
    SendToMaster,
    ServerOutput,
    Write,
)
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.events.units import MS
from vcap_es.sim.environment.site import NOON

START_NS = 10**12


class LoneServer:
    """A server core whose disk is synced, and whose master speaks, when the scenario says so."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.cells = [0] * 64
        self.journal = journal or Journal(incarnation="me", start=1)
        self.core = VolumecapServer(self.journal, self.cells)
        self.now_ns = START_NS
        self.replies: dict[int, object] = {}
        self.outputs: list[ServerOutput] = []
        self.tickets: list[int] = []
        self.kept: list[Kept] = []
        self.reports: list[Holding] = []
        self.watched: list[str] = []
        self.tokens = 0
        self.numbers = count(1)
        self.core.connected(self.now_ns)
        self.broadcast("c")

    def broadcast(
        self,
        cap: str,
        state: NoticeState = "active",
        *,
        number: int = 0,
        end: int = NOON + 50_000_000,
    ) -> None:
        """The master tells what a cap is; it has one interval, of a minute.

        `number` is that of the message: the next one, where it is 0.
        """
        periods = [OpenInterval(0, NOON - 10_000_000, end, 100)]
        notice = Notice(cap, state, "minute", "hard", "asap", None, periods)
        self.hear(
            Broadcast(
                epoch=1,
                number=number or next(self.numbers),
                now=NOON,
                echo_ns=self.now_ns,
                notices=[notice],
            )
        )

    def hear(self, message: Broadcast | Grants) -> None:
        """The master says something."""
        self.core.received(message, self.now_ns)
        self.flush()

    def grant(
        self, moved: int, *, cap: str = "c", epoch: int = 1, number: int = 0, **fields: object
    ) -> None:
        """The master tells where the server stands with the interval, in its next message or so."""
        known = {
            "returned": 0,
            "spent": 0,
            "refunded": 0,
            "ended": False,
            "closed": False,
            "version": (1, 0),
            "recall": None,
            "verdict": None,
            "available": 0,
            "final": False,
            "withheld": 0,
            "free": 0,
        }
        grant = Grant(cap, 0, moved, *{**known, **fields}.values())  # type: ignore[arg-type]  # in the order of the struct
        self.hear(
            Grants(
                epoch=epoch,
                number=number or next(self.numbers),
                incarnation="me",
                now=NOON,
                echo_ns=self.now_ns,
                grants=[grant],
            )
        )

    def submit(self, command: Command, key: Idempotency | None = None) -> int:
        """A client asks; the token of its answer."""
        self.tokens += 1
        self.core.submit(self.tokens, command, key, self.now_ns)
        self.flush()
        return self.tokens

    def consume(self, amount: int, minimum: int | None = None) -> int:
        """A client asks for that much, or for as much as there is from `minimum` on."""
        low = amount if minimum is None else minimum
        return self.submit(Consume(cap="c", minimum=low, maximum=amount))

    def flush(self) -> None:
        """Take what the core wants done."""
        for output in self.core.take(self.now_ns):
            self.outputs.append(output)
            match output:
                case Reply(token, outcome):
                    self.replies[token] = outcome
                case Write(entries, ticket):
                    self.kept += [each for each in entries if isinstance(each, Kept)]
                    self.tickets += [ticket] if ticket else []
                case SendToMaster(Report(holdings=holdings)):
                    self.reports += holdings
                case SendToMaster(Watch(caps=caps)):
                    self.watched += caps

    def sync(self) -> None:
        """Everything written is fsynced, and what follows from it."""
        while self.tickets:
            self.core.written(self.tickets.pop(0), self.now_ns)
            self.flush()

    def wait(self, duration_ms: int) -> None:
        """Let time pass."""
        self.now_ns += duration_ms * MS
        self.core.tick(self.now_ns)
        self.flush()

    @property
    def answered(self) -> RecallRoundId:
        """The recall round that the newest report says is answered."""
        self.core.holdings.reporter.tell(self.core.holdings.slices[("c", 0)])
        self.flush()
        return self.reports[-1].answered
