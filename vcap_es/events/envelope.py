"""An event: a fact with when, where and by whom it was recorded."""

from msgspec import Struct

from vcap_es.events.facts import Fact
from vcap_es.events.facts.bounds import Count, Long, Total


class Draft(Struct, frozen=True, kw_only=True, gc=False):
    """A fact that was decided and waits to be recorded.

    `event_id` is 16 bytes; appending the same id twice records once. `recorded_at` is in
    microseconds UTC and never runs backwards. `actor` names who caused it (an API key, a node);
    `correlation` the request it belongs to, or "".
    """

    event_id: bytes
    recorded_at: int
    dc: str
    actor: str
    correlation: str
    fact: Fact


class Recorded(Struct, frozen=True, kw_only=True, gc=False):
    """An event on the log.

    Positions start at 1 and only grow. `link` is 32 bytes: the hash over the link of the event
    before and all other fields of this one.
    """

    position: Total
    epoch: Count
    event_id: bytes
    recorded_at: Long
    dc: str
    actor: str
    correlation: str
    fact: Fact
    link: bytes
