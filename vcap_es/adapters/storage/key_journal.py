"""The key files of a server's journal: the answers to idempotency keys, each file dropped whole.

    keys-N    appended: frames of entries in MessagePack; a torn tail is cut off

Whatever is written outlives the process; what is synced outlives the machine.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock

import msgspec

from vcap_es.adapters.storage.durable_files import sync_directory, write_whole
from vcap_es.adapters.storage.framing import framed, payloads
from vcap_es.components.volumecap_server.keys.records import (
    FileBegun,
    KeyEntry,
    decode_keys,
    encode_keys,
)
from vcap_es.errors import JournalDamaged

_NAME, _FRESH = "keys-", ".new"
_CLOSED = -1


class KeyJournal:
    """The key files in one directory. One thread writes; others may sync and rewrite meanwhile."""

    def __init__(self, directory: Path, *, synchronous: bool) -> None:
        """Look for the key files there are; `read` gives what they say."""
        self.directory = directory
        self._synchronous = synchronous
        self._numbers = sorted(_numbers(directory))
        self._current = _CLOSED
        self._ended: list[int] = []
        """Files that are written no more, and may not be durable yet."""
        self._swap = Lock()
        self._is_dirty = self._is_new = False

    @property
    def newest(self) -> int:
        """The highest number of a key file; 0 where there is none."""
        return self._numbers[-1] if self._numbers else 0

    def read(self) -> Iterator[KeyEntry]:
        """The entries of all files, oldest first; cuts torn tails off."""
        for number in self._numbers:
            yield from self._read(self._path(number))

    def _read(self, path: Path) -> Iterator[KeyEntry]:
        with path.open("rb") as file:
            size, whole = os.fstat(file.fileno()).st_size, 0
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        for whole, payload in payloads(data):
            try:
                yield from decode_keys(payload)
            except msgspec.DecodeError as error:
                message = f"{path} before byte {whole}: {error}: was it written by a newer version?"
                raise JournalDamaged(message) from error
        if whole < size:
            os.truncate(path, whole)

    def write(self, entries: list[KeyEntry]) -> None:
        """Append a frame to the current file."""
        frame = framed(encode_keys(entries))
        with self._swap:
            write_whole(self._current, frame)
            self._is_dirty = True

    def turn(self, number: int, begun: FileBegun) -> None:
        """Let a new file be the one that is written from here on."""
        descriptor = _opened(self._path(number))
        with self._swap:
            if self._current != _CLOSED:
                self._ended.append(self._current)
            self._current, self._is_new = descriptor, True
        self.write([begun])

    def drop(self, number: int) -> None:
        """Remove a file; one that is not there any more is as good."""
        self._path(number).unlink(missing_ok=True)

    def rewrite(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        """Write a file by the side, and let it be there when it is whole and durable."""
        fresh = self._path(number).with_suffix(_FRESH)
        descriptor = _opened(fresh)
        try:
            for entries in pieces:
                write_whole(descriptor, framed(encode_keys(entries)))
            self._fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(self._path(number))
        sync_directory(self.directory)

    def replace_all(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        """Let one file have everything, in the place of all that are there."""
        self.rewrite(number, pieces)
        for each in self._numbers:
            self.drop(each)
        for fresh in self.directory.glob(f"{_NAME}*{_FRESH}"):
            fresh.unlink()
        self._numbers = [number]

    def sync(self) -> None:
        """Make everything written so far outlive the machine."""
        with self._swap:
            descriptors, self._ended = self._ended, []
            if self._is_dirty:
                descriptors.append(os.dup(self._current))
            is_new, self._is_dirty, self._is_new = self._is_new, False, False
        try:
            for descriptor in descriptors if self._synchronous else ():
                os.fdatasync(descriptor)
            if is_new and self._synchronous:
                sync_directory(self.directory)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Give the files back. Once is enough."""
        for descriptor in (*self._ended, self._current):
            if descriptor != _CLOSED:
                os.close(descriptor)
        self._ended, self._current = [], _CLOSED

    def _path(self, number: int) -> Path:
        return self.directory / f"{_NAME}{number:012}"

    def _fsync(self, descriptor: int) -> None:
        if self._synchronous:
            os.fsync(descriptor)


def _numbers(directory: Path) -> Iterator[int]:
    for path in directory.glob(f"{_NAME}*"):
        text = path.name.removeprefix(_NAME)
        if text.isdecimal():
            yield int(text)


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return os.open(path, flags, 0o600)
