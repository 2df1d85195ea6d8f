"""The times and bounds of a volumecap server."""

from msgspec import Struct

MS = 1_000_000
"""Nanoseconds in a millisecond."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times and bounds of a volumecap server; times in milliseconds, amounts in units.

    `strangers_max` bounds the caps that are remembered though no interval of them is known.
    """

    max_wait_ms: int = 50
    fresh_ms: int = 1000
    report_ms: int = 1000
    horizon_ms: int = 2000
    refund_window_ms: int = 60_000
    lead_ms: int = 10_000
    clock_margin_permille: int = 1
    ceiling_step_min: int = 64
    waiting_max: int = 10_000
    keys_max: int = 1_000_000
    marks_max: int = 1_000_000
    slots_max: int = 1 << 20
    strangers_max: int = 100_000
