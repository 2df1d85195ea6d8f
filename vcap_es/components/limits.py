"""The times and bounds of a volumecap server."""

from typing import Annotated

from msgspec import Meta, Struct

MS = 1_000_000
"""Nanoseconds in a millisecond."""

LIMIT_MAX = 10**10
"""No time in milliseconds and no count is larger: 115 days, and more than any memory holds."""

SLOTS_MAX = 1 << 26
"""So many slices at most have their cells in one journal: those take a GiB."""

Positive = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
Slots = Annotated[int, Meta(ge=1, le=SLOTS_MAX)]
Permille = Annotated[int, Meta(ge=0, le=500)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times and bounds of a volumecap server; times in milliseconds, amounts in units.

    `strangers_max` bounds the caps that are remembered though no interval of them is known.
    """

    max_wait_ms: Positive = 50
    fresh_ms: Positive = 1000
    report_ms: Positive = 1000
    horizon_ms: Positive = 2000
    refund_window_ms: Annotated[int, Meta(ge=0, le=LIMIT_MAX)] = 60_000
    lead_ms: Positive = 10_000
    clock_margin_permille: Permille = 1
    ceiling_step_min: Positive = 64
    waiting_max: Positive = 10_000
    keys_max: Positive = 1_000_000
    marks_max: Positive = 1_000_000
    slots_max: Slots = 1 << 20
    strangers_max: Positive = 100_000
