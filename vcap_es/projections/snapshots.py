"""Snapshots of a state: bytes that save a replay, and are thrown away whenever in doubt.

A snapshot is a cache, never a record. It holds: `MAGIC`; the digest of the format, which changes
with any change of the structs; the SHA-256 of the content; the content in msgpack: the head of the
log that it was taken at, and the state.
"""

from hashlib import sha256

from msgspec import DecodeError, Struct, inspect, msgpack

from vcap_es.events.log import Head
from vcap_es.projections.states.data_centre import DataCentre

MAGIC = b"vcapsnap"
MEANING = 2
"""Raised when facts fold to other states though the structs stay as they are."""

_DIGEST_BYTES = 32
_CONTENT = len(MAGIC) + 2 * _DIGEST_BYTES


class Snapshot(Struct, frozen=True, kw_only=True):
    """A state and the head of the log that led to it."""

    head: Head
    state: DataCentre


class Discarded(Struct, frozen=True, gc=False):
    """A snapshot that must not be used, and why."""

    reason: str


class _HeadAlone(Struct, frozen=True, kw_only=True):
    head: Head


FORMAT = sha256(f"{MEANING} {inspect.type_info(Snapshot)!r}".encode()).digest()
"""The digest of everything that a state is made of: names, types and defaults of all fields."""


def take(state: DataCentre, head: Head) -> bytes:
    """The snapshot of `state`, which the log up to `head` gave."""
    content = msgpack.encode(Snapshot(head=head, state=state), order="deterministic")
    return b"".join((MAGIC, FORMAT, sha256(content).digest(), content))


def head_of(data: bytes) -> Head | Discarded:
    """The head that a snapshot was taken at: what to ask the log for before restoring it."""
    content = _content(data)
    if isinstance(content, Discarded):
        return content
    try:
        return msgpack.decode(content, type=_HeadAlone).head
    except DecodeError as error:
        return Discarded(f"the snapshot cannot be read: {error}")


def restore(data: bytes, link: bytes | None) -> Snapshot | Discarded:
    """The snapshot in `data`, if it is whole, of this format, and of this log.

    `link` is the link that the log has at the snapshot's position; None where it has none.
    """
    content = _content(data)
    if isinstance(content, Discarded):
        return content
    try:
        snapshot = msgpack.decode(content, type=Snapshot)
    except DecodeError as error:
        return Discarded(f"the snapshot cannot be read: {error}")
    if link is None:
        return Discarded(f"the log has no event at position {snapshot.head.position}")
    if link != snapshot.head.link:
        return Discarded(f"the log has another event at position {snapshot.head.position}")
    return snapshot


def _content(data: bytes) -> bytes | Discarded:
    if not data.startswith(MAGIC) or len(data) < _CONTENT:
        return Discarded("the bytes are no snapshot")
    format_end = len(MAGIC) + _DIGEST_BYTES
    if data[len(MAGIC) : format_end] != FORMAT:
        return Discarded("the snapshot is of another version")
    content = data[_CONTENT:]
    if sha256(content).digest() != data[format_end:_CONTENT]:
        return Discarded("the snapshot is damaged: its digest does not fit")
    return content
