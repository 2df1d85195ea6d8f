"""The ledger of answered keys: found again, evicted by shares, dropped in time, and small."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from vcap_es.components.volumecap_server.keys.ledger import (
    BUCKET_WEIGHT,
    DIGEST_BYTES,
    RECORD_BYTES,
    KeyLedger,
    bits_by,
    record_of,
    records_of,
    weight,
)
from vcap_es.components.volumecap_server.keys.records import (
    decode_keys,
    encode_keys,
    read_keys,
    whole_ledger,
)
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.units import MS

SECRET = b"known to no client"
LIMITS = Limits(keys_max=64, key_retention_ms=4000)


def digest(key: object) -> bytes:
    """What a key is found by."""
    return sha256(repr(key).encode()).digest()[:DIGEST_BYTES]


def record(key: object, size: int = 40) -> bytes:
    """The record of a key."""
    return record_of(digest(key), repr(key).encode().ljust(size, b"."))


def said(ledger: KeyLedger, caller: str, key: object) -> str | None:
    """What is known of a key."""
    found = ledger.find(caller, digest(key))
    return None if found is None else found.decode().rstrip(".")


def again(ledger: KeyLedger, now_ns: int, *, boot: str = "b") -> KeyLedger:
    """What is read of a ledger that was written."""
    ledger.close_all(now_ns)
    pieces = whole_ledger(ledger, boot="b", now_ns=now_ns)
    entries = [each for piece in pieces for each in decode_keys(encode_keys(piece))]
    read = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    read_keys(entries, read, boot=boot, now_ns=now_ns)
    return read


def test_a_digest_inside_another_record_is_no_record() -> None:
    """Keys are searched for until one has the digest `STBSSgjGpITk`, which is a cap's name too."""
    # Given a record that has the digest of another key in what it says
    key = "67076577"
    wanted = sha256(key.encode()).digest()[:DIGEST_BYTES]
    ledger = KeyLedger(SECRET)
    ledger.add("me", record_of(digest("batch"), b"says " + wanted + bytes(200)), 0)
    # Then that key is not known
    assert ledger.find("me", wanted) is None
    # And it is found where it has a record, before or after the one that only names it
    ledger.add("me", record_of(wanted, b"its own"), 0)
    ledger.add("me", record_of(digest("other"), wanted), 0)
    assert ledger.find("me", wanted) == b"its own"


def test_everything_is_found_while_a_segment_grows() -> None:
    """Buckets are split one after the other, and nothing is lost or doubled by it."""
    ledger = KeyLedger(SECRET)
    for key in range(3000):
        ledger.add("me", record(key), 0)
        if key % 500 == 0:
            assert all(said(ledger, "me", each) == repr(each) for each in range(key + 1))
    assert ledger.count == 3000
    segment = ledger.shares["me"].segments[0]
    assert sorted(each for piece in segment.pieces(1000) for each in records_of(piece)) == sorted(
        record(key) for key in range(3000)
    )
    assert said(ledger, "me", "another") is None
    assert said(ledger, "other", 1) is None


def longest_bucket(ledger: KeyLedger) -> int:
    """What the heaviest bucket weighs, in keys."""
    segments = [each for share in ledger.shares.values() for each in share.segments]
    buckets = [bucket for each in segments for bucket in each.pieces(1)]
    return max(sum(map(weight, records_of(bucket))) for bucket in buckets)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["little", "big"]),
    st.binary(min_size=1, max_size=64),
)
@settings(max_examples=20)
def test_keys_that_share_bits_of_their_digests_spread_over_the_buckets(
    bits: int, order: Literal["little", "big"], secret: bytes
) -> None:
    """A client can try keys until their digests begin, or end, alike."""
    # Given digests that have 32 bits in common
    shared = bits.to_bytes(4, order)
    rests = [sha256(repr(each).encode()).digest()[4:DIGEST_BYTES] for each in range(600)]
    digests = [shared + each if order == "little" else each + shared for each in rests]
    ledger = KeyLedger(secret)
    # When
    for each in digests:
        ledger.add("me", record_of(each, b"answer"), 0)
    # Then
    assert longest_bucket(ledger) <= 5 * BUCKET_WEIGHT
    assert all(ledger.find("me", each) == b"answer" for each in digests)


def test_a_secret_known_too_late_tells_nothing_of_another_one() -> None:
    """Keys that share a bucket of one ledger spread in another, as after the next start."""
    # Given keys that fall into one bucket where the secret is known
    known = bits_by(b"of the first start")
    digests = [each for each in map(digest, range(30_000)) if known(each) % 64 == 0]
    assert len(digests) > 20 * BUCKET_WEIGHT
    ledger = KeyLedger(b"of the next start")
    # When
    for each in digests:
        ledger.add("me", record_of(each, b"answer"), 0)
    # Then
    assert longest_bucket(ledger) <= 5 * BUCKET_WEIGHT


