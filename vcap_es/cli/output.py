"""How answers are printed: for people as aligned text, for programs as JSON."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of text.")]


def print_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with a head, aligned and never folded; numbers to the right."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(map(_is_number, column[1:])) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = [
            cell.rjust(width) if right else cell
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        print_row(parts, widths)


def print_row(cells: Sequence[str], widths: Sequence[int]) -> None:
    """One row of a table whose other rows are not known yet."""
    parts = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    sys.stdout.write("  ".join(parts).rstrip() + "\n")


def print_fields(fields: Mapping[str, object]) -> None:
    """A name and a value a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {_cell(value)}\n")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_cell, value)) or "-"
    if isinstance(value, dict):
        return " ".join(f"{key}={_cell(each)}" for key, each in value.items() if each) or "-"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.removeprefix("-").isdecimal()
