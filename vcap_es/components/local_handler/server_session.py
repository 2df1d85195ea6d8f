"""A connected volumecap server, and what it must be told with the next round."""

from msgspec import Struct, field

from vcap_es.events.facts import (
    Version,
)
from vcap_es.projections.states.interval import IntervalKey


class ServerSession(Struct):
    """A connected volumecap server, and what it must be told with the next round.

    `strangers` are the caps that it watches and that are not defined, oldest first; `reminded` is
    what was moved to it and it has not spoken of, `remind_at` when it is told so next. `heard` are
    the versions of definitions that it serves by, of caps of which it was asked.
    """

    connection: int
    incarnation: str
    session: str
    name: str
    address: str
    connected_at: int
    echo_ns: int = 0
    tell: dict[IntervalKey, None] = field(default_factory=dict)
    announce: dict[str, None] = field(default_factory=dict)
    watches: set[str] = field(default_factory=set)
    strangers: dict[str, None] = field(default_factory=dict)
    reminded: dict[IntervalKey, None] = field(default_factory=dict)
    remind_at: int = 0
    heard: dict[str, Version] = field(default_factory=dict)
