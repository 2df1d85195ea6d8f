"""The log in SQLite does whatever the log in memory does, in any order of calls."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.drafts import draft
from vcap_es.errors import VcapError
from vcap_es.events.chain import Stored, verify
from vcap_es.events.envelope import Draft
from vcap_es.events.log import EventLog, Head, head_of
from vcap_es.events.logs.memory import MemoryLog
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.sealing import seal

Call = Callable[[EventLog], Awaitable[object]]

EPOCHS = st.integers(0, 4)
POSITIONS = st.integers(-1, 12)
BATCHES = st.lists(
    st.builds(
        lambda event_id, cap: draft(event_id=event_id, cap=cap),
        event_id=st.integers(1, 25),  # few, so that many are on the log already
        cap=st.sampled_from(["a", "b"]),
    ),
    max_size=4,
)


class Both(RuleBasedStateMachine):
    """Calls both adapters alike, and compares answers, errors and all that can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.memory = MemoryLog()
        self.sqlite = self._opened()
        self.aside: list[Stored] = []

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(batch=BATCHES, epoch=EPOCHS)
    def append(self, batch: list[Draft], epoch: int) -> None:
        self._alike(lambda log: log.append(batch, epoch))

    @rule(batch=BATCHES, epoch=EPOCHS, committed=POSITIONS)
    def copy(self, batch: list[Draft], epoch: int, committed: int) -> None:
        entries = seal(batch, epoch, self._head())
        self._alike(lambda log: log.copy(entries, committed))

    @rule(batch=BATCHES, epoch=EPOCHS, behind=EPOCHS)
    def copy_what_does_not_follow(self, batch: list[Draft], epoch: int, behind: int) -> None:
        stray = seal(batch, epoch, Head(position=behind, epoch=behind))
        self._alike(lambda log: log.copy(stray, 0))

    @rule(after=POSITIONS)
    def truncate(self, after: int) -> None:
        self._alike(lambda log: log.truncate(after))

    @precondition(lambda self: self._head().position > 0)
    @rule(data=st.data())
    def truncate_what_may_go(self, data: st.DataObject) -> None:
        committed = self.runner.run(self.memory.committed())
        after = data.draw(st.integers(committed, self._head().position))
        self._alike(lambda log: log.truncate(after))

    @precondition(lambda self: self.aside)
    @rule(data=st.data())
    def copy_what_was_set_aside(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.aside))
        self._alike(lambda log: log.copy([entry], entry.position))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        self.sqlite = self._opened()

    @invariant()
    def they_hold_the_same(self) -> None:
        for call in (
            lambda log: log.read_stored(),
            lambda log: log.read_diverged(),
            lambda log: log.head(),
            lambda log: log.committed(),
            lambda log: log.history(),
            lambda log: log.read(cap="a"),
        ):
            self._alike(call)
        events = self.runner.run(self.memory.read_stored())
        self.aside = self.runner.run(self.memory.read_diverged())
        assert verify(events) == self._head().link
        assert self._head() == head_of(events[-1] if events else None)
        assert self.runner.run(self.memory.committed()) <= len(events)

    def _opened(self) -> SqliteLog:
        return self.runner.run(SqliteLog.open(self.folder / "events.db", synchronous="OFF"))

    def _head(self) -> Head:
        return self.runner.run(self.memory.head())

    def _alike(self, call: Call) -> None:
        answers = [self.runner.run(_outcome(call, log)) for log in (self.memory, self.sqlite)]
        assert answers[0] == answers[1]


async def _outcome(call: Call, log: EventLog) -> object:
    try:
        return await call(log)
    except VcapError as error:
        return type(error)


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
