"""The cases: a seed is a life of a log, and what befalls its disk.

Each kind of case is a function of a seed and an empty folder. It raises where a promise is broken
and gives a tally, so that a test can see that it met what it was made for.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

from tests.storage import first_layout
from tests.storage.disk import Platter, Platters
from tests.storage.life import Life
from tests.storage.real_process import traced
from tests.storage.states import State, put, reopened, sound
from tests.support.drafts import drafts
from vcap_es.errors import LogError
from vcap_es.events.log import Head
from vcap_es.events.sealing import seal

Tally = Counter[str]

_STEPS = 22


def power_loss(seed: int, folder: Path) -> Tally:
    """The power fails between any two operations of SQLite, and sometimes again in the recovery.

    What is there afterwards is what was after the last transaction that was acknowledged, or after
    the one that was under way. Every fifth life begins with a log of the first layout.
    """
    random = Random(f"power loss {seed}")
    seen = _first_layout(folder) if seed % 5 == 4 else {}
    with Life.begun(random, folder, seen, _durable(seen)) as life:
        life.open()
        for _ in range(_STEPS):
            life.step()
    return _at_every_moment(life, random, folder)


def real_process(seed: int, folder: Path) -> Tally:
    """The same with what a real process did to its disk, as the system was told it."""
    return _at_every_moment(traced(seed, folder), Random(f"real process {seed}"), folder)


def unsynced(seed: int, folder: Path) -> Tally:
    """The same with a log that promises nothing: most cases are broken, which is to be noticed."""
    random, tally = Random(f"unsynced {seed}"), Tally()
    with Life.begun(random, folder, synchronous="OFF") as life:
        life.open()
        for _ in range(_STEPS):
            life.step()
    for operations, platters in life.disk.moments():
        tally["cases"] += 1
        try:
            _check(folder, _without_power(platters, random), _allowed(life, operations))
        except Exception:  # noqa: BLE001 (of a torn file, whatever comes)
            tally["broken"] += 1
    return tally


def failed_sync(seed: int, folder: Path) -> Tally:
    """A sync fails, and the kernel forgets part of what it should have written.

    The log must not acknowledge anything any more. Either the power fails at once, or a new
    process goes on with what it sees, which the disk need not hold; then the power fails.
    """
    random = Random(f"failed sync {seed}")
    return _failure(random, folder, good_syncs=random.randrange(45))


def failed_write(seed: int, folder: Path) -> Tally:
    """A write or a truncation fails, half done or not at all; then as behind a failed sync."""
    random = Random(f"failed write {seed}")
    return _failure(random, folder, good_changes=random.randrange(250))


def full_disk(seed: int, folder: Path) -> Tally:
    """There is no room, anywhere in a transaction or a checkpoint, and later there is.

    Nothing of the batch is there, the same batch succeeds later, and then the power fails.
    """
    random, tally = Random(f"full disk {seed}"), Tally()
    with Life.begun(random, folder) as life:
        life.open()
        for _ in range(_STEPS):
            if random.random() < 0.5:
                life.disk.room = random.randrange(40)
            life.step()
            tally["full"] += life.was_full
            life.disk.room = None
    for operations in sorted(random.choices(range(len(life.disk.trace) + 1), k=60)):
        files = _without_power(life.disk.after(operations), random)
        _check(folder, files, _allowed(life, operations))
        tally["cases"] += 1
    return tally


def surgery(seed: int, folder: Path) -> Tally:
    """The WAL of a killed process is cut, loses a sector or has a flipped bit, anywhere.

    What is left is the log after the last transaction that is whole in the WAL before that place.
    Where something committed is missing, the log ends before the position up to which it was
    committed: whoever knows that position can tell. What was set aside never comes back instead.
    """
    random, tally = Random(f"surgery {seed}"), Tally()
    with Life.begun(random, folder, wal_bytes=2**30) as life:
        life.open()
        wals = [_Wal.of(life)]
        while len(wals) <= _STEPS or wals[-_STEPS // 2].salt != wals[-1].salt:
            life.step(restarts=False)
            wals.append(_Wal.of(life))
        life.kill()
        files = life.seen()
    in_main = max(number for number, wal in enumerate(wals) if wal.salt != wals[-1].salt)
    wal, last = files["-wal"], life.states[-1]
    for _ in range(120):
        broken, first = _broken(wal, random)
        whole = (n for n, each in enumerate(wals) if n > in_main and each.end <= first)
        left = max(whole, default=in_main)
        found = _check(folder, {"": files[""], "-wal": broken}, [life.states[left]])
        tally["cases"] += 1
        if last.events[: last.committed] != found.events[: last.committed]:
            tally["lost"] += 1
            assert len(found.events) < last.committed, "nobody could tell"
    return tally


def held_up(seed: int, folder: Path) -> Tally:
    """The same damage while a reader has held up a checkpoint, so the main file is ahead of it.

    Then pages of two times may be in one file. The events are those of one time, or the damage is
    told: by SQLite, by what is kept beside the events, or by the chain.
    """
    random, tally = Random(f"held up {seed}"), Tally()
    with Life.begun(random, folder, wal_bytes=2**30) as life, ExitStack() as reading:
        life.open()
        for steps in (12, 5, 5):
            for _ in range(steps):
                life.step(restarts=False)
            if steps == 12:
                reader = apsw.Connection(str(life.path), flags=apsw.SQLITE_OPEN_READONLY)
                reading.callback(reader.close)
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM events").fetchall()
            life.checkpoint()
        life.kill()
        files = life.seen()
    pasts = {state.events for state in life.states}
    for _ in range(40):
        broken, _ = _broken(files["-wal"], random)
        tally["cases"] += 1
        try:
            found = reopened(put(folder, {"": files[""], "-wal": broken}))
        except (LogError, sqlite3.DatabaseError):
            tally["told"] += 1
        else:
            assert found.events in pasts, "events of two times"
    return tally


KINDS: dict[str, Callable[[int, Path], Tally]] = {
    each.__name__: each
    for each in (
        power_loss,
        real_process,
        unsynced,
        failed_sync,
        failed_write,
        full_disk,
        surgery,
        held_up,
    )
}


def _failure(random: Random, folder: Path, **good: int) -> Tally:
    """One operation fails: the first behind so many good ones of its kind."""
    tally = Tally()
    with Life.begun(random, folder, wal_bytes=40_000) as life:
        ((kind, amount),) = good.items()
        setattr(life.disk, kind, amount)
        try:
            life.open()
            for _ in range(_STEPS):
                life.step()
        except LogError:
            tally["failed"] += 1
            _check_stopped(life)
        else:
            assert getattr(life.disk, kind) is not None, "a failure went unnoticed"
        if random.random() < 0.5:
            life.close()
        else:
            life.kill()
        seen = life.seen()
    operations = len(life.disk.trace)
    allowed = _allowed(life, operations)
    for _ in range(8):
        files = _without_power(life.disk.after(operations), random)
        _check(folder, files, allowed)
        tally["cases"] += 1
    found = _check(folder, seen, allowed)
    tally["seen_unacknowledged"] += len(allowed) > 1 and found == allowed[-1]
    return tally + _again(random, folder, seen, found, life.disk.after(operations), allowed)


def _at_every_moment(life: Life, random: Random, folder: Path) -> Tally:
    tally = Tally()
    for operations, platters in life.disk.moments():
        files = _without_power(platters, random)
        allowed = _allowed(life, operations)
        found = _check(folder, files, allowed)
        tally += Tally(cases=1, lost_begun=len(allowed) > 1 and found == allowed[0])
        tally["kept_begun"] += len(allowed) > 1 and found == allowed[-1]
        if random.random() < 0.02:
            tally += _again(random, folder, files, found)
    return tally


def _again(
    random: Random,
    folder: Path,
    seen: dict[str, bytes],
    found: State,
    platters: Platters | None = None,
    before: Sequence[State] = (),
) -> Tally:
    """A new process goes on with the files it sees, and then the power fails, at any time.

    `platters` are what the disk holds, if not that; `before` the states that are allowed as long
    as nobody has acted on what was seen.
    """
    tally = Tally()
    with Life.begun(random, folder, seen, platters or _durable(seen)) as life:
        assert life.states == [found]
        life.open()
        for _ in range(3):
            life.step()
    for operations in random.choices(range(len(life.disk.trace) + 1), k=12):
        files = _without_power(life.disk.after(operations), random)
        allowed = _allowed(life, operations)
        if operations < life.opened:
            allowed = [*before, *allowed]
        _check(folder, files, allowed)
        tally += Tally(cases=1, again=1)
    return tally


def _durable(files: dict[str, bytes]) -> Platters:
    return {ending: Platter(content) for ending, content in files.items()}


def _first_layout(folder: Path) -> dict[str, bytes]:
    """The files of a log of the first layout that was closed."""
    path = put(folder, {})
    first_layout.make(path, seal(drafts(9), 1, Head()))
    return {"": path.read_bytes()}


def _allowed(life: Life, operations: int) -> list[State]:
    done, begun = life.disk.known(operations)
    return life.states[done : begun + 1]


def _without_power(platters: Platters, random: Random) -> dict[str, bytes]:
    return {ending: platter.after_power_loss(random) for ending, platter in platters.items()}


def _check(folder: Path, files: dict[str, bytes], allowed: Sequence[State]) -> State:
    found = sound(put(folder, files))
    assert found in allowed, (
        f"{len(found.events)} events, {found.committed} committed, and it should be one of"
        f" {[(len(each.events), each.committed) for each in allowed]}"
    )
    return found


def _check_stopped(life: Life) -> None:
    """A log that does not know what is on disk takes nothing any more."""
    if life.is_open:
        try:
            life.repeat()
        except LogError:
            return
        raise AssertionError("a batch was taken behind a failed sync")


class _Wal(NamedTuple):
    """What SQLite sees in a WAL: frames that have its salt, up to the end of a transaction."""

    salt: bytes
    end: int

    @classmethod
    def of(cls, life: Life) -> "_Wal":
        """The WAL as it is; behind its end may be frames of before it was begun anew."""
        wal, end = life.seen().get("-wal", b""), 0
        salt = wal[16:24]
        for start in range(32, len(wal), 24 + 4096):
            if wal[start + 8 : start + 16] != salt:
                break
            if wal[start + 4 : start + 8] != bytes(4):
                end = start + 24 + 4096
        return cls(salt, end)


def _broken(wal: bytes, random: Random) -> tuple[bytes, int]:
    """A WAL with some damage, and the first byte that differs."""
    at = random.randrange(len(wal))
    match random.randrange(3):
        case 0:
            return wal[:at], at
        case 1:
            return wal[:at] + bytes([wal[at] ^ 1 << random.randrange(8)]) + wal[at + 1 :], at
        case _:
            start = at // 512 * 512
            broken = wal[:start] + bytes(512) + wal[start + 512 :]
            differing = (n for n in range(start, len(wal)) if wal[n] != broken[n])
            return broken[: len(wal)], next(differing, len(wal))
