"""The answers to idempotency keys, in few bytes each: found by their digest, oldest dropped first.

Each caller has a share: segments, each of them the records of a stretch of time, dropped whole. A
segment is a hash table whose buckets are split one at a time, so that it grows without a pause: the
linear hashing of W. Litwin, "Linear Hashing: A New Tool for File and Table Addressing", VLDB 1980.
A record is its digest, a length, and the rest; a bucket is records one after the other. Its bucket
is told by a hash of the digest with a secret: a client knows the digests of its keys, and could
choose many that share one.
"""

from collections import deque
from collections.abc import Callable, Iterator
from hashlib import blake2b

from vcap_es.events.units import MS

KEYS_MAX = 5_000_000
"""Records that are kept of all callers; beyond them the oldest of whoever has the most are evicted.
"""

RETENTION_MS = 600_000
"""An answer is kept for ten minutes, in milliseconds: who repeats a call later lost count itself.
"""

DIGEST_BYTES = 12
"""96 bits: among as many keys of one caller as fit, two are the same by chance in no lifetime."""

LENGTH_BYTES = 3
HEAD_BYTES = DIGEST_BYTES + LENGTH_BYTES
RECORD_BYTES = 96
"""What a key may cost in memory; a record that costs more counts as several keys."""

OVERHEAD_BYTES = 12
"""What a record costs in memory beside its own bytes: its part of a bucket and of the room in it.
"""

SECRET_BYTES = 16
"""128 bits, which an adapter draws anew at each start: no file depends on them."""

HASH_BYTES = 8
"""Of the hash that tells the bucket: no number of buckets needs more than 64 bits."""

BUCKET_WEIGHT = 16
"""So many keys a bucket has on average, at most; a long record counts as several. More take longer
to find, fewer more room.
"""

NEVER_NS = 1 << 62
STRETCHES = 4
"""A retention time has so many stretches: an answer is dropped up to one of them too late."""

SEGMENTS_PER_BOUND = 8
"""A segment ends when it has this part of all the keys there is room for: the most that is evicted
at once.
"""

Place = tuple[str, int]
"""The cap and the number of an interval."""

Bits = Callable[[bytes], int]
"""The hash of a digest, whose last bits tell the bucket."""


class Segment:
    """The records of one caller from one stretch of time; `newest_ns` is when the last one came."""

    __slots__ = (
        *("_bits", "_buckets", "_mask", "_split"),
        *("began_ns", "count", "newest_ns", "size", "weight"),
    )

    def __init__(self, bits: Bits, now_ns: int) -> None:
        self._bits = bits
        self.began_ns = self.newest_ns = now_ns
        self.count = self.size = self.weight = 0
        self._buckets = [bytearray()]
        # Buckets up to `_split` are split already, by one more bit of the hash.
        self._mask = self._split = 0

    def _bucket(self, bits: int) -> bytearray:
        index = bits & self._mask
        if index < self._split:
            index = bits & (self._mask << 1 | 1)
        return self._buckets[index]

    def find(self, digest: bytes, bits: int) -> bytes | None:
        """What stands after this digest, whose hash is `bits`, in the newest record.

        The digest may stand in the other bytes of a record as well: whoever tries enough keys
        finds one whose digest is a text that a call can contain.
        """
        bucket = self._bucket(bits)
        if digest not in bucket:
            return None
        found = [each for each in records_of(bytes(bucket)) if each.startswith(digest)]
        return found[-1][HEAD_BYTES:] if found else None

    def add(self, record: bytes, cost: int, now_ns: int) -> None:
        """Take in a record that counts as `cost` keys."""
        self._bucket(self._bits(record[:DIGEST_BYTES])).extend(record)
        self.count += 1
        self.size += len(record)
        self.weight += cost
        self.newest_ns = now_ns
        if self.weight > BUCKET_WEIGHT * len(self._buckets):
            self._grow()

    def _grow(self) -> None:
        """Split the next bucket in two."""
        bit = self._mask + 1
        old, halves = bytes(self._buckets[self._split]), (bytearray(), bytearray())
        for record in records_of(old):
            halves[bool(self._bits(record[:DIGEST_BYTES]) & bit)].extend(record)
        self._buckets[self._split] = halves[0]
        self._buckets.append(halves[1])
        self._split += 1
        if self._split == bit:
            self._mask, self._split = self._mask << 1 | 1, 0

    def pieces(self, size: int) -> Iterator[bytes]:
        """All records, about `size` bytes at a time."""
        piece = bytearray()
        for bucket in self._buckets:
            piece += bucket
            if len(piece) >= size:
                yield bytes(piece)
                piece.clear()
        if piece:
            yield bytes(piece)


class Share:
    """What one caller has: its segments, oldest first. `index` stands for it in key files."""

    __slots__ = ("caller", "index", "named_in", "segments", "weight")

    def __init__(self, caller: str, index: int) -> None:
        self.caller, self.index = caller, index
        self.named_in = 0
        self.segments: deque[Segment] = deque()
        self.weight = 0


