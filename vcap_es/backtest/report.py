"""What a backtest found, as it is printed and as it is written in JSON."""

from msgspec import Struct


class IntervalReport(Struct, frozen=True, kw_only=True):
    """One interval of a cap, in units; `start` and `end` are RFC 3339 in UTC, half-open.

    `refused` was asked for inside the interval and refused. `stranded` is the part of it that the
    interval still had, over all places, when it was refused.
    """

    start: str
    end: str
    total: int
    consumed: int
    refused: int
    stranded: int


class CapReport(Struct, frozen=True, kw_only=True):
    """The intervals of a cap between the first line of the trace and the last, oldest first."""

    intervals: list[IntervalReport]


class BacktestTotals(Struct, frozen=True, kw_only=True):
    """Sums over all caps, in units.

    `outside` was asked for before a cap's start or after its end. `events` are those on the log;
    `seconds` is how long the backtest took, of real time.
    """

    consumed: int
    refused: int
    stranded: int
    outside: int
    events: int
    seconds: float
    consumes_per_second: int


class BacktestReport(Struct, frozen=True, kw_only=True):
    """What caps would have done on recorded traffic."""

    caps: dict[str, CapReport]
    totals: BacktestTotals
