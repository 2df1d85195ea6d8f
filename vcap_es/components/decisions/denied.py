"""How a master says no to an operator: a result, not an exception."""

from typing import Literal

from msgspec import Struct

DenialCode = Literal[
    "unknown_cap",
    "unknown_template",
    "unknown_placement",
    "placement_in_use",
    "too_many_placements",
    "unknown_key",
    "key_exists",
    "last_admin_key",
    "too_many_keys",
    "version_conflict",
    "retired",
    "not_home",
    "home_unreachable",
    "clock_ahead",
    "counted_out",
    "unknown_centre",
    "centre_lost",
    "too_many_centres",
    "has_heir",
    "drains",
    "is_home",
    "is_here",
    "not_in_sync",
    "switchover_failed",
    "leads_already",
    "never_admitted",
    "other_cluster",
    "unknown_server",
    "unconfirmed",
]


class Denied(Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was recorded, because of `code`; `detail` says what to do.

    `home` is the data centre that decides it, where that is another one.
    """

    code: DenialCode
    detail: str
    home: str = ""
