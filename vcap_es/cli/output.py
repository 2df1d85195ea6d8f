"""How answers are printed: for people as aligned text, for programs as JSON."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of text.")]


def print_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with a head; numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    kept = [[_cell(value) for value in row] for row in rows]
    for index, name in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in kept)
        table.add_column(name, justify="right" if kept and numeric else "left", overflow="fold")
    for row in kept:
        table.add_row(*row)
    console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """A name and a value a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {_cell(value)}\n")


def console() -> Console:
    """Where people read; as wide as the output where that is not a terminal."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False, markup=False, emoji=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_cell, value)) or "-"
    if isinstance(value, dict):
        return " ".join(f"{key}={_cell(each)}" for key, each in value.items()) or "-"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.removeprefix("-").isdecimal()
