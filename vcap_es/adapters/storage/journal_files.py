"""The journal of a volumecap server, as files in one directory that one process locks.

    frames   appended: frames of entries in MessagePack; a torn tail is cut off
    cells    shared memory of 64-bit integers: what each slice has spent; a slice gets its place
             on the disk before its cells are touched, as a store into a hole that a full disk
             cannot fill would end the process
    keys-N   appended: the answers to idempotency keys, a stretch of time in each

Whatever is written outlives the process; what is synced outlives the machine. A journal must never
be restored from a backup.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_bytes
from threading import Lock

import msgspec

from vcap_es.adapters.storage.durable_files import sync_directory, write_whole
from vcap_es.adapters.storage.framing import framed, payloads
from vcap_es.adapters.storage.key_journal import KeyJournal
from vcap_es.clock import boot_ns
from vcap_es.components.volumecap_server.idempotency import take_in
from vcap_es.components.volumecap_server.keys.ledger import SECRET_BYTES, KeyLedger
from vcap_es.components.volumecap_server.keys.records import (
    FileBegun,
    KeyEntry,
    KeyFile,
    read_keys,
    whole_ledger,
)
from vcap_es.components.volumecap_server.slices.journal import (
    Begun,
    Entry,
    Journal,
    decode,
    encode,
    settle_cells,
)
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.components.volumecap_server.slices.slice import CELLS_PER_SLOT
from vcap_es.errors import JournalDamaged, JournalError

COMPACT_AT_BYTES = 64 * 1024 * 1024
_CLOSED = -1
CELLS_STEP_BYTES = 64 * 1024
"""The disk gives its room to the cells in steps of this: those of 4096 slices."""

ENTRIES_PER_FRAME = 1000
"""Of a journal that is written anew: one frame of all of it might be longer than any that is read.
"""


class JournalFiles:
    """An open journal. `write` is called by one thread; `sync` may run in another meanwhile."""

    def __init__(
        self,
        directory: Path,
        *,
        slots_max: int,
        synchronous: bool = True,
        limits: Limits | None = None,
    ) -> None:
        """Lock and read the journal in `directory`, which is made where there is none.

        `slots_max` bounds the slices that it can keep, `limits` the keys. Without `synchronous`
        nothing is fsynced, for rehearsals. Raises `JournalError` where another process has it.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)
        self.directory = directory
        self._synchronous = synchronous
        self._lock_file = _locked(directory / "lock")
        self._swap = Lock()
        self._is_broken = False
        self._slots_max, self._limits = slots_max, limits or Limits()
        self._keys = KeyJournal(directory, synchronous=synchronous)
        self.journal = Journal()
        self._size = self._read()
        self._compacted_size = self._size
        self._frames = os.open(self._frames_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._allocated = 0
        self._cells_file, self._map = self._map_cells()
        whole = memoryview(self._map)
        self.cells = whole.cast("q")
        self._views = (self.cells, whole)
        try:
            slots = [kept.slot // CELLS_PER_SLOT + 1 for kept in self.journal.kept.values()]
            self._allocate(max([1, *slots]) * CELLS_PER_SLOT * 8)
        except OSError as error:
            raise self._unusable(error) from error

    @property
    def _frames_path(self) -> Path:
        return self.directory / "frames"

    def begin(self, *, incarnation: Callable[[], str], session: str) -> Journal:
        """Count a start, durably, and give what the journal says.

        `incarnation` makes the 128-bit name of a journal that is new. Raises `JournalDamaged`
        where the cells cannot be true.
        """
        boot = _boot_id()
        settle_cells(self.journal, self.cells, same_boot=boot == self.journal.boot)
        begun = Begun(
            incarnation=self.journal.incarnation or incarnation(),
            start=self.journal.start + 1,
            session=session,
            boot=boot,
        )
        self.journal.fold(begun)
        try:
            self._begin_keys(boot)
            self._rewrite(self.journal, self._size)
        except OSError as error:
            raise self._unusable(error) from error
        return self.journal

    def has_room(self, slots: int) -> bool:
        """Whether the disk has a place for the cells of the first so many slots; it is taken now.

        Without one, no cell of them may be touched. Asked again it may be there.
        """
        wanted = slots * CELLS_PER_SLOT * 8
        if wanted <= self._allocated:
            return True
        try:
            self._allocate(wanted)
        except OSError:
            return False
        return True

    def _allocate(self, wanted: int) -> None:
        """Take room for `wanted` bytes of cells. Raises OSError where the disk has none."""
        upto = min(-(-wanted // CELLS_STEP_BYTES) * CELLS_STEP_BYTES, len(self._map))
        os.posix_fallocate(self._cells_file, self._allocated, upto - self._allocated)
        self._allocated = upto

    def _unusable(self, error: OSError) -> JournalError:
        return JournalError(
            f"the journal in {self.directory} cannot be used: {error.strerror}: make room on its"
            " disk, and start again"
        )

    def _begin_keys(self, boot: str) -> None:
        """Read all keys, and have them in one file that is durable before frames let them go."""
        journal, now_ns = self.journal, boot_ns()
        limits = self._limits
        secret = token_bytes(SECRET_BYTES)
        journal.keys = KeyLedger(secret, limits.keys_max, limits.key_retention_ms)
        read_keys(self._keys.read(), journal.keys, boot=boot, now_ns=now_ns)
        take_in(journal, now_ns)
        number = self._keys.newest + 1
        self._keys.replace_all(number, whole_ledger(journal.keys, boot=boot, now_ns=now_ns))
        journal.key_file = KeyFile(number, now_ns, journal.keys.size)

    def write(self, entries: list[Entry]) -> None:
        """Append one frame; it outlives the process from here on.

        Raises JournalError where it cannot. A part of the frame may be there then, and
        nothing behind it would be found again, so every later `write` and `sync` raises too.
        """
        frame = _frame(entries)
        with self._swap:
            self._check_whole()
            try:
                write_whole(self._frames, frame)
            except OSError as error:
                self._is_broken = True
                raise self._unusable(error) from error
            self._size += len(frame)

    def write_keys(self, entries: list[KeyEntry]) -> None:
        """Append one frame to the key file; raises as `write` does."""
        self._check_whole()
        try:
            self._keys.write(entries)
        except OSError:
            self._is_broken = True
            raise

    def turn_keys(self, number: int, begun: FileBegun) -> None:
        """Let another key file be written from here on; raises as `write` does."""
        self._check_whole()
        try:
            self._keys.turn(number, begun)
        except OSError:
            self._is_broken = True
            raise

    def drop_keys(self, number: int) -> None:
        """Remove a key file that nobody needs."""
        self._keys.drop(number)

    def rewrite_keys(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        """Write a key file by the side; others may write meanwhile. Raises OSError."""
        self._keys.rewrite(number, pieces)

    def sync(self) -> None:
        """Make everything written so far outlive the machine; now and then, shorten the file.

        Raises JournalError where it cannot; nobody knows then what is on the disk, so
        every later `write` and `sync` raises too.
        """
        self._check_whole()
        try:
            self._keys.sync()
            if self._size > max(COMPACT_AT_BYTES, 4 * self._compacted_size):
                self._compact()
            elif self._synchronous:
                os.fdatasync(self._frames)
        except OSError as error:
            self._is_broken = True
            raise self._unusable(error) from error

    def _check_whole(self) -> None:
        if self._is_broken:
            raise JournalError(f"{self.directory}: a write failed before: look at the disk")

    def close(self) -> None:
        """Give the files back; another process may have them then. Once is enough."""
        if self._frames == _CLOSED:
            return
        os.close(self._frames)
        self._frames = _CLOSED
        self._keys.close()
        for view in self._views:
            view.release()
        self._map.close()
        os.close(self._cells_file)
        os.close(self._lock_file)

    def set_aside(self) -> Path:
        """Move the journal out of the way, for people to look at; gives the new path.

        It stays open until `close`: what it holds can still be read.
        """
        number = 1
        while (aside := self.directory.with_name(f"{self.directory.name}.aside{number}")).exists():
            number += 1
        self.directory = self.directory.rename(aside)
        return aside

    def _read(self) -> int:
        """Fold all whole frames; cut off the rest. Gives the size of what is whole."""
        self.journal = Journal()
        if not self._frames_path.exists():
            return 0
        data = self._frames_path.read_bytes()
        whole = _fold_frames(data, self.journal, self._frames_path)
        if whole < len(data):
            os.truncate(self._frames_path, whole)
        return whole

    def _compact(self) -> None:
        """Read what is written so far, and write it anew while others go on writing.

        Keys that were there when this was done last are in a key file since: they are left out.
        """
        with self._swap:
            upto = self._size
        journal, data = Journal(), self._frames_path.read_bytes()
        _fold_frames(data[: self._compacted_size], journal, self._frames_path)
        older = dict(journal.keyed)
        _fold_frames(data[self._compacted_size : upto], journal, self._frames_path)
        for key, keyed in older.items():
            if journal.keyed.get(key) is keyed:
                del journal.keyed[key]
        self._rewrite(journal, upto)

    def _rewrite(self, journal: Journal, upto: int) -> None:
        """Put `journal`, in the fewest entries, in the place of the first `upto` bytes."""
        fresh = self.directory / "frames.new"
        target = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            entries = journal.entries()
            for at in range(0, len(entries), ENTRIES_PER_FRAME):
                write_whole(target, _frame(entries[at : at + ENTRIES_PER_FRAME]))
            self._fsync(target)  # nearly all of it, before others have to wait
            with self._swap:
                with self._frames_path.open("rb") as old:
                    old.seek(upto)
                    write_whole(target, old.read())
                self._fsync(target)
                self._replace_frames(fresh, target)
        except BaseException:
            os.close(target)
            raise

    def _replace_frames(self, fresh: Path, target: int) -> None:
        fresh.rename(self._frames_path)
        sync_directory(self.directory)
        os.close(self._frames)
        self._frames = target
        self._size = self._compacted_size = os.fstat(target).st_size

    def _fsync(self, descriptor: int) -> None:
        if self._synchronous:
            os.fsync(descriptor)

    def _map_cells(self) -> tuple[int, mmap.mmap]:
        size = self._slots_max * CELLS_PER_SLOT * 8
        descriptor = os.open(self.directory / "cells", os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, os.fstat(descriptor).st_size)


def _frame(entries: list[Entry]) -> bytes:
    return framed(encode(entries))


def _fold_frames(data: bytes, journal: Journal, path: Path) -> int:
    """Take in all whole frames; gives where they end."""
    at = 0
    for end, payload in payloads(data):
        try:
            entries = decode(payload)
        except msgspec.DecodeError as error:
            message = f"{path} at byte {at}: {error}: was it written by a newer version?"
            raise JournalDamaged(message) from error
        for entry in entries:
            journal.fold(entry)
        at = end
    return at


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(
            f"{path.parent} is in use by another process: stop it, or choose another directory"
        ) from error
    return descriptor


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
