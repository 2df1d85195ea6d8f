"""All that a log holds, read table by table: what a test compares."""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.drafts import draft
from vcap_es.events.chain import verify
from vcap_es.events.log import head_of
from vcap_es.events.logs.sqlite_rows import COLUMNS, stored
from vcap_es.events.logs.sqlite_writer import AppendJob, SqliteWriter
from vcap_es.events.sealing import recorded, seal

_PARTS = {
    "events": f"SELECT {COLUMNS} FROM events ORDER BY position",
    "diverged": f"SELECT {COLUMNS} FROM diverged ORDER BY place",
    "caps": "SELECT cap, position FROM caps ORDER BY cap, position",
    "epochs": "SELECT epoch, last FROM epochs ORDER BY epoch",
    "fence": "SELECT epoch FROM fence",
    "watermark": "SELECT committed FROM watermark",
}

Rows = tuple[tuple[Any, ...], ...]


class State(NamedTuple):
    """The rows of each table; what is derived from them and what keeps the log safe."""

    events: Rows
    diverged: Rows
    caps: Rows
    epochs: Rows
    fence: Rows
    watermark: Rows

    @property
    def committed(self) -> int:
        """The watermark."""
        return int(self.watermark[0][0])

    @property
    def epoch(self) -> int:
        """The epoch of the last event."""
        return int(self.events[-1][1]) if self.events else 0

    def epoch_at(self, position: int) -> int:
        """The epoch of the event at `position`, 0 of none."""
        return int(self.events[position - 1][1]) if position else 0


def state_of(writer: SqliteWriter) -> State:
    """What a log that is open for writing holds."""
    rows = {
        part: tuple(tuple(row) for row in writer._db.execute(statement).fetchall())
        for part, statement in _PARTS.items()
    }
    return State(**rows)


def check_sound(state: State) -> None:
    """The chain is whole, nothing is missing, and what is committed is there."""
    verify(stored(row) for row in state.events)
    assert [row[0] for row in state.events] == [*range(1, len(state.events) + 1)]
    assert state.committed <= len(state.events)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of a log, by their endings, into a folder that has none yet; its path."""
    path = folder / "events.db"
    for ending in ("", "-wal", "-shm", "-journal"):
        file = folder / f"events.db{ending}"
        file.unlink(missing_ok=True)
        if content := files.get(ending):
            file.write_bytes(content)
    return path


def reopened(path: Path) -> State:
    """What a new process finds: the product opens the log with Python's own SQLite."""
    with closing(SqliteWriter(path, "FULL")) as writer:
        state = state_of(writer)
    check_sound(state)
    return state


def sound(path: Path) -> State:
    """Like `reopened`, and it is shown that every index is whole and that the log goes on."""
    with closing(SqliteWriter(path, "FULL")) as writer:
        state = state_of(writer)
        assert writer._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        _check_goes_on(writer, state)
    check_sound(state)
    return state


def _check_goes_on(writer: SqliteWriter, state: State) -> None:
    """The next event takes its place behind the last one."""
    head, epoch = writer.head, int(state.fence[0][0])
    assert head.position == len(state.events)
    batch = [draft()]
    (entry,) = seal(batch, epoch, head)
    assert writer.commit([AppendJob(batch, [entry.fact], epoch)]) == [[recorded(entry)]]
    assert writer.head == head_of(entry)
