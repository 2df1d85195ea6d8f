"""A file of caps, in TOML.

    [[cap]]
    id = "campaign:4711"
    total = 100_000
    interval = "day"
    timezone = "Europe/Berlin"
    start = 2026-11-01              # the first instant of that day in the zone
    end = 2026-12-24T18:00:00Z      # half-open: nothing is served from here on

    [[cap]]
    match = "user:*"                # a template: defines a cap on first use
    total = 50

Only the text is read here; who calls this opens the file.
"""

import tomllib
from collections.abc import Mapping, Sequence

from msgspec import Struct

from vcap_es.errors import InvalidInput
from vcap_es.events.definitions import (
    FIELDS,
    check_cap_id,
    check_match,
    definition_from,
    refuse_unknown,
)
from vcap_es.events.facts.meta import Definition
from vcap_es.shown import shown

MAX_FILE_BYTES = 16 * 2**20


class CapsFile(Struct, frozen=True):
    """What a file of caps says, in its order: caps by their id, templates by what they match."""

    caps: dict[str, Definition]
    templates: dict[str, Definition]


def parse_caps(text: str, name: str) -> CapsFile:
    """Read the TOML `text` of the file called `name`, at most 16 MiB of it.

    Raises InvalidInput if it is not TOML or not made of `[[cap]]` tables with an id or a match
    each, InvalidDefinition if a cap cannot be used. The message names the file, and the line and
    column or the table, its id and the key.
    """
    found = CapsFile(caps={}, templates={})
    numbers: dict[str, int] = {}
    for number, table in enumerate(_tables(_document(text, name), name), start=1):
        kind, title, where = _head(table, f"{name}: cap {number}")
        if title in numbers:
            raise InvalidInput(f"{where}: cap {numbers[title]} has this {kind} already")
        numbers[title] = number
        fields = {key: value for key, value in table.items() if key != kind}
        into = found.caps if kind == "id" else found.templates
        into[title] = definition_from(fields, where)
    return found


def _document(text: str, name: str) -> dict[str, object]:
    if len(text) > MAX_FILE_BYTES or len(text.encode(errors="replace")) > MAX_FILE_BYTES:
        raise InvalidInput(f"{name} is larger than {MAX_FILE_BYTES} bytes: split it into several")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InvalidInput(f"{name}: arrays or tables are nested too deeply") from error
    # Not only TOMLDecodeError: an integer of thousands of digits is a plain ValueError.
    except ValueError as error:
        reason = str(error).replace("at end of document", f"at the end, {_end_of(text)}")
        raise InvalidInput(f"{name} is not TOML: {reason}") from error


def _end_of(text: str) -> str:
    *before, last = text.split("\n")
    return f"line {len(before) + 1}, column {len(last) + 1}"


def _tables(document: Mapping[str, object], name: str) -> Sequence[Mapping[str, object]]:
    for key in document:
        if key != "cap":
            raise InvalidInput(f"{name}: key {shown(key)} is not known here: write [[cap]] tables")
    tables = document.get("cap", [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    raise InvalidInput(f"{name}: cap is {shown(tables)}: write [[cap]], once for each cap")


def _head(table: Mapping[str, object], where: str) -> tuple[str, str, str]:
    """What names a table, `id` or `match`; its value; and `where` together with both."""
    refuse_unknown(table, ("id", "match", *FIELDS), where)
    if ("id" in table) == ("match" in table):
        raise InvalidInput(f"{where}: give either id, for one cap, or match, for a template")
    kind = "id" if "id" in table else "match"
    try:
        title = (check_cap_id if kind == "id" else check_match)(table[kind])
    except InvalidInput as error:
        raise InvalidInput(f"{where}, {kind}: {error}") from error
    return kind, title, f'{where} ({kind} "{title}")'
