"""Bodies of requests: exact integers, no key twice, nothing unknown."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.adapters.http.request_bodies import (
    ITEMS_MAX,
    LIFETIME_MS_MAX,
    ItemBody,
    cancel_command,
    commit_command,
    consume_command,
    consume_several_command,
    hold_command,
    parse,
    refund_command,
)
from vcap_es.components.messages.client import Cancel, Commit, Consume, ConsumeEach, Hold, Refund
from vcap_es.errors import RequestRefused

LARGEST = 2**63 - 1

GOOD = [
    ("1", 1),
    (" 7 ", 7),
    (str(2**53 + 1), 2**53 + 1),
    (str(10**18), 10**18),
    (str(LARGEST), LARGEST),
]

BAD_AMOUNTS = [
    "0",
    "-0",
    "-1",
    str(LARGEST + 1),
    str(2**64),
    "1" + "0" * 400,
    "true",
    "false",
    "null",
    "0x1",
    "1.0",
    "1.5",
    "1e3",
    "1E0",
    '"1"',
    "[1]",
    "{}",
]

NO_JSON = ["NaN", "Infinity", "-Infinity", "+1", "01", "1_000", "", "1,", "\uff11"]


def bodies_with(amount: str) -> list[tuple[str, bytes]]:
    """The amount at every place of the API where one is read."""
    one = f'{{"amount": {amount}}}'
    item = f'{{"cap": "a", "amount": {amount}}}'
    return [
        ("consume", one.encode()),
        ("consume", f'{{"min": {amount}, "max": {LARGEST}}}'.encode()),
        ("consume", f'{{"min": 1, "max": {amount}}}'.encode()),
        ("several", f'{{"items": [{item}]}}'.encode()),
        ("several", f'{{"items": [{item}], "atomic": false}}'.encode()),
        ("hold", f'{{"cap": "a", "amount": {amount}, "lifetime_ms": 1}}'.encode()),
        ("commit", one.encode()),
        ("refund", f'{{"id": "i.1.a.0-1", "amount": {amount}}}'.encode()),
    ]


def command(call: str, body: bytes) -> object:
    """The command of a call."""
    match call:
        case "consume":
            return consume_command("a", body)
        case "several":
            return consume_several_command(body)
        case "hold":
            return hold_command(body)
        case "commit":
            return commit_command("i.1.a.0-1", body)
        case _:
            return refund_command(body)


def refusal(call: str, body: bytes) -> str:
    """The code with which the body is refused."""
    with pytest.raises(RequestRefused) as caught:
        command(call, body)
    return caught.value.code


@pytest.mark.parametrize(("text", "amount"), GOOD)
def test_an_amount_is_exact(text: str, amount: int) -> None:
    """Every amount of the range arrives as it was written, beyond 2**53 too."""
    for call, body in bodies_with(text):
        assert f"={amount}" in repr(command(call, body))


@pytest.mark.parametrize("text", BAD_AMOUNTS)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """A zero, a negative, a too large one, a bool, a float and a text are no amounts anywhere."""
    for call, body in bodies_with(text):
        assert refusal(call, body) == "invalid_amount", body


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_refused(text: str) -> None:
    """What JSON does not know as a number is no body at all."""
    for call, body in bodies_with(text):
        assert refusal(call, body) == "bad_request", body


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("consume", b'{"amount": 1, "amount": 2}'),
        ("consume", b'{"amount": 2, "amount": 2}'),
        ("consume", b'{"amount": 1, "\\u0061mount": 1}'),
        ("consume", b'{"min": 1, "max": 2, "max": 3}'),
        ("several", b'{"items": [{"cap": "a", "cap": "b", "amount": 1}]}'),
        (
            "several",
            b'{"items": [{"cap": "a", "amount": 1}], "items": [{"cap": "b", "amount": 1}]}',
        ),
        ("several", b'{"atomic": true, "items": [{"cap": "a", "amount": 1}], "atomic": false}'),
        ("hold", b'{"cap": "a", "amount": 1, "lifetime_ms": 1, "lifetime_ms": 2}'),
        ("commit", b'{"amount": 1, "amount": 1}'),
        ("refund", b'{"id": "i", "id": "j"}'),
    ],
)
def test_a_key_twice_is_refused(call: str, body: bytes) -> None:
    """A key that is there twice is refused, escaped or not, at every depth."""
    with pytest.raises(RequestRefused, match="twice"):
        command(call, body)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("consume", b""),
        ("consume", b"{}"),
        ("consume", b"[]"),
        ("consume", b"null"),
        ("consume", b"7"),
        ("consume", b'{"amount": 1} {}'),
        ("consume", b'\xef\xbb\xbf{"amount": 1}'),
        ("consume", b'{"amount": 1, "note": "hi"}'),
        ("consume", b'{"Amount": 1}'),
        ("consume", b'{"min": 1}'),
        ("consume", b'{"max": 1}'),
        ("consume", b'{"amount": 1, "min": 1, "max": 1}'),
        ("consume", b'{"amount": 1, "\xff": 1}'),
        ("consume", b'{"a":' * 100_000),
        ("consume", b"[" * 100_000),
        ("several", b'{"items": []}'),
        ("several", b'{"items": [{"cap": "a"}]}'),
        ("several", b'{"items": [{"amount": 1}]}'),
        ("several", b'{"items": [{"cap": "", "amount": 1}]}'),
        ("several", b'{"items": [{"cap": "a b", "amount": 1}]}'),
        ("several", b'{"items": [{"cap": "a", "amount": 1}, {"cap": "b\\nc", "amount": 1}]}'),
        ("several", b'{"items": [{"cap": "' + b"a" * 129 + b'", "amount": 1}]}'),
        ("several", b'{"items": [{"cap": "a", "amount": 1}, {"cap": "a", "amount": 1}]}'),
        ("several", b'{"items": [{"cap": "a", "min": 1, "max": 2}]}'),
        ("several", b'{"items": [{"cap": "a", "amount": 1}], "atomic": 0}'),
        ("hold", b'{"cap": "a", "amount": 1}'),
        ("hold", b'{"cap": "a b", "amount": 1, "lifetime_ms": 1}'),
        ("hold", b'{"cap": "", "amount": 1, "lifetime_ms": 1}'),
        ("hold", b'{"cap": "a\\n", "amount": 1, "lifetime_ms": 1}'),
        ("hold", b'{"cap": "a", "amount": 1, "lifetime_ms": 0}'),
        ("hold", f'{{"cap": "a", "amount": 1, "lifetime_ms": {LIFETIME_MS_MAX + 1}}}'.encode()),
        ("refund", b"{}"),
        ("refund", b'{"id": ""}'),
        ("refund", b'{"id": 7}'),
    ],
)
def test_a_body_of_another_shape_is_refused(call: str, body: bytes) -> None:
    """What is missing, unknown, too deep or of another type is refused with words."""
    assert refusal(call, body) == "bad_request"


def test_a_range_is_read() -> None:
    """From `min` to `max` is asked; the other way round is refused."""
    assert consume_command("a", b'{"min": 2, "max": 9}') == Consume(cap="a", minimum=2, maximum=9)
    assert refusal("consume", b'{"min": 9, "max": 2}') == "invalid_amount"


def test_a_batch_may_repeat_a_cap_and_ask_ranges() -> None:
    """Independent consumes may be of one cap, and as much as there is."""
    body = (
        b'{"items": [{"cap": "a", "amount": 1}, {"cap": "a", "min": 1, "max": 2}], "atomic": false}'
    )
    assert consume_several_command(body) == ConsumeEach(
        items=[Consume(cap="a", minimum=1, maximum=1), Consume(cap="a", minimum=1, maximum=2)]
    )


def test_a_batch_is_bounded() -> None:
    """The largest batch is taken; one item more is refused."""
    items = [{"cap": f"c{index}", "amount": 1} for index in range(ITEMS_MAX + 1)]
    largest = consume_several_command(json.dumps({"items": items[:-1]}).encode())
    assert len(largest.items) == ITEMS_MAX
    assert refusal("several", json.dumps({"items": items}).encode()) == "bad_request"


def test_calls_on_a_hold_need_no_body() -> None:
    """A commit and a cancel without a body mean all of the hold."""
    assert commit_command("i", b"") == commit_command("i", b"{}") == Commit(id="i")
    assert cancel_command("i", b"") == cancel_command("i", b" { } ") == Cancel(id="i")
    assert hold_command(b'{"cap":"a","amount":1,"lifetime_ms":5}') == Hold(
        cap="a", amount=1, lifetime_ms=5
    )
    assert refund_command(b'{"id":"i"}') == Refund(id="i")
    with pytest.raises(RequestRefused):
        cancel_command("i", b'{"amount": 1}')


@given(st.lists(st.sampled_from(["cap", "amount", "min", "max"]), max_size=6), st.data())
def test_no_spelling_hides_a_repeated_key(names: list[str], data: st.DataObject) -> None:
    """Any list of keys is accepted exactly where none is there twice, however they are escaped."""

    # Given an object with these keys, some of them written with an escape
    def spelled(name: str) -> str:
        at = data.draw(st.integers(-1, len(name) - 1))
        return name if at < 0 else f"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"

    pairs = [
        f'"{spelled(name)}":{"1" if name != "cap" else chr(34) + "c" + chr(34)}' for name in names
    ]
    body = ("{" + ",".join(pairs) + "}").encode()
    # When it is parsed
    try:
        parse(body, msgspec.json.Decoder(ItemBody))
        accepted = True
    except RequestRefused:
        accepted = False
    # Then
    assert accepted == ("cap" in names and len(set(names)) == len(names))
