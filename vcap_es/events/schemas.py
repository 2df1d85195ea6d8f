"""The Avro schemas of the facts: derived from the structs, released as files, found by fingerprint.

A fact has one schema, `schemas/<noun>/<Fact>.v<N>.avsc`. A released file is never edited: a field
that comes or goes is a new file with the next number, and the old one stays, so that an old log
can be read for ever. `schemas/fingerprints.json` pins what was released.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form
from msgspec import NODEFAULT, Struct, UnsetType, inspect

from vcap_es.events.facts import Fact

FACTS: dict[str, type[Fact]] = {fact.__name__: fact for fact in get_args(Fact)}
"""Every fact of this version by its name."""

_SCALARS: dict[type[inspect.Type], str] = {
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "long",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
}


class Schema(Struct, frozen=True, kw_only=True):
    """One released schema: `number` is the N of its file, `parsed` what fastavro works with."""

    fact: str
    number: int
    fingerprint: bytes
    parsed: dict[str, Any]


def noun_of(fact: type[Fact]) -> str:
    """The noun a fact belongs to, which is the folder of its schemas: `volumecap`."""
    return fact.__module__.rpartition(".")[2]


def directory() -> Path:
    """Where the schemas are: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def released() -> Iterator[Schema]:
    """Every released schema, oldest first within each fact."""
    for name, fact in FACTS.items():
        files = directory().glob(f"{noun_of(fact)}/{name}.v*.avsc")
        for number, file in sorted((int(file.stem.rpartition(".v")[2]), file) for file in files):
            parsed = parse_schema(json.loads(file.read_text()))
            assert isinstance(parsed, dict)
            yield Schema(fact=name, number=number, fingerprint=identity(parsed), parsed=parsed)


def identity(schema: str | dict[str, Any]) -> bytes:
    """The 8 bytes that name a schema on the wire: CRC-64-AVRO of its canonical form.

    They are in little-endian order, as single-object encoding wants them.
    """
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def schema_of(fact: type[Fact]) -> dict[str, Any]:
    """The schema that the struct of `fact` has now; the newest released one must equal it."""
    info = inspect.type_info(fact)
    assert isinstance(info, inspect.StructType)
    seen: set[str] = set()
    return {"namespace": f"vcap_es.{noun_of(fact)}", **_record(info, seen)}


def _record(info: inspect.StructType, seen: set[str]) -> dict[str, Any]:
    doc = (info.cls.__doc__ or "").partition("\n")[0]
    fields = [_field(field, seen) for field in info.fields]
    return {"type": "record", "name": info.cls.__name__, "doc": doc, "fields": fields}


def _field(field: inspect.Field, seen: set[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": field.name, "type": _type(field.type, field.name, seen)}
    if field.default is not NODEFAULT and not isinstance(field.default, UnsetType):
        made["default"] = field.default
    elif field.default_factory is not NODEFAULT:
        made["default"] = field.default_factory()
    return made


def _type(kind: inspect.Type, name: str, seen: set[str]) -> Any:
    """The Avro type of one msgspec type; `name` is the field's, which names an enum."""
    match kind:
        case inspect.StructType():
            return _named(kind.cls.__name__, seen) or _record(kind, seen)
        case inspect.LiteralType():
            enum = name.capitalize()
            symbols = [str(value) for value in kind.values]
            return _named(enum, seen) or {"type": "enum", "name": enum, "symbols": symbols}
        case inspect.ListType():
            return {"type": "array", "items": _type(kind.item_type, name, seen)}
        case inspect.DictType():
            return {"type": "map", "values": _type(kind.value_type, name, seen)}
        case inspect.UnionType():
            members = sorted(
                kind.types, key=lambda member: not isinstance(member, inspect.NoneType)
            )
            return [_type(member, name, seen) for member in members]
    return _SCALARS[type(kind)]


def _named(name: str, seen: set[str]) -> str | None:
    """A named type is spelled out once and referred to by its name after that."""
    if name in seen:
        return name
    seen.add(name)
    return None
