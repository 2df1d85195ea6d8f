"""The times and bounds of a volumecap server."""

from typing import Annotated

from msgspec import Meta, Struct

from vcap_es.components.volumecap_server.keys.ledger import KEYS_MAX, RETENTION_MS

LIMIT_MAX = 10**10
"""No time in milliseconds and no count is larger: 115 days, and more than any memory holds."""

SLOTS_MAX = 1 << 26
"""Slices that have their cells in one journal, at most: those take a GiB."""

Positive = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
Retention = Annotated[int, Meta(ge=RETENTION_MS, le=LIMIT_MAX)]
Slots = Annotated[int, Meta(ge=1, le=SLOTS_MAX)]
Permille = Annotated[int, Meta(ge=0, le=500)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times and bounds of a volumecap server; times in milliseconds, amounts in units.

    With a `lead_ms` of 0, nothing of an interval is asked for before it begins.
    A consume is refunded until `refund_window_ms` after the end of its period, and where that is
    longer than any month, for `refund_age_ms` after it was taken.
    `strangers_max` bounds the caps that are remembered though no interval of them is known.
    Answers to idempotency keys are kept for `key_retention_ms`; beyond `keys_max` of them, each of
    up to 96 bytes, the oldest of the API key that has the most are evicted. `key_file_bytes_max`
    bounds a file of them. `marks_max` bounds holds and refunds of open intervals; beyond its share
    an API key is refused more of them.
    """

    max_wait_ms: Positive = 50
    fresh_ms: Positive = 1000
    report_ms: Positive = 1000
    horizon_ms: Positive = 2000
    refund_window_ms: Annotated[int, Meta(ge=0, le=LIMIT_MAX)] = 60_000
    refund_age_ms: Positive = 30 * 86_400_000
    lead_ms: Annotated[int, Meta(ge=0, le=LIMIT_MAX)] = 10_000
    clock_margin_permille: Permille = 1
    ceiling_step_min: Positive = 64
    waiting_max: Positive = 10_000
    key_retention_ms: Retention = RETENTION_MS
    keys_max: Positive = KEYS_MAX
    key_file_bytes_max: Positive = 16 * 1024 * 1024
    marks_max: Positive = 1_000_000
    slots_max: Slots = 1 << 20
    strangers_max: Positive = 100_000
