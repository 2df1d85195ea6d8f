"""Facts as bytes: Avro single-object encoding, and back.

The bytes are `C3 01`, the 8-byte fingerprint of the schema and the Avro body, so each fact says by
itself how it is read. A fact of an older schema is resolved to the current one by Avro's rules.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader, schemaless_writer
from msgspec import Struct, ValidationError, convert, inspect
from msgspec.structs import asdict, astuple

from vcap_es.errors import InvalidFact, LogDamaged, UnknownFact
from vcap_es.events.facts import Fact, caps_of
from vcap_es.events.schemas import FACTS, Schema, released

MARKER = b"\xc3\x01"
HEADER_BYTES = 10


def encode(fact: Fact) -> bytes:
    """The bytes of `fact`, by the newest schema of its kind.

    Nothing is coerced: a float, a bool or an int beyond 64 bits where the struct declares an
    integer raises `InvalidFact`, and so does every other value of a wrong type, at any depth.
    """
    try:
        writer = _writers[type(fact)]
    except KeyError:
        raise InvalidFact(f"{type(fact).__name__} is not a fact of this version") from None
    return writer(fact)


def decode(data: bytes) -> Fact:
    """The fact that `data` encodes, in its current form.

    Raises `UnknownFact` if the schema is not among the released ones, and `LogDamaged` if the
    bytes are not a whole fact and nothing more.
    """
    try:
        reader = _readers[data[:HEADER_BYTES]]
    except KeyError:
        raise _unreadable(data) from None
    return reader(data)


def kind_of(data: bytes) -> str:
    """The class name of the fact that `data` encodes, without decoding it; raises like `decode`."""
    try:
        return _kinds[data[:HEADER_BYTES]]
    except KeyError:
        raise _unreadable(data) from None


def caps_in(data: bytes) -> list[str]:
    """The caps that an encoded fact speaks of, like `caps_of`, decoding no more than it must."""
    place = _cap_places.get(data[:HEADER_BYTES])
    if place is None:
        return caps_of(decode(data))
    if place == _NOWHERE:
        return []
    size = data[HEADER_BYTES]
    if size & 0x81:  # a length in more bytes than one, or a negative one
        return caps_of(decode(data))
    start = HEADER_BYTES + 1
    return [data[start : start + size // 2].decode()]


def _unreadable(data: bytes) -> LogDamaged | UnknownFact:
    if data[:2] != MARKER or len(data) < HEADER_BYTES:
        return LogDamaged(f"the bytes {data[:HEADER_BYTES].hex()}.. do not begin an encoded fact")
    name = data[2:HEADER_BYTES].hex()
    return UnknownFact(f"no schema with fingerprint {name} is known here: upgrade vcap_es")


def _writer(schema: Schema) -> Callable[[Fact], bytes]:
    header, parsed = MARKER + schema.fingerprint, schema.parsed
    record_of = _recorder(FACTS[schema.fact])

    def write(fact: Fact) -> bytes:
        stream = BytesIO()
        stream.write(header)
        try:
            schemaless_writer(stream, parsed, record_of(fact))
        except (ValidationError, ValueError, TypeError, OverflowError) as error:
            raise InvalidFact(f"{schema.fact} cannot be written: {error}") from error
        return stream.getvalue()

    return write


def _reader(schema: Schema, current: Schema) -> Callable[[bytes], Fact]:
    written = schema.parsed
    # Without a second schema fastavro skips the resolution, which is a third of the time.
    wanted = None if schema is current else current.parsed
    fact_type = FACTS[schema.fact]
    positional = _positional(fact_type)

    def read(data: bytes) -> Fact:
        stream = BytesIO(data)
        stream.seek(HEADER_BYTES)
        try:
            record: Any = schemaless_reader(stream, written, wanted)
            for name, struct in positional:
                record[name] = struct(**record[name])
            fact = convert(record, fact_type)
        except Exception as error:  # damaged bytes raise whatever they hit first
            raise LogDamaged(f"{schema.fact} cannot be read: {error!r}") from error
        if stream.tell() != len(data):
            raise LogDamaged(f"{schema.fact} is followed by {len(data) - stream.tell()} bytes")
        return fact

    return read


def _recorder(struct_type: type[Struct]) -> Callable[[Any], dict[str, Any]]:
    """How a struct becomes the record fastavro writes, each level checked on the way.

    Constructors of structs do not validate and fastavro truncates a float, so `convert` looks at
    every value; it takes nested structs as they are, which is why they are recorded on their own.
    """
    info = inspect.type_info(struct_type)
    assert isinstance(info, inspect.StructType)
    positional = info.array_like
    nested = [(f.name, step) for f in info.fields if (step := _nested(f.type))]

    def record_of(struct: Any) -> dict[str, Any]:
        record = asdict(struct)
        convert(astuple(struct) if positional else record, struct_type)
        for name, step in nested:
            record[name] = step(record[name])
        return record

    return record_of


def _nested(kind: inspect.Type) -> Callable[[Any], Any] | None:
    match kind:
        case inspect.StructType():
            return _recorder(kind.cls)
        case inspect.ListType(item_type=inspect.StructType() as item):
            record_of = _recorder(item.cls)
            return lambda items: [record_of(each) for each in items]
        case inspect.UnionType(types=(inspect.StructType() as one, inspect.NoneType())):
            record_if = _recorder(one.cls)
            return lambda value: None if value is None else record_if(value)
    return None


def _positional(struct_type: type[Struct]) -> list[tuple[str, type[Struct]]]:
    """The fields whose struct is an array elsewhere (JSON) but a record in Avro."""
    info = inspect.type_info(struct_type)
    assert isinstance(info, inspect.StructType)
    return [
        (field.name, field.type.cls)
        for field in info.fields
        if isinstance(field.type, inspect.StructType) and field.type.array_like
    ]


_schemas = list(released())
_newest = {schema.fact: schema for schema in _schemas}
_writers = {FACTS[fact]: _writer(schema) for fact, schema in _newest.items()}
_readers = {
    MARKER + schema.fingerprint: _reader(schema, _newest[schema.fact]) for schema in _schemas
}
_kinds = {MARKER + schema.fingerprint: schema.fact for schema in _schemas}

_FIRST, _NOWHERE = 0, 1


def _cap_place(schema: Schema) -> int | None:
    """Where a schema has its cap: first, nowhere, or somewhere that must be decoded."""
    names = [field["name"] for field in schema.parsed["fields"]]
    if names[0] == "cap":
        return _FIRST
    return None if {"cap", "entries"} & {*names} else _NOWHERE


_cap_places = {
    MARKER + schema.fingerprint: place
    for schema in _schemas
    if (place := _cap_place(schema)) is not None
}
