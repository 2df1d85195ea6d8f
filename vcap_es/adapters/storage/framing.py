"""Frames in a file: length, CRC-32, payload. Each is read back whole or not at all."""

import struct
from collections.abc import Iterator
from mmap import mmap
from zlib import crc32

from vcap_es.errors import JournalError

FRAME = struct.Struct("<II")
FRAME_BYTES_MAX = 256 * 1024 * 1024


def framed(payload: bytes) -> bytes:
    """The frame of a payload; raises JournalError where it would be too long to be read."""
    if len(payload) > FRAME_BYTES_MAX:
        raise JournalError(f"{len(payload)} bytes are more than a frame can hold")
    return FRAME.pack(len(payload), crc32(payload)) + payload


def payloads(data: bytes | mmap) -> Iterator[tuple[int, bytes]]:
    """The payload of each whole frame, and where the next one begins; ends where one is torn."""
    view, at = memoryview(data), 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        at += FRAME.size
        payload = view[at : at + length]
        # A machine that stops may leave zeros at the end; their checksum would be right.
        if not 0 < length <= FRAME_BYTES_MAX or len(payload) < length:
            return
        if crc32(payload) != checksum:
            return
        at += length
        yield at, bytes(payload)
