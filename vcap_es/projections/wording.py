"""Rows of values as plain text in aligned columns, for terminals and documents."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from vcap_es.events.instants import format_instant

INSTANTS = frozenset({"at", "start", "end", "recorded_at"})


def render(rows: Sequence[Struct]) -> str:
    """The rows, all of one kind, with a heading; a column that is empty in every row is left out.

    Integers are aligned to the right, instants written as RFC 3339. No rows give "".
    """
    if not rows:
        return ""
    names = rows[0].__struct_fields__
    columns = [_column(name, [getattr(row, name) for row in rows]) for name in names]
    kept = [column for column in columns if any(column[1:])]
    lines = zip(*kept, strict=True)
    return "\n".join("  ".join(cells).rstrip() for cells in lines) + "\n"


def called(server: str, names: Mapping[str, str]) -> str:
    """How people know a server: by its name and incarnation, or by that alone."""
    name = names.get(server)
    return f"{name} ({server})" if name else server


def units(amount: int) -> str:
    """An amount in words: "1 unit", "5 units"."""
    return "1 unit" if amount == 1 else f"{amount} units"


def _column(name: str, values: list[object]) -> list[str]:
    cells = [_cell(name, value) for value in values]
    if not any(cells):
        return [name, *cells]
    width = max(map(len, [name, *cells]))
    is_number = name not in INSTANTS and any(type(value) is int for value in values)
    align = str.rjust if is_number else str.ljust
    return [align(cell, width) for cell in [name, *cells]]


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in INSTANTS and isinstance(value, int):
        return format_instant(value)
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)
