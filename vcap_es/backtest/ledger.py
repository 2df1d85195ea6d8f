"""The log of a backtest: the real one, in SQLite, in large transactions.

A backtest has nothing to lose when its machine dies, so nobody waits for a commit. The log is the
same, byte for byte, as if each round had been its own transaction.
"""

import asyncio
from pathlib import Path

from vcap_es.errors import InvalidInput
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.logs.sqlite_writer import AppendJob, SqliteWriter
from vcap_es.projections.history import History
from vcap_es.projections.replay import replay

TRANSACTION_EVENTS = 2000


class BacktestLog:
    """A new log in the file `path`, written by one thread."""

    def __init__(self, path: Path) -> None:
        """Make the log. Raises InvalidInput where the file is there already."""
        if path.exists():
            raise InvalidInput(f"{path} is there already: a backtest begins a log of its own")
        self._path = path
        self._writer = SqliteWriter(path, "OFF")
        self._waiting: list[AppendJob] = []
        self._events = 0
        self._is_open = True

    @property
    def position(self) -> int:
        """The position of the last event in the file."""
        return self._writer.head.position

    def append(self, drafts: list[Draft], epoch: int) -> None:
        """Record the facts of one commit round."""
        self._waiting.append(AppendJob(drafts, [encode(draft.fact) for draft in drafts], epoch))
        self._events += len(drafts)
        if self._events >= TRANSACTION_EVENTS:
            self._commit()

    def close(self) -> None:
        """Bring everything into the file."""
        if self._is_open:
            self._is_open = False
            self._commit()
            self._writer.close()

    def replay(self) -> History:
        """What the file says, read and folded from its first event on; the chain is verified."""
        return asyncio.run(self._replay())

    async def _replay(self) -> History:
        log = await SqliteLog.open(self._path)
        try:
            history = History()
            await replay(log, history)
        finally:
            await log.close()
        return history

    def _commit(self) -> None:
        if self._waiting:
            outcomes = self._writer.commit(self._waiting)
            assert all(isinstance(each, list) for each in outcomes), "one epoch, one writer"
            self._waiting, self._events = [], 0
