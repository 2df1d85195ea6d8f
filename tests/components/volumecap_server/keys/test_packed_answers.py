"""Packed answers: the same when unpacked, in few bytes, and only while their interval is open."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Outcome,
    Refunded,
    Refused,
    Settled,
)
from vcap_es.components.messages.refusals import capped
from vcap_es.components.volumecap_server.keys.ledger import (
    DIGEST_BYTES,
    OVERHEAD_BYTES,
    RECORD_BYTES,
    Place,
    record_of,
)
from vcap_es.components.volumecap_server.keys.packed_answers import id_prefix, pack, unpack

ME, CAP, NAME = "1" * 32, "c" * 128, 2**31
PLACE: Place = (CAP, 7)
ORIGIN = id_prefix(ME, PLACE)
MOST = 2**63 - 1
amounts = st.integers(0, MOST)


def consumed(last: int, amount: int, remaining: int, total: int) -> Consumed:
    """A yes of the one interval there is."""
    return Consumed(
        cap=CAP,
        origin=ORIGIN,
        last=last,
        consumed=amount,
        remaining=remaining,
        total=total,
        resets_at=1_767_268_800_000_000,
    )


singles: dict[str, Callable[[int, int, int, int], Outcome]] = {
    "consumed": consumed,
    "held": lambda a, b, c, d: Held(
        id=f"{ORIGIN}{a}-{b}",
        cap=CAP,
        held=b - a,
        remaining=c,
        total=d,
        resets_at=1_767_268_800_000_000,
        lifetime_ms=3_600_000,
    ),
    "settled": lambda a, b, c, d: Settled(
        id=f"{ORIGIN}{a}-{b}", cap=CAP, committed=c, refunded=d, short=c
    ),
    "settled above": lambda a, b, c, d: Settled(
        id=f"{ORIGIN}{a}-{b}", cap=CAP, committed=c, refunded=0, above=f"{ORIGIN}{d}-{d + 1}"
    ),
    "shadow held": lambda a, b, c, d: Held(
        id=f"{ORIGIN}shadow-{a}",
        cap=CAP,
        held=a,
        remaining=b,
        total=c,
        resets_at=d,
        lifetime_ms=5,
        shadow="capped",
    ),
    "shadow settled": lambda a, b, c, _: Settled(
        id=f"{ORIGIN}{a}-{b}", cap=CAP, committed=c, refunded=0, shadow="capped"
    ),
    "refunded": lambda a, b, c, d: Refunded(
        id=f"{ORIGIN}{a}-{b}", cap=CAP, refunded=c, refunded_in_all=d
    ),
    "capped": lambda a, b, _, __: capped(CAP, a, b),
    "other words": lambda *_: Refused(code="capped", cap=CAP, detail="no"),
}


def packed(outcome: Outcome) -> bytes:
    """The outcome, packed."""
    batch = isinstance(outcome, ConsumedAll | ConsumedEach)
    return pack(outcome, NAME, CAP, {ORIGIN: PLACE} if batch else {})


def unpacked(data: bytes, *, is_open: bool = True) -> Outcome | None:
    """What it says while its interval is open, or not."""
    names = {NAME: PLACE} if is_open else {}
    answer = unpack(data, ME, names.get, lambda _: is_open)
    return None if answer is None else answer[0]


@pytest.mark.parametrize("kind", singles)
@given(amounts, amounts, amounts, amounts)
def test_an_answer_is_the_same_again(kind: str, a: int, b: int, c: int, d: int) -> None:
    """Whatever it says, up to the largest amounts; where its interval is closed it says nothing."""
    outcome = singles[kind](a, b, c, d)
    assert unpacked(packed(outcome)) == outcome
    assert unpacked(packed(outcome), is_open=False) is None


@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=5))
def test_a_batch_is_the_same_again(spans: list[tuple[int, int]]) -> None:
    """With yeses, refusals and what a shadow cap said."""
    taken = [consumed(last, amount, amount, last) for last, amount in spans]
    shadow = Consumed(
        cap=CAP,
        origin=ORIGIN,
        last=3,
        consumed=3,
        remaining=0,
        total=5,
        resets_at=9,
        shadow="capped",
    )
    refused = Refused(code="unavailable", cap="d", detail="why", retry_after_ms=5)
    for outcome in (ConsumedAll(items=[*taken, shadow]), ConsumedEach(items=[refused, *taken])):
        assert unpacked(packed(outcome)) == outcome
        assert unpacked(packed(outcome), is_open=False) is None


@pytest.mark.parametrize("kind", ["consumed", "held", "settled", "refunded", "capped"])
def test_the_largest_answer_of_one_interval_counts_as_one_key(kind: str) -> None:
    """Amounts at their bounds, and the longest id of a cap, cost no more than a key may."""
    outcome = singles[kind](MOST - 1, MOST, MOST, MOST)
    record = record_of(b"d" * DIGEST_BYTES, b"m" * 8 + packed(outcome))
    assert len(record) + OVERHEAD_BYTES <= RECORD_BYTES


def test_answers_from_before_are_understood() -> None:
    """What was kept when no commit had units of its own above its hold, and no shadow yes an id."""
    settled = unpacked(msgspec.msgpack.encode([3, NAME, 5, 3, 4, 0, 1]))
    assert settled == Settled(id=f"{ORIGIN}2-5", cap=CAP, committed=4, refunded=0, short=1)
    batch = unpacked(msgspec.msgpack.encode([7, True, [PLACE], [[6, CAP, 3, 5, 9, "capped"]]]))
    assert isinstance(batch, ConsumedAll)
    assert [(each.consumed, each.shadow) for each in batch.items] == [(3, "capped")]
