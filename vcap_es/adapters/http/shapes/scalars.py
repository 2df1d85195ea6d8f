"""The scalars of the control plane's JSON: names, units and instants."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from vcap_es.adapters.http.request_bodies import CAP_ID
from vcap_es.events.amounts import MAX_AMOUNT
from vcap_es.events.definitions import MAX_LABEL_LENGTH
from vcap_es.events.instants import format_instant
from vcap_es.events.placements import CENTRE

CentreName = Annotated[str, Meta(pattern=f"^{CENTRE}$")]


Name = Annotated[str, Meta(pattern=f"^{CAP_ID}$")]


Units = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]


Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


Bound = Annotated[
    str,
    Meta(
        description="An RFC 3339 instant, or a date: its first instant in the cap's zone.",
        examples=["2013-01-01", "2013-01-01T00:00:00Z"],
    ),
]


Label = Annotated[str, Meta(max_length=MAX_LABEL_LENGTH)]


def shown_fields(value: Struct, shape: type[Struct]) -> dict[str, Any]:
    """The fields of a fact, its instants as people read them."""
    fields = {name: getattr(value, name) for name in shape.__struct_fields__}
    instants = fields.keys() & {"start", "end", "at"}
    return {**fields, **{name: format_instant(fields[name]) for name in instants}}


def formatted_instant(instant: int | None) -> str | None:
    """An instant as people read it; None stays None."""
    return None if instant is None else format_instant(instant)
