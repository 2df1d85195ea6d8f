"""A voter's ballot in one small file that is never longer than when it was made.

It has two halves, written in turn and each on its own: a write that is torn leaves the other half,
which is the ballot before. Nothing is allocated after the first start, so a full disk takes no vote
away.
"""

import fcntl
import os
from collections.abc import Callable
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from struct import Struct as Layout
from typing import Self

import msgspec

from vcap_es.adapters.storage.durable_files import sync_directory
from vcap_es.components.consensus.voter import Ballot
from vcap_es.errors import BallotDamaged, BallotLocked

HALF_BYTES = 4096
"""What a disk writes at once, so that writing one half never touches the other."""

_CLOSED = -1
"""No descriptor: one that was closed may be another file's already."""

_MAGIC = b"vcapvote"
_HEAD = Layout(">8sQI32s")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ballot).decode


class BallotFile:
    """The ballot of one node, in a file that this process alone has open."""

    def __init__(self, descriptor: int, sequence: int, ballot: Ballot) -> None:
        self._descriptor, self._sequence = descriptor, sequence
        self._ballot = ballot

    @classmethod
    def open(cls, path: Path, node: Callable[[], str]) -> Self:
        """The ballot at `path`, with one more start counted; or a new one, of `node()`.

        Raises `BallotLocked` while another process has it, `BallotDamaged` where both halves are.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(path, descriptor)
            found = os.pread(descriptor, 2 * HALF_BYTES, 0)
            if is_new or len(found) < 2 * HALF_BYTES or not any(found):
                opened = cls._made(path, descriptor, node())
            else:
                opened = cls(descriptor, *_newest(path, descriptor))
            started = msgspec.structs.replace(opened.ballot, start=opened.ballot.start + 1)
            opened.keep(started)
        except BaseException:
            os.close(descriptor)
            raise
        return opened

    @classmethod
    def _made(cls, path: Path, descriptor: int, node: str) -> Self:
        """A new file, or one whose making was cut short: nobody ever heard of that one."""
        _write(descriptor, bytes(2 * HALF_BYTES), 0)
        made = cls(descriptor, 0, Ballot(node=node))
        os.fsync(descriptor)
        sync_directory(path.parent)
        return made

    @property
    def ballot(self) -> Ballot:
        """The ballot that was kept last."""
        return self._ballot

    def keep(self, ballot: Ballot) -> None:
        """Replace the ballot; it is durable when this returns. Raises OSError where it is not."""
        body = _encode(ballot)
        sequence = self._sequence + 1
        head = _HEAD.pack(_MAGIC, sequence, len(body), _digest(sequence, body))
        data = (head + body).ljust(HALF_BYTES, b"\0")
        assert len(data) == HALF_BYTES, "a ballot has a few hundred bytes"
        _write(self._descriptor, data, sequence % 2 * HALF_BYTES)
        os.fdatasync(self._descriptor)
        self._sequence, self._ballot = sequence, ballot

    def close(self) -> None:
        """Let the file go. Once is enough; a later `keep` raises, and writes nowhere else."""
        if self._descriptor != _CLOSED:
            os.close(self._descriptor)
            self._descriptor = _CLOSED


def _write(descriptor: int, data: bytes, at: int) -> None:
    """Write all of `data`. Raises OSError where the disk takes only a part of it, or none."""
    if os.pwrite(descriptor, data, at) < len(data):
        raise OSError(ENOSPC, "the disk took only a part of the ballot: make room on it")


def read_ballot(path: Path) -> Ballot:
    """The ballot at `path`, which somebody else may have open. Raises like `BallotFile.open`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _newest(path, descriptor)[1]
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BallotLocked(f"{path} is another process's ballot: one store, one process") from None


def _newest(path: Path, descriptor: int) -> tuple[int, Ballot]:
    halves = [_read(os.pread(descriptor, HALF_BYTES, at)) for at in (0, HALF_BYTES)]
    found = [each for each in halves if each is not None]
    if not found:
        raise BallotDamaged(
            f"{path} cannot be read: who forgot its promises must not vote; set its directory aside"
        )
    return max(found, key=lambda each: each[0])


def _read(data: bytes) -> tuple[int, Ballot] | None:
    """The sequence and ballot in one half; None where it was never written, or not whole."""
    magic, sequence, length, digest = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or digest != _digest(sequence, body):
        return None
    return sequence, _decode(body)


def _digest(sequence: int, body: bytes) -> bytes:
    return sha256(sequence.to_bytes(8, "big") + body).digest()
