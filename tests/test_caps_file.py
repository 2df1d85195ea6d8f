from datetime import date

import pytest

from vcap_es.caps_file import MAX_FILE_BYTES, CapsFile, parse_caps
from vcap_es.errors import InvalidDefinition, InvalidInput
from vcap_es.events.facts.meta import Definition
from vcap_es.events.instants import parse_instant
from vcap_es.events.periods import start_of_day

FULL = """
[[cap]]
id = "campaign:4711"
total = 100_000
interval = "week"
timezone = "America/New_York"
start = 2013-01-01
end = 2013-12-31T18:00:00.5-05:00
initial_total = 60_000
group = "acme"
mode = "shadow"
pacing = "even"
placement = "local"
labels = { advertiser = "Acme & Söhne", tier = "gold" }

[[cap]]
match = "user:*"
total = 0

[[cap]]
id = "plain"
total = 9223372036854775807
"""


def cap(body: str, head: str = 'id = "a"\ntotal = 1') -> str:
    """A file of one cap with these further lines."""
    return f"[[cap]]\n{head}\n{body}\n"


def the_cap(body: str) -> Definition:
    """The definition of a file of one cap."""
    return parse_caps(cap(body), "caps.toml").caps["a"]


def refusal(text: str, kind: type[ValueError]) -> str:
    """The message with which a file is refused."""
    with pytest.raises(kind) as found:
        parse_caps(text, "caps.toml")
    assert len(str(found.value)) < 600
    return str(found.value)


def test_a_whole_file() -> None:
    """Caps and templates come in the order of the file, with every key in its place."""
    found = parse_caps(FULL, "caps.toml")
    assert list(found.caps) == ["campaign:4711", "plain"]
    assert found.caps["campaign:4711"] == Definition(
        total=100_000,
        interval="week",
        timezone="America/New_York",
        start=parse_instant("2013-01-01T05:00:00Z"),
        end=parse_instant("2013-12-31T23:00:00.5Z"),
        initial_total=60_000,
        group="acme",
        mode="shadow",
        pacing="even",
        placement="local",
        labels={"advertiser": "Acme & Söhne", "tier": "gold"},
    )
    assert found.caps["plain"] == Definition(total=2**63 - 1)
    assert found.templates == {"user:*": Definition(total=0)}


def test_an_empty_file_has_no_caps() -> None:
    """A file may hold nothing but a comment."""
    assert parse_caps("# none yet\n", "caps.toml") == CapsFile(caps={}, templates={})


@pytest.mark.parametrize("start", ["2026-04-24", '"2026-04-24"'])
def test_a_date_is_the_first_instant_of_that_day(start: str) -> None:
    """A bare date means the zone's day, here one without a midnight."""
    found = the_cap(f'start = {start}\ntimezone = "Africa/Cairo"')
    assert found.start == start_of_day("Africa/Cairo", date(2026, 4, 24))
    assert found.start == parse_instant("2026-04-23T22:00:00Z")


@pytest.mark.parametrize("start", ["2026-04-24T09:00:00+02:00", '"2026-04-24T09:00:00+02:00"'])
def test_an_instant_may_be_a_value_or_a_text(start: str) -> None:
    """An offset date-time of TOML and the same text are one instant."""
    assert the_cap(f"start = {start}").start == parse_instant("2026-04-24T07:00:00Z")


@pytest.mark.parametrize("end", ["2026-04-24T09:00:00", '"2026-04-24T09:00:00"'])
def test_a_local_time_is_refused(end: str) -> None:
    """A time without an offset may mean two instants, so none is guessed."""
    message = refusal(cap(f"end = {end}"), InvalidDefinition)
    assert message.startswith('caps.toml: cap 1 (id "a"), end: ')
    assert "has no offset" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[[cap]]\nid = "a"\ntotal = = 1\n', "(at line 3, column 9)"),
        ('[[cap]]\nid = "a"\ntotal = 1\ntotal = 2\n', "(at line 4, column 10)"),
        ('[[cap]]\nid = """a', "(at the end, line 2, column 10)"),
        ("[[cap]]\nstart = 2026-02-30\n", "(at line 2, column 9)"),
    ],
)
def test_a_slip_in_the_syntax_is_placed(text: str, place: str) -> None:
    """What is not TOML is refused with the file, the line and the column."""
    message = refusal(text, InvalidInput)
    assert message.startswith("caps.toml is not TOML: ")
    assert message.endswith(place)


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000])
def test_a_hostile_value_is_refused(value: str) -> None:
    """Deep nesting and endless digits are refused like any other slip."""
    assert "caps.toml" in refusal(cap(f"labels = {value}"), InvalidInput)


