"""The ids of consumes. Pure.

An id names the units that a consume took, so nothing has to be kept to understand it:

    0f3a.7.campaign.120-123     units 120 to 123 of what the server incarnation 0f3a spent in all
                                of interval 7 of the cap `campaign`

A shadow cap says yes also where it takes nothing. The id of that yes says how much was asked:

    0f3a.7.campaign.shadow-3
"""

from msgspec import Struct

from vcap_es.errors import InvalidInput
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.shown import shown

_SHADOW = "shadow-"


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


def shadow_id(origin: str, amount: int) -> str:
    """The id of a yes to `amount` units that took none; `origin` is how ids of its slice begin."""
    return f"{origin}{_SHADOW}{amount}"


def find_shadow_id(text: str) -> ConsumeId | None:
    """The parts of `<incarnation>.<number>.<cap>.shadow-<amount>`; None if `text` is not that.

    The units that it would have been are counted from 0.
    """
    origin, _, bounds = text.rpartition(".")
    amount = bounds.removeprefix(_SHADOW)
    if amount == bounds or not (amount.isascii() and amount.isdecimal() and len(amount) <= 19):
        return None
    named = find_consume_id(f"{origin}.0-{amount}")
    return None if named is None or named.end > MAX_AMOUNT else named


def cap_of_id(text: str) -> str:
    """The cap that an id is of; raises InvalidInput if `text` is no id."""
    return (find_shadow_id(text) or parse_consume_id(text)).cap


def parse_consume_id(text: str) -> ConsumeId:
    """Like `find_consume_id`; raises InvalidInput if `text` is anything else."""
    found = find_consume_id(text)
    if found is None and find_shadow_id(text) is not None:
        raise InvalidInput(
            f"{shown(text)} is the id of a yes that a shadow cap gave without taking anything: no"
            " event has to do with it"
        )
    if found is None:
        raise InvalidInput(
            f"{shown(text)} is not the id of a consume: give one as it was answered, like"
            " 0f3a.7.campaign.120-123"
        )
    return found
