"""Avro's rules of schema resolution."""

from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.utils import generate_many
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.events.compatibility import Level, findings, unreadable


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    """A record schema."""
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    """A field of a record schema."""
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    """An enum schema."""
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F") -> dict[str, Any]:
    """A schema of so many bytes."""
    return {"type": "fixed", "name": name, "size": size}


A, B = field("a", "long"), field("b", "string")
CHAIN = record(A, field("next", ["null", "R"], default=None))

READABLE: dict[str, tuple[Any, Any]] = {  # reader, writer
    "the same": (record(A, B), record(A, B)),
    "other order": (record(B, A), record(A, B)),
    "a field went": (record(A), record(A, B)),
    "a field came with a default": (record(A, {**B, "default": ""}), record(A)),
    "a default of null": (record(A, field("b", ["null", "long"], default=None)), record(A)),
    "a field has a new name": (record(field("c", "long", aliases=["a"])), record(A)),
    "a record has a new name": (record(A, name="S", aliases=["R"]), record(A)),
    "another namespace": (record(A, namespace="x"), record(A, namespace="y")),
    "int to long": ("long", "int"),
    "long to double": ("double", "long"),
    "bytes to string": ("string", "bytes"),
    "a union got wider": (["null", "long", "string"], ["null", "long"]),
    "a plain type became a union": (["null", "long"], "long"),
    "a promotion into a union": (["null", "double"], "int"),
    "a union of one became plain": ("long", ["long"]),
    "a union of two that both fit": ("double", ["int", "long"]),
    "a symbol came": (enum("x", "y"), enum("x")),
    "a symbol went, with default": (enum("x", default="x"), enum("x", "y")),
    "fixed": (fixed(4), fixed(4)),
    "items promoted": ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
    "values promoted": ({"type": "map", "values": "double"}, {"type": "map", "values": "long"}),
    "a type that holds itself": (CHAIN, CHAIN),
}

UNREADABLE: dict[str, tuple[Any, Any, str]] = {  # reader, writer, the place told
    "a field came without default": (record(A, B), record(A), "$.b"),
    "a field was renamed": (record(field("c", "long")), record(A), "$.c"),
    "a field has another type": (record(field("a", "string")), record(A), "$.a"),
    "another record": (record(A, name="S"), record(A), "$"),
    "long to int": ("int", "long", "$"),
    "double to long": ("long", "double", "$"),
    "bool to int": ("int", "boolean", "$"),
    "a union got narrower": (["null", "long"], ["null", "long", "string"], "$"),
    "null is gone": ("long", ["null", "long"], "$"),
    "no branch fits": (["null", "string"], "long", "$"),
    "a symbol went": (enum("x"), enum("x", "y"), "$"),
    "another enum": (enum("x", name="G"), enum("x"), "$"),
    "another size": (fixed(4), fixed(5), "$"),
    "items": ({"type": "array", "items": "int"}, {"type": "array", "items": "string"}, "$[]"),
    "values": ({"type": "map", "values": "int"}, {"type": "map", "values": "string"}, "${}"),
    "an array is no map": (
        {"type": "map", "values": "int"},
        {"type": "array", "items": "int"},
        "$",
    ),
    "deep inside": (
        record(field("r", {"type": "array", "items": record(A, B, name="S")})),
        record(field("r", {"type": "array", "items": record(A, name="S")})),
        "$.r[].b",
    ),
    "inside a type that holds itself": (
        CHAIN,
        record(field("a", "string"), field("next", ["null", "R"], default=None)),
        "$.a",
    ),
}


@pytest.mark.parametrize("case", READABLE)
def test_readable(case: str) -> None:
    """Pairs that Avro resolves are found compatible."""
    reader, writer = READABLE[case]
    assert unreadable(reader=reader, writer=writer) == []


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable(case: str) -> None:
    """Pairs that Avro does not resolve are told, with the place."""
    reader, writer, where = UNREADABLE[case]
    found = unreadable(reader=reader, writer=writer)
    assert [finding.partition(":")[0] for finding in found] == [where]


@pytest.mark.parametrize(
    ("level", "follows"),
    [
        ("BACKWARD", True),
        ("BACKWARD_TRANSITIVE", False),
        ("FORWARD", True),
        ("FORWARD_TRANSITIVE", True),
        ("FULL", True),
        ("FULL_TRANSITIVE", False),
    ],
)
def test_levels(level: Level, follows: bool) -> None:
    """Transitive looks at all earlier schemas: here b came, then lost its default."""
    first, second, third = record(A), record(A, {**B, "default": ""}), record(A, B)
    assert findings(second, [first], "FULL_TRANSITIVE") == []
    assert (findings(third, [first, second], level) == []) is follows


def test_directions() -> None:
    """A field that comes without default is forward only; one that goes is backward only."""
    assert findings(record(A, B), [record(A)], "FORWARD") == []
    assert findings(record(A, B), [record(A)], "BACKWARD") != []
    assert findings(record(A), [record(A, B)], "BACKWARD") == []
    assert findings(record(A), [record(A, B)], "FORWARD") != []


def test_the_first_schema_follows_nothing() -> None:
    """Without an earlier schema there is nothing to find."""
    assert findings(record(A), [], "FULL_TRANSITIVE") == []


_PRIMITIVES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string"])
_PLAIN = _PRIMITIVES | st.sampled_from([enum("x"), enum("x", "y"), fixed(2), fixed(3)])
_UNIONS = st.lists(_PRIMITIVES, min_size=1, max_size=3, unique=True)
_FIELDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)


@st.composite
def _records(draw: st.DrawFn) -> dict[str, Any]:
    fields = [field(name, draw(_PRIMITIVES | _UNIONS)) for name in draw(_FIELDS)]
    for each in fields:
        if "null" in (each["type"], each["type"][0]):
            each |= {"default": None} if draw(st.booleans()) else {}
    return record(*fields)


_SCHEMAS = st.one_of(
    _PLAIN,
    _UNIONS,
    _records(),
    _PLAIN.map(lambda items: {"type": "array", "items": items}),
    _PLAIN.map(lambda values: {"type": "map", "values": values}),
)


def _reads(reader: Any, writer: Any, value: Any) -> bool:
    stream = BytesIO()
    schemaless_writer(stream, writer, value)
    stream.seek(0)
    try:
        schemaless_reader(stream, writer, reader)
    except Exception:  # noqa: BLE001 (whatever it raises, it did not read)
        return False
    return True


@given(reader=_SCHEMAS, writer=_SCHEMAS)
def test_what_is_found_readable_is_read_by_fastavro(reader: Any, writer: Any) -> None:
    """Against an implementation of the same rules: a clean verdict means that values are read."""
    if unreadable(reader=reader, writer=writer) == []:
        for value in generate_many(parse_schema(writer), 5):
            assert _reads(parse_schema(reader), parse_schema(writer), value)


@given(reader=_PRIMITIVES | _UNIONS | _records(), writer=_PRIMITIVES | _records())
def test_what_is_found_unreadable_is_refused_by_fastavro(reader: Any, writer: Any) -> None:
    """Where no value decides it, a finding means that fastavro reads none of them."""
    by_value = isinstance(writer, dict) and any(
        isinstance(f["type"], list) for f in writer["fields"]
    )
    if unreadable(reader=reader, writer=writer) and not by_value:
        for value in generate_many(parse_schema(writer), 2):
            assert not _reads(parse_schema(reader), parse_schema(writer), value)
