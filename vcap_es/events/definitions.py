"""The definition of one cap as people write and read it. Pure.

A file of caps and the JSON body of the control plane are read by the same `definition_from`.
Whatever is not understood is refused, never skipped.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from typing import TypeVar, get_args

from vcap_es.errors import InvalidDefinition, InvalidInput, VcapError
from vcap_es.events.amounts import check_amount
from vcap_es.events.facts.meta import Definition, IntervalKind, Mode, Pacing
from vcap_es.events.instants import check_instant, format_instant, instant_of, parse_instant
from vcap_es.events.periods import check_single_has_end, start_of_day
from vcap_es.events.placements import check_placement
from vcap_es.events.zones import check_timezone
from vcap_es.shown import shown

MAX_LABELS = 64
MAX_LABEL_LENGTH = 256

FIELDS = Definition.__struct_fields__

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MATCH = re.compile(r"[A-Za-z0-9._:*-]{1,128}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME_RULE = "1 to 128 letters, digits or . _ : - of ASCII"
_MAX_MISSPELT = 64

T = TypeVar("T")
D = TypeVar("D")


def definition_from(fields: Mapping[str, object], where: str) -> Definition:
    """The definition that `fields` spell out, keyed as the fields of Definition are.

    `start` and `end` may be a date (the first instant of that day in the cap's zone) or an
    instant, each as a text or as a value of TOML. None stands for a field that is not set.

    Raises InvalidDefinition; the message begins with `where` and names the key.
    """
    refuse_unknown(fields, FIELDS, where)
    if fields.get("total") is None:
        raise InvalidDefinition(f"{where}: total is missing: say how many units an interval has")

    def read(key: str, reader: Callable[[object], T], default: D) -> T | D:
        value = fields.get(key)
        try:
            return default if value is None else reader(value)
        except VcapError as error:
            raise InvalidDefinition(f"{where}, {key}: {error}") from error

    timezone = read("timezone", check_timezone, "UTC")

    def bound(value: object) -> int:
        return _bound(value, timezone)

    definition = Definition(
        total=read("total", _units, 0),
        interval=read("interval", _one_of(get_args(IntervalKind)), "day"),
        timezone=timezone,
        start=read("start", bound, None),
        end=read("end", bound, None),
        initial_total=read("initial_total", _units, None),
        group=read("group", _group, None),
        labels=read("labels", _labels, {}),
        mode=read("mode", _one_of(get_args(Mode)), "hard"),
        pacing=read("pacing", _one_of(get_args(Pacing)), "asap"),
        placement=read("placement", check_placement, "local"),
    )
    try:
        _check_together(definition)
    except VcapError as error:
        raise InvalidDefinition(f"{where}: {error}") from error
    return definition


def describe(cap_or_match: str, definition: Definition) -> dict[str, object]:
    """`definition` as people read it, fit for JSON: the inverse of `definition_from`.

    Begins with `id`, or with `match` for a template. Instants are RFC 3339 in UTC; what is not
    set is left out.
    """
    described: dict[str, object] = {"match" if "*" in cap_or_match else "id": cap_or_match}
    for key in FIELDS:
        value = getattr(definition, key)
        if value is not None and value != {}:
            described[key] = format_instant(value) if key in ("start", "end") else value
    return described


def check_cap_id(value: object) -> str:
    """`value` itself, if it can be the id of a cap; raises InvalidInput if not."""
    return _fitting(_NAME, value, _NAME_RULE)


def check_match(value: object) -> str:
    """`value` itself, if it can be what a template matches; raises InvalidInput if not."""
    match = _fitting(_MATCH, value, "1 to 128 letters, digits or . _ : - * of ASCII")
    if "*" not in match:
        raise InvalidInput(f"{shown(match)} has no * for any characters; for one cap write id")
    return match


def refuse_unknown(fields: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise InvalidDefinition for the first of `fields` that is not `known`."""
    known = list(known)
    for key in fields:
        if key not in known:
            hint = _alike(key, known) or f"; known are {', '.join(known)}"
            raise InvalidDefinition(f"{where}: key {shown(key)} is not known{hint}")


def _units(value: object) -> int:
    return check_amount(value, minimum=0)


def _bound(value: object, timezone: str) -> int:
    """The instant of a text or TOML value; a date is its first instant in the zone."""
    if isinstance(value, str):
        value = _date(value) if _DATE.fullmatch(value) else parse_instant(value)
        return value if isinstance(value, int) else _first_instant(value, timezone)
    # A datetime is a date to Python, so it is asked about first.
    if isinstance(value, datetime):
        return instant_of(value)
    if isinstance(value, date):
        return _first_instant(value, timezone)
    raise InvalidInput(
        f"{shown(value)} is neither a date such as 2013-01-01 nor an instant such as "
        "2013-01-01T00:00:00Z"
    )


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{shown(text)} is not a real date: {error}") from error


def _first_instant(day: date, timezone: str) -> int:
    if not 1970 <= day.year <= 9998:
        raise InvalidInput(f"a date lies in the years 1970 to 9998; {day} does not")
    return check_instant(start_of_day(timezone, day))


def _one_of(choices: tuple[T, ...]) -> Callable[[object], T]:
    def read(value: object) -> T:
        for choice in choices:
            if value == choice:
                return choice
        names = [str(choice) for choice in choices]
        raise InvalidInput(f"{shown(value)} is none of {', '.join(names)}{_alike(value, names)}")

    return read


def _group(value: object) -> str:
    return _fitting(_NAME, value, _NAME_RULE)


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_LABELS:
        raise InvalidInput(f"labels are a table of at most {MAX_LABELS} texts, not {shown(value)}")
    return {_fitting(_NAME, key, _NAME_RULE): _label(text) for key, text in value.items()}


def _label(value: object) -> str:
    if isinstance(value, str) and len(value) <= MAX_LABEL_LENGTH:
        return value
    raise InvalidInput(
        f"a label is a text of at most {MAX_LABEL_LENGTH} characters, not {shown(value)}"
    )


def _check_together(definition: Definition) -> None:
    """Refuse fields that are right one by one and wrong beside each other."""
    start, end = definition.start, definition.end
    check_single_has_end(definition)
    if start is not None and end is not None and end <= start:
        raise InvalidInput(
            f"end, {format_instant(end)}, is not after start, {format_instant(start)}"
        )
    if definition.initial_total is None:
        return
    if start is None or definition.interval == "single":
        raise InvalidInput(
            "initial_total is for a first period that start cuts short, so it needs a start and "
            "an interval other than single"
        )


def _fitting(pattern: re.Pattern[str], value: object, rule: str) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise InvalidInput(f"{shown(value)} is not {rule}")


def _alike(value: object, known: Iterable[str]) -> str:
    if not isinstance(value, str) or len(value) > _MAX_MISSPELT:
        return ""
    close = get_close_matches(value.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
