"""The ids of consumes. Pure.

An id names the units that a consume took, so nothing has to be kept to understand it:

    0f3a.7.campaign.120-123     units 120 to 123 of what the server incarnation 0f3a spent in all
                                of interval 7 of the cap `campaign`
"""

from msgspec import Struct

from vcap_es.errors import InvalidInput
from vcap_es.shown import shown


class ConsumeId(Struct, frozen=True, gc=False):
    """What the id of a consume says: units `start` to `end` of what a server spent in all."""

    incarnation: str
    number: int
    cap: str
    start: int
    end: int


def find_consume_id(text: str) -> ConsumeId | None:
    """The parts of `<incarnation>.<number>.<cap>.<start>-<end>`; None if `text` is not that."""
    incarnation, _, rest = text.partition(".")
    number, _, rest = rest.partition(".")
    cap, _, bounds = rest.rpartition(".")
    start, _, end = bounds.partition("-")
    numbers = (number, start, end)
    is_numeric = all(each.isascii() and each.isdecimal() and len(each) <= 19 for each in numbers)
    if not (incarnation and cap and is_numeric) or int(start) >= int(end):
        return None
    return ConsumeId(incarnation, int(number), cap, int(start), int(end))


def parse_consume_id(text: str) -> ConsumeId:
    """Like `find_consume_id`; raises InvalidInput if `text` is anything else."""
    found = find_consume_id(text)
    if found is None:
        raise InvalidInput(
            f"{shown(text)} is not the id of a consume: give one as it was answered, like"
            " 0f3a.7.campaign.120-123"
        )
    return found
