"""The hash chain."""

import asyncio
from hashlib import sha256

import pytest
from msgspec.structs import replace

from tests.support.drafts import drafts
from vcap_es.errors import LogDamaged
from vcap_es.events.chain import GENESIS, Stored, canonical, link, verify
from vcap_es.events.logs.memory import MemoryLog


def stored(amount: int = 6) -> list[Stored]:
    """So many events as a log keeps them."""

    async def made() -> list[Stored]:
        log = MemoryLog()
        await log.append(drafts(amount), epoch=1)
        return await log.read_stored()

    return asyncio.run(made())


def test_the_canonical_bytes_never_change() -> None:
    """The layout, byte by byte: every log there is depends on it."""
    covered = canonical(258, 3, bytes(range(16)), -2, "ams", "é", "", b"\xc3\x01fact")
    assert covered.hex() == (
        "01"
        "0000000000000102"
        "0000000000000003"
        "000102030405060708090a0b0c0d0e0f"
        "fffffffffffffffe"
        "00000003" "00000002" "00000000" "00000006"
        "616d73" "c3a9" "c30166616374"
    )  # fmt: skip
    assert link(GENESIS, covered) == sha256(bytes(32) + covered).digest()


def test_neighbours_do_not_flow_into_each_other() -> None:
    """Moving a letter from one text to the next makes other bytes."""
    one = canonical(1, 1, bytes(16), 0, "ab", "c", "", b"")
    two = canonical(1, 1, bytes(16), 0, "a", "bc", "", b"")
    assert one != two


def test_a_whole_chain_gives_its_last_link() -> None:
    """Also in pieces, each from the link before; nothing at all gives the link it began with."""
    events = stored()
    assert verify(events) == events[-1].link
    assert verify(events[2:], verify(events[:2])) == events[-1].link
    assert verify([]) == GENESIS


@pytest.mark.parametrize(
    "change",
    [
        {"position": 9},
        {"position": -1},
        {"epoch": 2},
        {"event_id": bytes(16)},
        {"recorded_at": 0},
        {"recorded_at": 2**63},
        {"dc": "fra"},
        {"actor": ""},
        {"correlation": "x"},
        {"correlation": None},
        {"fact": b""},
        {"link": bytes(32)},
    ],
    ids=str,
)
def test_a_changed_event_is_found(change: dict[str, object]) -> None:
    """Whatever field is changed, the first broken position is named."""
    events = stored()
    events[3] = replace(events[3], **change)
    with pytest.raises(LogDamaged, match=f"position {events[3].position}:"):
        verify(events)


def test_dropped_inserted_and_moved_events_are_found() -> None:
    """The event after a gap, the second of a pair and the first out of order break the chain."""
    events = stored()
    for broken, position in (
        (events[:2] + events[3:], 4),
        ([*events[:3], *events[2:]], 3),
        ([*events[:2], events[3], events[2], *events[4:]], 4),
        (events[1:], 2),
    ):
        with pytest.raises(LogDamaged, match=f"position {position}:"):
            verify(broken)
