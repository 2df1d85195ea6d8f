from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whenever import Instant

from vcap_es.errors import InvalidInput
from vcap_es.events.instants import LAST_INSTANT, format_instant, instant_of, parse_instant


@given(st.integers(0, LAST_INSTANT))
def test_what_is_written_reads_back(instant: int) -> None:
    """Every instant survives being written and read, to the microsecond."""
    assert parse_instant(format_instant(instant)) == instant


@given(st.integers(0, LAST_INSTANT))
def test_another_library_reads_the_same(instant: int) -> None:
    """What is written means the same to a reader that is not ours."""
    assert Instant.parse_iso(format_instant(instant)) == Instant.from_timestamp(
        instant, unit="microsecond"
    )


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2013-01-01T00:00:00-05:00", 1_357_016_400_000_000),
        ("2013-01-01t05:00:00z", 1_357_016_400_000_000),
        ("2013-01-01 05:00:00.5Z", 1_357_016_400_500_000),
        ("2013-01-01T05:00:00.000001+00:00", 1_357_016_400_000_001),
    ],
)
def test_forms_of_rfc_3339(text: str, instant: int) -> None:
    """Offsets, small letters, a blank for the T and up to six decimals are read."""
    assert parse_instant(text) == instant


def test_decimals_are_written_only_if_there_are_any() -> None:
    """A whole second is written without decimals."""
    assert format_instant(1_357_016_400_000_000) == "2013-01-01T05:00:00Z"
    assert format_instant(1_357_016_400_000_001) == "2013-01-01T05:00:00.000001Z"


@pytest.mark.parametrize(
    "text", ["2013-01-01T00:00:00", "2013-01-01 00:00", "2013-01-01T00:00:00.5"]
)
def test_a_local_time_is_no_instant(text: str) -> None:
    """A time without an offset is refused, and the message says what to add."""
    with pytest.raises(InvalidInput, match=r"has no offset.* add Z"):
        parse_instant(text)
    with pytest.raises(InvalidInput, match="has no offset"):
        instant_of(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2013-02-29T00:00:00Z", "not a real time"),
        ("2013-01-01T24:00:00Z", "not a real time"),
        ("2016-12-31T23:59:60Z", "not a real time"),
        ("2013-01-01T00:00:00+24:00", "not a real time"),
        ("2013-01-01T00:00:00.1234567Z", "RFC 3339"),
        ("2013-01-01", "RFC 3339"),
        ("٢٠١٣-01-01T00:00:00Z", "RFC 3339"),
        ("", "RFC 3339"),
        ("1969-12-31T23:59:59Z", "1970 to 9998"),
        ("9999-01-01T00:00:00Z", "1970 to 9998"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str, why: str) -> None:
    """What is no instant is refused, and the message says why."""
    with pytest.raises(InvalidInput, match=why):
        parse_instant(text)


def test_an_instant_beyond_all_years_cannot_be_written() -> None:
    """An integer that no calendar reaches is refused instead of overflowing."""
    with pytest.raises(InvalidInput, match="no year"):
        format_instant(2**63 - 1)
