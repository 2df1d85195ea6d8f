"""What a section of the benchmarks gives: rows, each a figure with its unit, and maybe an aim.

`BENCH_SIZE=tiny` makes every section a matter of seconds. Its figures mean nothing: it shows that
all parts still work together.
"""

import os
from typing import TypeVar

from msgspec import Struct

IS_TINY = os.environ.get("BENCH_SIZE", "") == "tiny"

Sized = TypeVar("Sized")


def sized(normal: Sized, *, tiny: Sized) -> Sized:
    """How much of something there is in a run of this size."""
    return tiny if IS_TINY else normal


class Row(Struct, frozen=True):
    """One figure. `reached` says whether its `aim` is; None where there is none, or no value."""

    figure: str
    value: str
    unit: str
    aim: str = ""
    reached: bool | None = None