def test_a_file_that_is_too_large_is_refused() -> None:
    """The limit counts bytes, not characters."""
    assert parse_caps("#" * MAX_FILE_BYTES, "caps.toml").caps == {}
    for text in ("#" * (MAX_FILE_BYTES + 1), "#" + "é" * (MAX_FILE_BYTES // 2)):
        assert "larger than 16777216 bytes" in refusal(text, InvalidInput)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("total = 1", "key 'total' (str) is not known here: write [[cap]] tables"),
        ("[cap]\nid = 'a'", "write [[cap]], once for each cap"),
        ("cap = [1]", "write [[cap]], once for each cap"),
        ("[[cap]]\ntotal = 1", "cap 1: give either id, for one cap, or match, for a template"),
        ("[[cap]]\nid = 'a'\nmatch = 'a*'", "cap 1: give either id"),
        ("[[cap]]\nid = 7", "cap 1, id: 7 (int) is not 1 to 128 letters"),
        ("[[cap]]\nid = 'a*'", "cap 1, id: 'a*' (str) is not 1 to 128 letters"),
        ("[[cap]]\nid = 'ä'", "cap 1, id: 'ä' (str) is not 1 to 128 letters"),
        ("[[cap]]\nid = ''", "cap 1, id: '' (str) is not 1 to 128 letters"),
        ('[[cap]]\nid = "a\\n"', "cap 1, id: 'a\\n' (str) is not 1 to 128 letters"),
        (f"[[cap]]\nid = '{'x' * 129}'", "is not 1 to 128 letters"),
        ("[[cap]]\nmatch = 'a'", "cap 1, match: 'a' (str) has no *"),
        ("[[cap]]\nmatch = '* '", "cap 1, match: '* ' (str) is not 1 to 128 letters"),
    ],
)
def test_a_table_without_a_good_name_is_refused(text: str, why: str) -> None:
    """Whatever is no table of a named cap is refused with its number."""
    message = refusal(text, InvalidInput)
    assert message.startswith("caps.toml: ")
    assert why in message


def test_a_name_that_comes_twice_is_refused() -> None:
    """The message names both tables."""
    message = refusal(cap("") + cap("", 'id = "b"\ntotal = 1') + cap(""), InvalidInput)
    assert message == 'caps.toml: cap 3 (id "a"): cap 1 has this id already'
    template = cap("", 'match = "a*"\ntotal = 1')
    assert refusal(template + template, InvalidInput) == (
        'caps.toml: cap 2 (match "a*"): cap 1 has this match already'
    )


@pytest.mark.parametrize(
    ("wrong", "meant"), [("totl", "total"), ("time_zone", "timezone"), ("matches", "match")]
)
def test_a_misspelt_key_is_refused_with_a_hint(wrong: str, meant: str) -> None:
    """An unknown key is refused, and the message offers the one that was meant."""
    message = refusal(cap(f"{wrong} = 1"), InvalidDefinition)
    assert message == f"caps.toml: cap 1: key '{wrong}' (str) is not known; did you mean {meant}?"


def test_a_cap_that_cannot_be_used_is_named() -> None:
    """The message leads to the file, the table by number and name, and the key."""
    message = refusal(cap("") + cap("interval = 'daily'", "id = 'b'\ntotal = 1"), InvalidDefinition)
    assert message == (
        "caps.toml: cap 2 (id \"b\"), interval: 'daily' (str) is none of minute, hour, day, week, "
        "month, single; did you mean day?"
    )
