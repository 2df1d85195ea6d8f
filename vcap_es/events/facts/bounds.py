"""How far integers go that are recorded or told to others; what is beyond is not understood.

A log keeps 64 bits with a sign. What a node says is bounded where it is read, so that whatever
comes in can be recorded; what is counted on from there is bounded where it is decided.
"""

from typing import Annotated

from msgspec import Meta

LONG_MAX = 2**63 - 1
"""The largest integer that a log, a journal and its cells keep."""

Long = Annotated[int, Meta(ge=-LONG_MAX - 1, le=LONG_MAX)]
"""Any integer of a fact: all that a log can keep, and so all that a log may hold already."""

Total = Annotated[int, Meta(ge=0, le=LONG_MAX)]
"""An amount, a running total or an instant, as a node tells it."""

Balance = Annotated[int, Meta(ge=-LONG_MAX, le=LONG_MAX)]
"""An amount that may be a debt."""

COUNT_MAX = 2**62
"""What is counted by ones (versions, stamps of registers, intervals, epochs) ends here.

Nobody gets there by counting; whoever is told of more does not believe it.
"""

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
"""A number that is counted on by ones, as a node tells it."""
