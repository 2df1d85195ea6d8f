"""The ids of consumes, as they are read."""

import pytest

from vcap_es.errors import InvalidInput
from vcap_es.events.consume_ids import ConsumeId, find_consume_id, parse_consume_id


def test_an_id_is_read_from_both_ends() -> None:
    """A cap id may have dots and dashes; the other parts have none."""
    assert parse_consume_id("0f.7.user:a.b-c.120-123") == ConsumeId("0f", 7, "user:a.b-c", 120, 123)


@pytest.mark.parametrize(
    "text",
    [
        *["", "0f.7.c", "0f.7.c.3", "0f.7.c.3-3", "0f.7.c.5-3", "0f.x.c.1-2", ".7.c.1-2"],
        *["0f.7..1-2", "0f.7.c.-1-2", "0f.7.c.1-²", "0f.7.c.1-" + "9" * 20],
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    """A text that no server can have answered names no consume."""
    assert find_consume_id(text) is None
    with pytest.raises(InvalidInput):
        parse_consume_id(text)
