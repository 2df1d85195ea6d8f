"""Facts as bytes and back."""

import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import EXAMPLES
from vcap_es.errors import InvalidFact, LogDamaged, UnknownFact
from vcap_es.events import codec
from vcap_es.events.codec import decode, encode
from vcap_es.events.facts import (
    ApiKeyCreated,
    Definition,
    Fact,
    MetaDefined,
    Spend,
    SpendReported,
    ToppedUp,
    Version,
)
from vcap_es.events.schemas import FACTS, Schema, identity

GOLDEN = [
    each
    for path in sorted((Path(__file__).parent / "golden").glob("v*.json"))
    for each in json.loads(path.read_text())
]


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: type(fact).__name__)
def test_a_fact_comes_back_as_it_was(fact: Fact) -> None:
    """Every example is equal after encoding and decoding, of the same type at every depth."""
    back = decode(encode(fact))
    assert back == fact
    assert repr(back) == repr(fact)


@given(fact=st.one_of([st.from_type(fact) for fact in FACTS.values()]))
def test_whatever_is_encoded_comes_back(fact: Fact) -> None:
    """Any fact either comes back equal, or is refused before a byte is written."""
    try:
        data = encode(fact)
    except InvalidFact:
        return
    assert decode(data) == fact


def test_every_fact_has_an_example() -> None:
    """No fact escapes the tests of this file."""
    assert {type(fact).__name__ for fact in EXAMPLES} == set(FACTS)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["fact"]["type"])
def test_the_bytes_of_every_version_are_read_for_ever(golden: dict[str, Any]) -> None:
    """What any version wrote decodes to the fact that it was."""
    wanted: Fact = msgspec.convert(golden["fact"], type=Fact, builtin_types=())
    assert decode(bytes.fromhex(golden["bytes"])) == wanted


def test_the_golden_bytes_hold_every_example() -> None:
    """What the newest version of each fact writes is among what is kept."""
    kept = {golden["bytes"] for golden in GOLDEN}
    assert kept >= {encode(each).hex() for each in EXAMPLES}
    assert len(kept) == len(GOLDEN)


def test_the_header_is_that_of_single_object_encoding() -> None:
    """Two bytes of marker and the fingerprint of the schema, then the plain Avro body."""
    fact = ToppedUp(cap="ab", number=1, incarnation="c", moved=-65)
    schema = codec._newest["ToppedUp"]
    assert encode(fact) == b"\xc3\x01" + schema.fingerprint + b"\x04ab\x02\x02c\x81\x01"


@pytest.mark.parametrize(
    "moved", [1.0, 1.5, True, "5", None, b"5", 2**63, -(2**63) - 1, 2**64, 10**30]
)
def test_no_amount_is_coerced(moved: Any) -> None:
    """A float, a bool, a text or an int beyond 64 bits is refused, at the top and deep inside."""
    spend = Spend(cap="a", number=1, spent=moved, refunded=0, refused=0, final=False)
    for fact in (
        ToppedUp(cap="a", number=1, incarnation="b", moved=moved),
        SpendReported(incarnation="b", entries=[spend]),
        MetaDefined(cap="a", version=Version(0, moved), definition=Definition(total=1)),
        MetaDefined(cap="a", version=Version(0, 1), definition=Definition(total=moved)),
    ):
        with pytest.raises(InvalidFact, match=type(fact).__name__):
            encode(fact)


@pytest.mark.parametrize("start", [1.0, False, "now", 2**63])
def test_no_instant_is_coerced(start: Any) -> None:
    """An optional integer is an integer or None."""
    definition = Definition(total=1, start=start)
    with pytest.raises(InvalidFact):
        encode(MetaDefined(cap="a", version=Version(0, 1), definition=definition))


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b"bytes"},
        {"key": "\ud800"},
        {"digest": "text"},
        {"role": "god"},
        {"scopes": "1*"},
        {"scopes": [1]},
        {"scopes": None},
        {"expires_at": 1.5},
    ],
    ids=str,
)
def test_values_of_other_types_are_refused(wrong: dict[str, Any]) -> None:
    """Text is text, bytes are bytes, a role is one of the roles."""
    values: dict[str, Any] = {
        "key": "k",
        "digest": b"d",
        "role": "client",
        "scopes": [],
        "expires_at": None,
    }
    with pytest.raises(InvalidFact):
        encode(ApiKeyCreated(**{**values, **wrong}))


@pytest.mark.parametrize("wrong", [None, 1, {"a": 1}, {1: "a"}, [("a", "b")]], ids=str)
def test_labels_are_texts(wrong: Any) -> None:
    """A map takes texts for texts only."""
    definition = Definition(total=1, labels=wrong)
    with pytest.raises(InvalidFact):
        encode(MetaDefined(cap="a", version=Version(0, 1), definition=definition))


@pytest.mark.parametrize("fact", [Version(0, 1), Definition(total=1), None, 7, "ToppedUp"], ids=str)
def test_only_facts_are_encoded(fact: Any) -> None:
    """What is no fact, though it may be part of one, is refused."""
    with pytest.raises(InvalidFact, match="not a fact"):
        encode(fact)


def test_an_unknown_fingerprint_asks_for_an_upgrade() -> None:
    """The message names the fingerprint and what to do."""
    with pytest.raises(UnknownFact, match=r"0102030405060708.*upgrade"):
        decode(b"\xc3\x01" + bytes(range(1, 9)) + b"body")


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: type(fact).__name__)
def test_a_cut_fact_is_damaged(fact: Fact) -> None:
    """Cut anywhere or with a byte more, the bytes are no fact."""
    data = encode(fact)
    for damaged in [*(data[:end] for end in range(len(data))), data + b"\0"]:
        with pytest.raises(LogDamaged):
            decode(damaged)


@given(st.sampled_from(EXAMPLES), st.integers(min_value=0), st.integers(1, 255))
def test_a_flipped_byte_never_raises_anything_else(fact: Fact, place: int, flip: int) -> None:
    """Damage is told, or gives some fact (which the chain finds); it never escapes otherwise."""
    data = bytearray(encode(fact))
    data[place % len(data)] ^= flip
    with suppress(LogDamaged, UnknownFact):
        assert type(decode(bytes(data))) in FACTS.values()


def test_an_older_schema_is_resolved_to_the_current_one() -> None:
    """Fields that the old version had not take their defaults, and those it had are kept."""
    # Given a version of the definition without most of its fields
    current = codec._newest["TemplateDefined"]
    old_definition = {
        "type": "record",
        "name": "Definition",
        "fields": [{"name": "gone", "type": "string"}, {"name": "total", "type": "int"}],
    }
    parsed = parse_schema(
        {
            "type": "record",
            "name": "TemplateDefined",
            "namespace": "vcap_es.meta",
            "fields": [
                {"name": "definition", "type": old_definition},
                {"name": "match", "type": "string"},
            ],
        }
    )
    assert isinstance(parsed, dict)
    old = Schema(fact="TemplateDefined", number=0, fingerprint=identity(parsed), parsed=parsed)
    stream = BytesIO()
    stream.write(codec.MARKER + old.fingerprint)
    schemaless_writer(stream, parsed, {"definition": {"gone": "x", "total": 7}, "match": "a*"})
    # When it is read by today's version
    fact = codec._reader(old, current)(stream.getvalue())
    # Then it is a fact of today
    assert fact == FACTS["TemplateDefined"](match="a*", definition=Definition(total=7))  # type: ignore[call-arg]  # a fact found by its name
