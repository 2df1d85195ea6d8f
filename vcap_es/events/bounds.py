"""How far integers go that are recorded or told to others; what is beyond is not understood.

A log keeps 64 bits with a sign. What a node says is bounded where it is read, so that whatever
comes in can be recorded; what is counted on from there is bounded where it is decided.
"""

from typing import Annotated

from msgspec import Meta

from vcap_es.events.amounts import MAX_AMOUNT

Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Any integer of a fact: all that a log can keep, and so all that a log may hold already."""

Total = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
"""An amount, a running total or an instant, as a node tells it."""

Balance = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
"""An amount that may be a debt."""

COUNT_MAX = 2**62
"""What is counted by ones (versions, stamps of registers, intervals, epochs) ends here.

Nobody gets there by counting; whoever is told of more does not believe it.
"""

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
"""A number that is counted on by ones, as a node tells it."""
