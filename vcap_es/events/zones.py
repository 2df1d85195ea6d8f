"""Time zones, read from the `tzdata` package alone.

The zones of the operating system are never asked: two nodes with the same packages then compute
the same periods, whatever the machines below them have installed. The search path of `zoneinfo` is
left as it is, because it belongs to the whole process, and that may be somebody else's.
"""

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.resources import files
from zoneinfo import ZoneInfo

from vcap_es.errors import InvalidDefinition
from vcap_es.shown import shown

_MAX_NAME = 64


@cache
def tzdata_version() -> str:
    """The release of the time zone database that periods are computed with, as in "2026a"."""
    return str(import_module("tzdata").IANA_VERSION)


@cache
def zone_names() -> frozenset[str]:
    """The names of all zones that a cap can be defined in."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())


def check_timezone(name: object) -> str:
    """`name` itself, if it is the name of an IANA zone.

    Raises InvalidDefinition, with the names that look alike.
    """
    if isinstance(name, str) and name in zone_names():
        return name
    raise InvalidDefinition(f"{shown(name)} is not a time zone of the IANA database{_alike(name)}")


@cache
def zone(name: str) -> ZoneInfo:
    """The zone called `name`; there are only as many as the database has.

    Raises InvalidDefinition if there is none.
    """
    parts = check_timezone(name).split("/")
    with files("tzdata").joinpath("zoneinfo", *parts).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


def _alike(name: object) -> str:
    if not isinstance(name, str) or len(name) > _MAX_NAME:
        return ""
    by_lower = {known.lower(): known for known in sorted(zone_names())}
    by_city = {lower.rpartition("/")[2]: known for lower, known in by_lower.items()}
    wanted = name.lower().replace(" ", "_")
    close = [by_lower[lower] for lower in get_close_matches(wanted, by_lower, cutoff=0.75)]
    close += [by_city[wanted]] if wanted in by_city else []
    names = list(dict.fromkeys(close))
    return f"; did you mean {' or '.join(names)}?" if names else ""