class KeyLedger:
    """All answers to keys that a server keeps: of each caller's, and of what intervals they speak.

    Beyond `keys_max` records the oldest segment of the caller who has the most is evicted, so
    nobody who has less than an equal part ever loses an answer to others. `names` are the
    intervals by the numbers that records have for them. `secret`, of up to 64 bytes, is known to
    nobody who can choose keys.
    """

    def __init__(
        self, secret: bytes, keys_max: int = KEYS_MAX, retention_ms: int = RETENTION_MS
    ) -> None:
        """Keep up to `keys_max` records, each for `retention_ms`. No client knows `secret`."""
        self._bits = bits_by(secret)
        self.limit(keys_max, retention_ms)
        self.shares: dict[str, Share] = {}
        self.names: dict[int, Place] = {}
        self.weight = self.size = self.evicted = 0
        self.expiry_ns = NEVER_NS
        """Nothing is to expire before; where it is not set, there is nothing."""
        self._next_name = self._next_index = 1

    def limit(self, keys_max: int, retention_ms: int) -> None:
        """Keep to these limits from here on."""
        self.keys_max, self.retention_ns = keys_max, retention_ms * MS
        self.stretch_ns = self.retention_ns // STRETCHES

    @property
    def count(self) -> int:
        """How many answers are kept."""
        return sum(each.count for share in self.shares.values() for each in share.segments)

    def share(self, caller: str) -> Share:
        """The share of a caller, which is made where there is none."""
        share = self.shares.get(caller)
        if share is None:
            share = self.shares[caller] = Share(caller, self._next_index)
            self._next_index += 1
        return share

    def name(self, place: Place) -> int:
        """A new number for an interval."""
        name, self._next_name = self._next_name, self._next_name + 1
        self.names[name] = place
        return name

    def named(self, name: int, place: Place) -> None:
        """A key file says that it calls an interval so."""
        self.names[name] = place
        self._next_name = max(self._next_name, name + 1)

    def find(self, caller: str, digest: bytes) -> bytes | None:
        """The newest record of a caller with this digest, without the digest."""
        share = self.shares.get(caller)
        if share is not None:
            bits = self._bits(digest)
            for segment in reversed(share.segments):
                found = segment.find(digest, bits)
                if found is not None:
                    return found
        return None

    def add(self, caller: str, record: bytes, now_ns: int) -> Share:
        """Keep a record, and evict others where there are too many; gives the caller's share."""
        share, cost = self.share(caller), weight(record)
        if self.weight + cost > self.keys_max:
            self._make_room(share, cost)
        segment = share.segments[-1] if share.segments else None
        if segment is None or self._is_over(segment, now_ns):
            segment = self._begin(share, now_ns)
        segment.add(record, cost, now_ns)
        share.weight += cost
        self.weight += cost
        self.size += len(record)
        return share

    def _begin(self, share: Share, now_ns: int) -> Segment:
        segment = Segment(self._bits, now_ns)
        share.segments.append(segment)
        self.expiry_ns = min(self.expiry_ns, now_ns + self.retention_ns)
        return segment

    def go_on(self, caller: str, newest_ns: int) -> None:
        """What comes next are records of a segment whose newest is of that time."""
        segments = self.share(caller).segments
        if not segments or segments[-1].newest_ns != newest_ns:
            self._begin(self.share(caller), newest_ns)

    def _is_over(self, segment: Segment, now_ns: int) -> bool:
        return (
            now_ns - segment.began_ns >= self.stretch_ns
            or segment.weight * SEGMENTS_PER_BOUND >= self.keys_max
        )

    def _make_room(self, share: Share, cost: int) -> None:
        """Evict the oldest of whoever has the most, the new record counted in."""
        while self.weight + cost > self.keys_max:
            most = max(self.shares.values(), key=lambda each: each.weight)
            if share.weight + cost >= most.weight:
                most = share
            if not most.segments:
                return  # a single answer larger than all there is room for
            self.evicted += most.segments[0].count
            self._drop_oldest(most)

    def expire(self, now_ns: int) -> None:
        """Drop the segments whose newest answer is older than the retention time."""
        if now_ns < self.expiry_ns:
            return
        self.expiry_ns = NEVER_NS
        for share in list(self.shares.values()):
            while share.segments and now_ns - share.segments[0].newest_ns >= self.retention_ns:
                self._drop_oldest(share)
            if share.segments:
                expiry_ns = share.segments[0].newest_ns + self.retention_ns
                self.expiry_ns = min(self.expiry_ns, expiry_ns)
            else:
                del self.shares[share.caller]

    def _drop_oldest(self, share: Share) -> None:
        gone = share.segments.popleft()
        share.weight -= gone.weight
        self.weight -= gone.weight
        self.size -= gone.size

    def clear(self) -> None:
        """Forget everything."""
        self.shares.clear()
        self.names.clear()
        self.weight = self.size = 0

    def close_all(self, now_ns: int) -> None:
        """Let every segment be as it is from here on: what comes goes into new ones."""
        for share in self.shares.values():
            if share.segments and share.segments[-1].count:
                self._begin(share, now_ns)


def record_of(digest: bytes, rest: bytes) -> bytes:
    """A record: its digest, how long the rest is, and the rest."""
    return digest + len(rest).to_bytes(LENGTH_BYTES, "little") + rest


def records_of(data: bytes) -> Iterator[bytes]:
    """The records that stand one after the other."""
    at = 0
    while at < len(data):
        begin = at + HEAD_BYTES
        end = begin + int.from_bytes(data[at + DIGEST_BYTES : begin], "little")
        yield data[at:end]
        at = end


def weight(record: bytes) -> int:
    """How many keys a record counts as."""
    return -(-(len(record) + OVERHEAD_BYTES) // RECORD_BYTES)


def bits_by(secret: bytes) -> Bits:
    """The hash of digests: BLAKE2b (RFC 7693) with `secret`, of up to 64 bytes, as its key."""
    begun = blake2b(key=secret, digest_size=HASH_BYTES)

    def bits(digest: bytes) -> int:
        hashed = begun.copy()  # a third cheaper than to begin with the secret again
        hashed.update(digest)
        return int.from_bytes(hashed.digest(), "little")

    return bits
