"""The released schemas: what they are, that they fit the structs, and that nobody edits them."""

import json
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import pytest
from fastavro.schema import to_parsing_canonical_form

from vcap_es.events.compatibility import findings
from vcap_es.events.facts import Fact
from vcap_es.events.schemas import FACTS, directory, identity, noun_of, released, schema_of

RELEASED = {
    fact: list(schemas) for fact, schemas in groupby(released(), key=lambda schema: schema.fact)
}


def test_the_identity_of_null_is_that_of_the_specification() -> None:
    """The fingerprint of "null" is 0x63dd24e7cc258f8a, little-endian on the wire."""
    assert identity("null") == (0x63DD24E7CC258F8A).to_bytes(8, "little")


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_the_newest_schema_is_that_of_the_struct(fact: type[Fact]) -> None:
    """No field of a fact drifts from what is written: a new field is a new version."""
    wanted = schema_of(fact)
    newest = RELEASED[fact.__name__][-1]
    path = f"schemas/{noun_of(fact)}/{fact.__name__}.v{newest.number + 1}.avsc"
    text = json.dumps(wanted, indent=2)
    file = directory() / noun_of(fact) / f"{fact.__name__}.v{newest.number}.avsc"
    assert _without_docs(json.loads(file.read_text())) == _without_docs(wanted), (
        f"the struct has changed: write its new schema to {path} and pin it:\n{text}"
    )
    assert to_parsing_canonical_form(newest.parsed) == to_parsing_canonical_form(wanted)


def test_released_schemas_are_never_edited() -> None:
    """Every file is the one that was pinned when it was released, and every pin has its file."""
    pinned = json.loads((directory() / "fingerprints.json").read_text())
    found = {}
    for file in directory().glob("*/*.avsc"):
        text = file.read_bytes()
        found[f"{file.parent.name}/{file.stem}"] = {
            "fingerprint": identity(json.loads(text)).hex(),
            "sha256": sha256(text).hexdigest(),
        }
    assert found == pinned


def test_versions_have_no_gap() -> None:
    """Every fact has the versions 1, 2, .. and nothing else is in the folder."""
    assert list(RELEASED) == list(FACTS)
    for schemas in RELEASED.values():
        assert [schema.number for schema in schemas] == list(range(1, len(schemas) + 1))
    assert len(list(directory().glob("*/*"))) == sum(map(len, RELEASED.values()))


@pytest.mark.parametrize("fact", FACTS)
def test_every_version_reads_what_earlier_ones_wrote(fact: str) -> None:
    """Each schema is BACKWARD_TRANSITIVE to all before it, so every old log can be read."""
    schemas = [schema.parsed for schema in RELEASED[fact]]
    for number, schema in enumerate(schemas):
        assert findings(schema, schemas[:number], "BACKWARD_TRANSITIVE") == []


def test_fingerprints_are_unique() -> None:
    """No two schemas have the same name on the wire."""
    schemas = list(released())
    assert len({schema.fingerprint for schema in schemas}) == len(schemas)


def test_the_page_of_concepts_lists_every_fact() -> None:
    """The table of facts in the documentation has each of them under its noun, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
    table = page.partition("| noun | facts |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    listed = {noun: set(facts.replace("`", "").split(", ")) for noun, facts in rows}
    wanted: dict[str, set[str]] = {}
    for name, fact in FACTS.items():
        wanted.setdefault(noun_of(fact), set()).add(name)
    assert listed == wanted


def test_schemas_lie_beside_the_package_or_in_it() -> None:
    """The folder that is found is the one of this checkout, or of this installation."""
    package = Path(schema_of.__code__.co_filename).parents[1]
    assert directory() in (package / "schemas", package.parent / "schemas")


def _without_docs(schema: object) -> object:
    match schema:
        case dict():
            return {key: _without_docs(value) for key, value in schema.items() if key != "doc"}
        case list():
            return [_without_docs(each) for each in schema]
    return schema
