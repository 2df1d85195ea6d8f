"""Instants: integer microseconds UTC, and RFC 3339 for people."""

import re
from datetime import UTC, datetime, timedelta

from vcap_es.errors import InvalidInput
from vcap_es.shown import shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# The year 9999 is left free, so that the period of every instant has an end that can be written.
LAST_INSTANT = (datetime(9999, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND - 1

_LOCAL = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def parse_instant(text: str) -> int:
    """The instant that an RFC 3339 `text` names, in microseconds UTC.

    "2013-01-01T00:00:00Z", or with an offset: "2013-01-01T00:00:00+01:00"; up to six decimals of
    a second.

    Raises InvalidInput if the text is anything else, names no real time, or lies before 1970 or
    after 9998.
    """
    found = _RFC_3339.fullmatch(text.upper())
    if found is None:
        raise InvalidInput(_what_is_wrong(text))
    day, time, decimals, offset = found.groups()
    try:
        # Six decimals and an offset in digits are what every datetime reads.
        microseconds = (decimals or ".").ljust(7, "0")
        moment = datetime.fromisoformat(
            f"{day}T{time}{microseconds}{offset.replace('Z', '+00:00')}"
        )
    except ValueError as error:
        raise InvalidInput(f"{shown(text)} is not a real time: {error}") from error
    return instant_of(moment)


def instant_of(moment: datetime) -> int:
    """The instant of an aware `moment`, in microseconds UTC.

    Raises InvalidInput if the moment has no offset, or lies before 1970 or after 9998.
    """
    if moment.utcoffset() is None:
        raise InvalidInput(_what_is_wrong(moment.isoformat()))
    return check_instant((moment - EPOCH) // MICROSECOND)


def check_instant(instant: int) -> int:
    """`instant` itself, if it lies in the years 1970 to 9998; raises InvalidInput if not."""
    if 0 <= instant <= LAST_INSTANT:
        return instant
    raise InvalidInput(
        f"an instant lies in the years 1970 to 9998; {shown(instant)} microseconds do not"
    )


def format_instant(instant: int) -> str:
    """`instant` (microseconds UTC) as RFC 3339, with decimals only if there are any.

    Raises InvalidInput if it lies outside the years 1 to 9999.
    """
    try:
        moment = EPOCH + instant * MICROSECOND
    except OverflowError as error:
        raise InvalidInput(f"no year has the instant {shown(instant)}") from error
    return moment.isoformat().removesuffix("+00:00") + "Z"


def _what_is_wrong(text: str) -> str:
    if re.fullmatch(_LOCAL, text.upper()):
        return (
            f"{shown(text)} has no offset, so it names no instant: add Z for UTC, or an offset "
            "like +01:00, or give a date alone for the first instant of that day"
        )
    return f"{shown(text)} is not an RFC 3339 instant such as 2013-01-01T00:00:00Z"