def test_long_answers_do_not_share_a_bucket_with_many_keys() -> None:
    """Answers of batches are a thousand times as long: looking a key up must not read them all."""
    # Given
    ledger, size = KeyLedger(SECRET), 100 * RECORD_BYTES
    # When
    for key in range(300):
        ledger.add("me", record(key, size), 0)
    # Then
    assert longest_bucket(ledger) <= 10 * weight(record(0, size))
    assert all(said(ledger, "me", each) == repr(each) for each in range(300))


def test_the_newest_answer_of_a_key_counts() -> None:
    """Where a key was answered twice, as its first interval was closed, the second one is told."""
    ledger = KeyLedger(SECRET)
    ledger.add("me", record_of(digest("k"), b"first"), 0)
    ledger.add("me", record_of(digest("k"), b"second"), 0)
    assert said(ledger, "me", "k") == "second"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300)), max_size=400))
def test_who_has_less_than_an_equal_part_loses_nothing(adds: list[tuple[str, int]]) -> None:
    """The bound holds after every answer, and only the largest share is ever evicted from."""
    ledger = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    had: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for key, (caller, size) in enumerate(adds):
        entry = record(key, size)
        ledger.add(caller, entry, 0)
        had[caller].append(key)
        assert ledger.weight <= LIMITS.keys_max
        assert ledger.weight == sum(each.weight for each in ledger.shares.values())
        for each, keys in had.items():
            if sum(weight(record(k, adds[k][1])) for k in keys) <= LIMITS.keys_max // 3:
                assert all(said(ledger, each, k) == repr(k) for k in keys)


def test_the_newest_answers_stay_when_the_oldest_are_evicted() -> None:
    """Of a caller that floods, a good part of what there is room for is always known."""
    ledger = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    for key in range(1000):
        ledger.add("me", record(key), 0)
        newest = range(max(0, key - LIMITS.keys_max * 3 // 4), key + 1)
        assert all(said(ledger, "me", each) == repr(each) for each in newest)
    assert ledger.evicted == 1000 - ledger.count


def test_what_is_older_than_the_retention_time_is_dropped() -> None:
    """Not before, and at most a stretch later; a caller without answers leaves nothing."""
    ledger = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    for key in range(20):
        ledger.add("me", record(key), key * 200 * MS)
    ledger.expire(5000 * MS)
    assert [each for each in range(20) if said(ledger, "me", each) is None] == [0, 1, 2, 3, 4]
    ledger.expire(9000 * MS)
    assert not ledger.shares
    assert (ledger.weight, ledger.size) == (0, 0)


def test_a_ledger_that_is_written_is_read_again() -> None:
    """Answers, names and ages: what would be dropped in a second is dropped in a second."""
    # Given
    ledger = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    name = ledger.name(("c", 3))
    random = Random(1)
    for key in range(40):
        ledger.add(random.choice("ab"), record(key), key * 100 * MS)
    # When
    read = again(ledger, 4000 * MS)
    # Then
    assert read.names == {name: ("c", 3)}
    assert read.name(("d", 0)) != name
    for caller in "ab":
        assert [said(read, caller, each) for each in range(40)] == [
            said(ledger, caller, each) for each in range(40)
        ]
    read.expire(5500 * MS)
    ledger.expire(5500 * MS)
    assert 0 < read.count == ledger.count < 40


def test_after_the_machine_was_lost_answers_count_as_new() -> None:
    """Its clock began anew: what is kept is kept for the retention time from here on."""
    ledger = KeyLedger(SECRET, LIMITS.keys_max, LIMITS.key_retention_ms)
    ledger.add("me", record("k"), 9_000_000 * MS)
    read = again(ledger, 9_000_000 * MS, boot="another")
    assert said(read, "me", "k") == repr("k")
    read.expire(9_003_900 * MS)
    assert read.count == 1


def test_a_key_costs_at_most_96_bytes_in_memory_and_in_the_journal() -> None:
    """Measured, of a million answers to consumes of a large cap, in a process of their own."""
    # Given
    script = """
from hashlib import sha256
from vcap_es.components.volumecap_server.keys.ledger import DIGEST_BYTES, KeyLedger, record_of
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.components.volumecap_server.keys.packed_answers import pack
from vcap_es.components.volumecap_server.keys.records import KeyAnswered, encode_keys
from vcap_es.adapters.storage.framing import framed

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

ledger, written, keys = KeyLedger(bytes(16)), 0, 1_000_000
before = resident()
for key in range(keys):
    answer = Consumed(cap="c", origin="o", last=2**40 + key, consumed=1, remaining=10**12 - key,
                      total=10**12, resets_at=1_767_268_800_000_000)
    mark = key.to_bytes(8, "little")
    record = record_of(sha256(mark).digest()[:DIGEST_BYTES], mark + pack(answer, 1000, "c", {}))
    ledger.add("me", record, key)
    written += len(framed(encode_keys([KeyAnswered(1000, record)])))
assert ledger.count == keys
print((resident() - before) / keys, written / keys)
"""
    # When
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    # Then
    memory, journal = map(float, done.stdout.split())
    assert 30 < memory <= RECORD_BYTES
    assert 30 < journal <= RECORD_BYTES
