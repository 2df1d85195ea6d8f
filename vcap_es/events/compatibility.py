"""Which schemas can read what was written with which: Avro's rules of schema resolution, checked.

The levels have the names that schema registries use. `BACKWARD`: the new schema reads what the one
before wrote. `FORWARD`: the one before reads what the new one writes. `FULL`: both. With
`_TRANSITIVE` against every earlier schema, else against the last one alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from fastavro import parse_schema

Level = Literal[
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
]

_PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What else a reader may declare where the writer declared the key."""


def findings(new: Any, earlier: Sequence[Any], level: Level) -> list[str]:
    """What keeps the schema `new` from following `earlier` at `level`; [] if nothing does.

    Schemas are as parsed from JSON; `earlier` begins with the oldest.
    """
    against = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
    found: list[str] = []
    for old in against:
        if not level.startswith("FORWARD"):
            found += unreadable(reader=new, writer=old)
        if not level.startswith("BACKWARD"):
            found += unreadable(reader=old, writer=new)
    return found


def unreadable(*, reader: Any, writer: Any) -> list[str]:
    """Why some value written with the schema `writer` is unreadable with `reader`; [] if none is.

    Each finding names the place by field names, such as `$.definition.interval`.
    """
    return list(_Resolution(reader, writer).findings())


class _Resolution:
    """One reader against one writer, with the types that each of them names."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader_names: dict[str, Any] = {}
        self._writer_names: dict[str, Any] = {}
        self._reader = parse_schema(reader, self._reader_names)
        self._writer = parse_schema(writer, self._writer_names)
        self._looked_at: set[tuple[str, str]] = set()

    def findings(self) -> Iterator[str]:
        return self._resolve(self._reader, self._writer, "$")

    def _resolve(self, reader: Any, writer: Any, where: str) -> Iterator[str]:
        reader = self._reader_names.get(reader, reader) if isinstance(reader, str) else reader
        writer = self._writer_names.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list):
            for branch in writer:
                yield from self._resolve(reader, branch, where)
        elif isinstance(reader, list):
            yield from self._one_of(reader, writer, where)
        elif _kind(reader) != _kind(writer):
            if _kind(reader) not in _PROMOTED.get(_kind(writer), ()):
                yield f"{where}: {_kind(writer)} was written, {_kind(reader)} is wanted"
        else:
            yield from self._same_kind(reader, writer, where)

    def _one_of(self, branches: list[Any], writer: Any, where: str) -> Iterator[str]:
        seen = set(self._looked_at)
        for branch in branches:
            if not list(self._resolve(branch, writer, where)):
                return
            self._looked_at = set(seen)  # a branch that failed proves nothing about others
        yield f"{where}: {_kind(writer)} was written, no branch of the union takes it"

    def _same_kind(self, reader: Any, writer: Any, where: str) -> Iterator[str]:
        match _kind(reader):
            case "record":
                yield from self._record(reader, writer, where)
            case "enum":
                yield from self._enum(reader, writer, where)
            case "fixed":
                yield from _same_name(reader, writer, where)
                if reader["size"] != writer["size"]:
                    yield f"{where}: {writer['size']} bytes were written, not {reader['size']}"
            case "array":
                yield from self._resolve(reader["items"], writer["items"], f"{where}[]")
            case "map":
                yield from self._resolve(reader["values"], writer["values"], f"{where}{{}}")

    def _record(self, reader: Any, writer: Any, where: str) -> Iterator[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._looked_at:  # a type that holds itself, or is used twice
            return
        self._looked_at.add(pair)
        yield from _same_name(reader, writer, where)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            names = [field["name"], *field.get("aliases", ())]
            name = next((name for name in names if name in written), None)
            if name is not None:
                place = f"{where}.{field['name']}"
                yield from self._resolve(field["type"], written[name]["type"], place)
            elif "default" not in field:
                yield f"{where}.{field['name']}: was not written and has no default"

    def _enum(self, reader: Any, writer: Any, where: str) -> Iterator[str]:
        yield from _same_name(reader, writer, where)
        if "default" not in reader:
            for symbol in writer["symbols"]:
                if symbol not in reader["symbols"]:
                    yield f"{where}: the symbol {symbol} is unknown and there is no default"


def _kind(schema: Any) -> str:
    """The name of a type without its attributes; of a union it says that it is one."""
    if isinstance(schema, list):
        return "union"
    return str(schema if isinstance(schema, str) else schema["type"])


def _same_name(reader: Any, writer: Any, where: str) -> Iterator[str]:
    names = [reader["name"], *reader.get("aliases", ())]
    if _unqualified(writer["name"]) not in map(_unqualified, names):
        yield f"{where}: {writer['name']} was written, {reader['name']} is wanted"


def _unqualified(name: str) -> str:
    return name.rpartition(".")[2]
