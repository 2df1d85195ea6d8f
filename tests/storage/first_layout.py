"""A log of layout 1, as the first version of vcap_es made it: of a master that was alone."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from vcap_es.events.chain import Stored
from vcap_es.events.codec import caps_in
from vcap_es.events.logs.sqlite_rows import row_of

_TABLES = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    event_id BLOB NOT NULL UNIQUE,
    recorded_at INTEGER NOT NULL,
    dc TEXT NOT NULL,
    actor TEXT NOT NULL,
    correlation TEXT NOT NULL,
    kind TEXT NOT NULL,
    fact BLOB NOT NULL,
    link BLOB NOT NULL
) STRICT;
CREATE TABLE caps (
    cap TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (cap, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE fence (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
INSERT INTO fence VALUES (1, 0);
CREATE TRIGGER fence_never_falls BEFORE UPDATE ON fence WHEN new.epoch < old.epoch
    BEGIN SELECT RAISE(ABORT, 'an epoch never falls'); END;
CREATE TRIGGER fence_stays BEFORE DELETE ON fence
    BEGIN SELECT RAISE(ABORT, 'the fence stays'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the past is never changed'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the past is never changed'); END;
CREATE TRIGGER caps_no_update BEFORE UPDATE ON caps
    BEGIN SELECT RAISE(ABORT, 'the past is never changed'); END;
CREATE TRIGGER caps_no_delete BEFORE DELETE ON caps
    BEGIN SELECT RAISE(ABORT, 'the past is never changed'); END;
PRAGMA application_id = 0x76636170;
PRAGMA user_version = 1;
"""


def make(path: Path, events: Sequence[Stored]) -> None:
    """Make a closed log of layout 1 at `path` that holds `events`, from the first one on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(_TABLES)
        columns = "position, epoch, event_id, recorded_at, dc, actor, correlation, fact, link, kind"
        places = ", ".join("?" * 10)
        db.executemany(f"INSERT INTO events ({columns}) VALUES ({places})", map(row_of, events))
        db.executemany(
            "INSERT INTO caps VALUES (?, ?)",
            [(cap, event.position) for event in events for cap in caps_in(event.fact)],
        )
        if events:
            db.execute("UPDATE fence SET epoch = ?", (events[-1].epoch,))
