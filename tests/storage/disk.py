"""A disk whose power may fail, and whose syncs and writes may.

What was written and not synced is there afterwards, or not, or in part. The model is as harsh as
SQLite bears: any subset of the changes since the last sync of a file survives, in whatever order
the disk took them, and a write may be torn at any byte or sector, or leave junk in some. Kept from
SQLite's assumptions is only that bytes beside those that a write changes stay as they are, also
within a sector.
"""

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import NamedTuple

SECTOR = 512


class Write(NamedTuple):
    """Bytes at an offset."""

    offset: int
    data: bytes


class Truncate(NamedTuple):
    """The file has that size from here on; 0 also stands for a file that was deleted."""

    size: int
    deletes: bool = False


class Sync(NamedTuple):
    """What was changed is durable; of a sync that failed only what is chosen from the seed `keeps`.

    The kernel drops what a failed sync could not write and marks its pages clean: a later sync
    succeeds, and never writes them.
    """

    keeps: int | None = None


Change = Write | Truncate
Operation = Change | Sync


class Platter:
    """One file: what of it is durable, and the changes since, in order."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[Change] = []
        self.is_new = not durable

    def do(self, operation: Operation) -> None:
        """Note a change, or make the noted ones durable."""
        if not isinstance(operation, Sync):
            self.pending.append(operation)
            return
        random = Random(operation.keeps)
        for change in self.pending:
            if operation.keeps is None:
                _apply(self.durable, change)
            else:
                _apply_perhaps(self.durable, change, random, likely=0.5)
        self.pending.clear()

    @property
    def is_deleted(self) -> bool:
        """The last that was done to it is that it was deleted."""
        return bool(self.pending) and self.pending[-1] == Truncate(0, deletes=True)

    def after_power_loss(self, random: Random) -> bytes:
        """What the file holds when the power is back."""
        likely = random.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        content = bytearray(self.durable)
        for change in self.pending:
            _apply_perhaps(content, change, random, likely)
        return bytes(content)


def _apply_perhaps(content: bytearray, change: Change, random: Random, likely: float) -> None:
    """Apply a change, part of it, or nothing."""
    if random.random() < likely:
        _apply(content, change)
    elif isinstance(change, Write):
        match random.randrange(5):
            case 0:  # torn at a byte
                _apply(content, Write(change.offset, change.data[: random.randrange(4096)]))
            case 1:
                _apply_sectors(content, change, random)
            case 3:
                _apply_sectors(content, _junk(content, change, random), random)
            case 2:  # the file was extended, the bytes did not come
                _apply(content, Write(change.offset + len(change.data), b""))
            case _:
                pass


def _junk(content: bytearray, change: Write, random: Random) -> Write:
    """What a write may leave that was under way: anything, where another byte was to be."""
    before = content[change.offset : change.offset + len(change.data)].ljust(
        len(change.data), b"\0"
    )
    junk = random.randbytes(len(change.data))
    mixed = bytes(
        new if new == old else other
        for new, old, other in zip(change.data, before, junk, strict=True)
    )
    return Write(change.offset, mixed)


def _apply_sectors(content: bytearray, change: Write, random: Random) -> None:
    at, end = change.offset, change.offset + len(change.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        if random.random() < 0.5:
            _apply(content, Write(at, change.data[at - change.offset : until - change.offset]))
        at = until


def _apply(content: bytearray, change: Change) -> None:
    size = change.size if isinstance(change, Truncate) else change.offset
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if isinstance(change, Write):
        content[change.offset : change.offset + len(change.data)] = change.data
    else:
        del content[size:]


DIRECTORY = "/"
"""What a sync of the directory is told as."""

Platters = dict[str, Platter]
"""The files of a log by what their names end with: "" is the main file, then "-wal"."""


def carry_out(platters: Platters, file: str, operation: Operation) -> None:
    """Do one operation on one file, or sync the directory.

    The first sync of a file that is new syncs its directory as well, and with that the deletions.
    """
    if file == DIRECTORY:
        _forget_deleted(platters, operation)
        return
    platter = platters.setdefault(file, Platter())
    platter.do(operation)
    if platter.is_new and isinstance(operation, Sync):
        platter.is_new = False
        _forget_deleted(platters, operation)


def _forget_deleted(platters: Platters, operation: Operation) -> None:
    if operation == Sync():
        for name in [name for name, platter in platters.items() if platter.is_deleted]:
            platters[name] = Platter()


class Recorded(NamedTuple):
    """One operation, and between which states of the log it was done.

    `done` transactions were acknowledged when it was, and `begun` had begun.
    """

    file: str
    operation: Operation
    done: int
    begun: int


class NoRoom(Exception):
    """A write fails: the disk is full."""


class WriteFailed(Exception):
    """A write or a truncation fails: the disk took half of it, or nothing."""


class SyncFailed(Exception):
    """A sync fails: the disk did not take all of it."""


class PowerOff(Exception):
    """Nothing is done any more: this process is no more, as far as the disk can tell."""


class Disk:
    """Records what SQLite does to the files of one log, from a moment on.

    `room` more writes succeed and none after them, `good_changes` more changes and `good_syncs`
    more syncs and not the one after them; None: all do.
    """

    def __init__(self, platters: Platters) -> None:
        self.before = deepcopy(platters)
        self.trace: list[Recorded] = []
        self.done = 0
        self.begun = 0
        self.room: int | None = None
        self.good_changes: int | None = None
        self.good_syncs: int | None = None
        self.is_off = False

    def do(self, file: str, operation: Operation) -> None:
        """Record an operation; raises where it fails."""
        if self.is_off:
            raise PowerOff
        if isinstance(operation, Sync):
            self._sync(file)
            return
        if isinstance(operation, Write) and self.room is not None:
            if self.room == 0:
                raise NoRoom
            self.room -= 1
        self._change(file, operation)

    def part_way(self, file: str, write: Write) -> Write:
        """What of a write that fails is done: its first half."""
        half = Write(write.offset, write.data[: len(write.data) // 2])
        self._record(file, half)
        return half

    def moments(self) -> Iterator[tuple[int, Platters]]:
        """The files before each operation and after the last one, with how many were done."""
        platters = deepcopy(self.before)
        for number, (file, operation, _, _) in enumerate(self.trace):
            yield number, platters
            carry_out(platters, file, operation)
        yield len(self.trace), platters

    def after(self, operations: int) -> Platters:
        """The files when so many operations were done."""
        platters = deepcopy(self.before)
        for file, operation, _, _ in self.trace[:operations]:
            carry_out(platters, file, operation)
        return platters

    def known(self, operations: int) -> tuple[int, int]:
        """`done` and `begun` as of just before the operation with that number."""
        if operations == len(self.trace):
            return self.done, self.begun
        return self.trace[operations].done, self.trace[operations].begun

    def _sync(self, file: str) -> None:
        if self.good_syncs == 0:
            self.good_syncs = None
            self._record(file, Sync(keeps=len(self.trace)))
            raise SyncFailed
        if self.good_syncs is not None:
            self.good_syncs -= 1
        self._record(file, Sync())

    def _change(self, file: str, change: Change) -> None:
        if self.good_changes == 0:
            self.good_changes = None
            raise WriteFailed
        if self.good_changes is not None:
            self.good_changes -= 1
        self._record(file, change)

    def _record(self, file: str, operation: Operation) -> None:
        self.trace.append(Recorded(file, operation, self.done, self.begun))
