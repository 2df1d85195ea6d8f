import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.primary import Primary, primary_in_a_thread
from vcap_es.adapters.http.control_plane.app import API, DOCUMENT
from vcap_es.adapters.http.control_plane.routes import ROLES
from vcap_es.events.logs.sqlite import SqliteLog

ROOT = Path(__file__).parents[4]
MADE_BY = "python -m vcap_es.adapters.http.control_plane.app > docs/openapi.json"


def _document() -> Any:
    return msgspec.json.decode(DOCUMENT)


def test_the_document_in_the_docs_is_the_one_that_is_served() -> None:
    """`docs/openapi.json` changes with the routes, so that a change of the API is seen."""
    kept = (ROOT / "docs" / "openapi.json").read_bytes()
    assert kept == DOCUMENT, f"the API has changed: {MADE_BY}"


def test_every_call_is_described() -> None:
    """Each route has a unique name, a summary, its roles, its answers and its problems."""
    document = _document()
    names = set()
    for route in API:
        operation = document["paths"][route.path][route.method.lower()]
        names.add(operation["operationId"])
        assert operation["summary"]
        assert len(operation["description"]) > 20
        assert operation.get("x-vcap-roles", []) == sorted(ROLES[route.access])
        assert {str(status) for status in route.statuses} < operation["responses"].keys()
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        declared = {each["name"] for each in operation["parameters"]}
        assert all(f"{{{name}}}" not in route.path or name in declared for name in declared)
    assert len(names) == len(API)


def test_every_reference_leads_somewhere() -> None:
    """No schema refers to one that is not in the document."""
    document = _document()
    text = DOCUMENT.decode()
    schemas = document["components"]["schemas"]
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


SETTINGS = """
[checks.positive_data_acceptance]
# A definition can be right field by field and wrong as a whole (a zone that there is not, an end
# before its start), and what a condition asks for may not be so.
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422"]
"""


APART = ("revoke_key", "add_centre", "remove_centre", "lose_centre")
"""A key could revoke itself, and everything after that would be 401; and nobody could know what a
data centre that is not there has recorded. These calls are fuzzed apart."""


@pytest.mark.parametrize(
    ("chosen", "kinds"),
    [
        ("--exclude-operation-id", {"MetaDefined", "MetaPaused", "MetaRetired", "ApiKeyCreated"}),
        ("--include-operation-id", set()),
    ],
)
def test_the_api_is_as_its_document_says(tmp_path: Path, chosen: str, kinds: set[str]) -> None:
    """Whatever is sent, the answer is one that the document declares, and never a failure."""
    (tmp_path / "settings.toml").write_text(SETTINGS)
    with primary_in_a_thread(tmp_path / "primary") as primary:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", "settings.toml", "--no-color"),
                *("run", f"{primary.url}/openapi.json", "--checks", "all", "--seed", "1"),
                # A stream of events has no end.
                *("--exclude-operation-id", "stream_events"),
                # A retired cap stays to be read: its history is for ever.
                *("--exclude-checks", "use_after_free"),
                *("--max-examples", "20", *(word for each in APART for word in (chosen, each))),
                *("--header", f"Authorization: Bearer {primary.keys['admin']}"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        # It did reach the master, and changed things there.
        assert kinds <= asyncio.run(_kinds_by(tmp_path / "primary" / "log.sqlite", primary))


async def _kinds_by(path: Path, primary: Primary) -> set[str]:
    """The kinds of facts that the calls with the admin's key made true."""
    reader = await SqliteLog.open_reader(path)
    try:
        actor = primary.keys["admin"].split("_")[1]
        events = await reader.read(limit=10_000)
        return {type(each.fact).__name__ for each in events if each.actor == actor}
    finally:
        await reader.close()
