import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcap_es.errors import InvalidDefinition
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.definitions import MAX_LABELS, definition_from, describe
from vcap_es.events.facts.meta import Definition, IntervalKind, Mode, Pacing
from vcap_es.events.instants import LAST_INSTANT, parse_instant
from vcap_es.events.zones import zone_names

amounts = st.integers(0, MAX_AMOUNT)
names = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Any definition that can be used."""
    start = draw(st.none() | st.integers(0, LAST_INSTANT - 1))
    interval: IntervalKind = draw(st.sampled_from(get_args(IntervalKind)))
    ends = st.integers((start or 0) + 1, LAST_INSTANT)
    can_be_short = start is not None and interval != "single"
    return Definition(
        total=draw(amounts),
        interval=interval,
        timezone=draw(st.sampled_from(sorted(zone_names()))),
        start=start,
        end=draw(ends if interval == "single" else st.none() | ends),
        initial_total=draw(st.none() | amounts) if can_be_short else None,
        group=draw(st.none() | names),
        labels=draw(st.dictionaries(names, st.text(max_size=256), max_size=3)),
        mode=draw(st.sampled_from(get_args(Mode))),
        pacing=draw(st.sampled_from(get_args(Pacing))),
    )


def refusal(**fields: object) -> str:
    """The message with which these fields, and a total unless given, are refused."""
    with pytest.raises(InvalidDefinition) as found:
        definition_from({"total": 1, **fields}, "body")
    assert len(str(found.value)) < 600
    return str(found.value)


@given(names, definitions())
def test_what_is_described_reads_back(name: str, definition: Definition) -> None:
    """A definition survives being shown as JSON and read again."""
    described = json.loads(json.dumps(describe(name, definition)))
    assert described.pop("id") == name
    assert definition_from(described, "body") == definition


def test_a_description_for_people() -> None:
    """Instants are texts in UTC, what is not set is left out, and the name comes first."""
    definition = Definition(total=100, start=parse_instant("2013-01-01T00:00:00-05:00"))
    assert list(describe("a", definition).items()) == [
        ("id", "a"),
        ("total", 100),
        ("interval", "day"),
        ("timezone", "UTC"),
        ("start", "2013-01-01T05:00:00Z"),
        ("mode", "hard"),
        ("pacing", "asap"),
        ("placement", "local"),
    ]
    assert "match" in describe("user:*", definition)


def test_none_stands_for_what_is_not_set() -> None:
    """A body may say null where it could have left out the key."""
    fields = dict.fromkeys(Definition.__struct_fields__)
    assert definition_from({**fields, "total": 3}, "body") == Definition(total=3)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("total", True, "True (bool)"),
        ("total", 1.0, "1.0 (float)"),
        ("total", "1", "'1' (str)"),
        ("total", -1, "from 0 to 9223372036854775807"),
        ("total", 2**63, "from 0 to 9223372036854775807"),
        ("total", None, "total is missing"),
        ("initial_total", False, "False (bool)"),
        ("interval", "daily", "did you mean day?"),
        ("interval", 1, "none of minute, hour"),
        ("interval", ["day"], "none of minute, hour"),
        ("timezone", "Europe/Berln", "did you mean Europe/Berlin"),
        ("timezone", "", "not a time zone"),
        ("mode", "Hard", "did you mean hard?"),
        ("pacing", True, "none of asap, even"),
        ("placement", "Evenly", "is no placement"),
        ("placement", "spread 0", "no placement"),
        ("placement", "weighted dc1=1 dc1=2", "names a data centre twice"),
        ("start", 0, "neither a date"),
        ("start", True, "neither a date"),
        ("start", "tomorrow", "RFC 3339"),
        ("start", "2013-02-29", "not a real date"),
        ("start", "2013-01-01T00:00:00", "has no offset"),
        ("start", "1969-01-01", "1970 to 9998"),
        ("end", "9999-01-01", "1970 to 9998"),
        ("group", "", "1 to 128 letters"),
        ("group", "a b", "1 to 128 letters"),
        ("labels", [], "table of at most 64 texts"),
        ("labels", {str(n): "" for n in range(MAX_LABELS + 1)}, "table of at most 64 texts"),
        ("labels", {"": "x"}, "1 to 128 letters"),
        ("labels", {1: "x"}, "1 to 128 letters"),
        ("labels", {"a": 1}, "a label is a text"),
        ("labels", {"a": "x" * 257}, "a label is a text of at most 256"),
        ("id", "a", "key 'id' (str) is not known"),
        ("totl", 1, "did you mean total?"),
    ],
)
def test_a_wrong_field_is_refused_by_name(key: str, value: object, why: str) -> None:
    """Wrong types, ranges and names are refused; the message names the place, key and reason."""
    message = refusal(**{key: value})
    assert message.startswith("body")
    assert key in message
    assert why in message


@pytest.mark.parametrize("end", ["2013-01-01", "2012-12-31T23:59:59Z"])
def test_an_end_that_is_not_after_the_start_is_refused(end: str) -> None:
    """A cap that would serve at no time is a slip."""
    message = refusal(start="2013-01-01", end=end)
    assert "is not after start, 2013-01-01T00:00:00Z" in message


def test_a_single_without_an_end_is_refused() -> None:
    """One interval that never ends would never be settled."""
    assert "single needs an end" in refusal(interval="single")


def test_an_initial_total_that_could_never_count_is_refused() -> None:
    """An initial total needs a first period that can be cut short."""
    assert "needs a start" in refusal(initial_total=1)
    single = {"interval": "single", "start": "2013-01-01", "end": "2013-01-02"}
    assert "other than single" in refusal(initial_total=1, **single)
