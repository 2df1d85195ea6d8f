"""How long primacy waits for what. No safety rests on any of it: only when something is tried."""

from typing import Annotated

from msgspec import Meta, Struct

Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]


class Timings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations in milliseconds of the boot clock.

    A leader sends a heartbeat every `heartbeat_ms` and acknowledges nothing when no majority has
    answered for `lead_ms`. A voter that heard a leader within `sticky_ms` promises nobody else
    anything. A follower stands for election after `sticky_ms` and up to `spread_ms` of silence,
    and again after `retry_ms` to three times that. A leader goes on alone when its follower is
    silent for `degrade_ms`, or its connection is gone for `reset_ms`; with `is_strict` it never
    does. Who is let in sync holds up acknowledgements for `join_ms` at most; the leader then goes
    on without it, and tries again after `degrade_ms`, with twice the patience each time, up to
    that. A leader without a follower for `spawn_ms` starts one, again after twice as long, up to
    `spawn_max_ms`. A switchover is given up after `transfer_ms`.
    """

    heartbeat_ms: Milliseconds = 100
    lead_ms: Milliseconds = 800
    sticky_ms: Milliseconds = 1000
    spread_ms: Milliseconds = 300
    retry_ms: Milliseconds = 150
    degrade_ms: Milliseconds = 2000
    reset_ms: Milliseconds = 500
    join_ms: Milliseconds = 300
    spawn_ms: Milliseconds = 3000
    spawn_max_ms: Milliseconds = 60_000
    transfer_ms: Milliseconds = 2000
    is_strict: bool = False
