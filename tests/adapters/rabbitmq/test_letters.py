"""Letters between data centres: opened only by whom they are for, and only once."""

from collections.abc import Callable

import pytest
from msgspec import msgpack

from vcap_es.adapters.rabbitmq.letters import (
    BYTES_MAX,
    MESSAGES_MAX,
    WINDOW,
    Numbers,
    Reader,
    Writer,
)
from vcap_es.components.messages.centre import BetweenCentres, Inquiry, Sender
from vcap_es.components.messages.encoding import encode
from vcap_es.errors import LetterRefused

SECRETS = {"north": ("n" * 32,), "west": ("w" * 32, "old" * 11)}
MESSAGES: list[BetweenCentres] = [Inquiry(cap="a"), Inquiry(cap="b")]


def writer(source: str = "north", target: str = "south", secret: str = "n" * 32) -> Writer:
    """Who writes from one data centre to another."""
    return Writer(source, target, (secret,), epoch=3, cluster="c")


def letter(by: Writer | None = None) -> bytes:
    """A letter with the messages."""
    return (by or writer()).write([*map(encode, MESSAGES)], to="d")


def reader() -> Reader:
    """Who opens the letters to the south."""
    return Reader("south", SECRETS)


def reason(data: bytes, by: Reader | None = None) -> str:
    """Why a letter is not opened."""
    with pytest.raises(LetterRefused) as refused:
        (by or reader()).open(data)
    return refused.value.reason


def changed(place: int) -> Callable[[bytes], bytes]:
    """A letter of which one bit is another."""

    def change(data: bytes) -> bytes:
        there = place % len(data)
        return data[:there] + bytes([data[there] ^ 1]) + data[there + 1 :]

    return change


def outside(place: int, value: object) -> Callable[[bytes], bytes]:
    """A letter that says something else on its outside."""

    def change(data: bytes) -> bytes:
        parts = msgpack.decode(data)
        parts[place] = value
        return msgpack.encode(parts)

    return change


def test_a_letter_says_what_was_written() -> None:
    """Who wrote it, and every message in order."""
    opened = reader().open(letter())
    assert (opened.sender, opened.messages) == (Sender("north", "c", "d"), MESSAGES)


def test_a_secret_is_changed_without_a_pause() -> None:
    """Of two secrets the first signs, and both open."""
    for secret in SECRETS["west"]:
        assert reader().open(letter(writer("west", secret=secret))).sender.centre == "west"
    by = Writer("west", "south", SECRETS["west"], epoch=1, cluster="c")
    assert reason(letter(by), Reader("south", {"west": SECRETS["west"][1:]})) == "wrong signature"


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda _: b"", "no letter"),
        (lambda _: b"hello", "no letter"),
        (lambda data: data[:-1], "no letter"),
        (lambda data: data + b"\0" * BYTES_MAX, "too large"),
        (changed(-1), "wrong signature"),
        (changed(30), "wrong signature"),
        (outside(0, 2), "other version"),
        (outside(1, "west"), "wrong signature"),
        (outside(1, "nobody"), "unknown source"),
        (outside(2, b"\0" * 32), "wrong signature"),
    ],
)
def test_a_forged_letter_is_refused(forge: Callable[[bytes], bytes], why: str) -> None:
    """Whatever is changed of it."""
    assert reason(forge(letter())) == why


def test_every_flipped_bit_is_noticed() -> None:
    """No byte of a letter can be changed."""
    data = letter()
    for place in range(len(data)):
        with pytest.raises(LetterRefused):
            reader().open(changed(place)(data))


def test_a_letter_for_somebody_else_is_refused() -> None:
    """Swapped ways, and our own letters sent back to us."""
    assert reason(letter(writer(target="west"))) == "wrong way"
    mine = letter(Writer("south", "north", ("n" * 32,), epoch=3, cluster="c"))
    assert reason(mine) == "unknown source"
    assert reason(outside(1, "north")(mine)) == "wrong way"


def test_what_is_signed_and_not_understood_is_refused() -> None:
    """A message of a kind that this version does not know, and too many of them."""
    assert reason(writer().write([msgpack.encode({"type": "Unheard"})], "d")) == "not understood"
    many = writer().write([encode(MESSAGES[0])] * (MESSAGES_MAX + 1), "d")
    assert reason(many) == "too large"


def test_a_letter_is_opened_once() -> None:
    """A copy is refused, unless the broker itself says that it delivers it again."""
    by, data = reader(), letter()
    by.open(data)
    assert reason(data, by) == "repeated"
    assert by.open(data, is_redelivered=True).messages == MESSAGES


def test_letters_of_one_epoch_may_come_in_any_order() -> None:
    """Each is opened once; those of a later epoch do not shut out those of an earlier one."""
    by, early = reader(), writer()
    late = Writer("north", "south", SECRETS["north"], epoch=4, cluster="c")
    letters = [letter(early) for _ in range(5)] + [letter(late) for _ in range(5)]
    for data in reversed(letters):
        assert by.open(data).sender.centre == "north"
    assert {reason(data, by) for data in letters} == {"repeated"}


def test_another_log_counts_anew() -> None:
    """Its first letters are not taken for copies of those of the log before it."""
    by, before = reader(), writer()
    for _ in range(3):
        by.open(letter(before))
    anew = Writer("north", "south", SECRETS["north"], epoch=1, cluster="other")
    first = letter(anew)
    assert by.open(first).sender.cluster == "other"
    assert reason(first, by) == "repeated"


def test_what_is_remembered_is_bounded() -> None:
    """A number that is too far behind counts as seen: better told again than opened twice."""
    numbers = Numbers()
    assert all(numbers.is_new(each) for each in range(1, WINDOW + 10))
    assert len(numbers) <= WINDOW
    assert not numbers.is_new(3)
    assert not numbers.is_new(WINDOW + 9)
    assert numbers.is_new(WINDOW + 10)
    by = reader()
    for epoch in (5, 6, 7, 8):
        by.open(letter(Writer("north", "south", SECRETS["north"], epoch, "c")))
    assert reason(letter(Writer("north", "south", SECRETS["north"], 4, "c")), by) == "repeated"
