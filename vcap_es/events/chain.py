"""The hash chain: each event's link covers the event and the link before it.

Any event that is changed, inserted, dropped or moved breaks every link after it. Pure.
"""

from hashlib import sha256

GENESIS = bytes(32)


def link(previous: bytes, canonical: bytes) -> bytes:
    """The 32-byte link of an event whose canonical bytes are `canonical`."""
    return sha256(previous + canonical).digest()
