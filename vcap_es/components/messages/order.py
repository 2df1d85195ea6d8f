"""The typed messages by which data centres put all their events into one order."""

from msgspec import Struct

from vcap_es.events.envelope import Recorded
from vcap_es.events.facts.bounds import Total


class PassStamp(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Let every event that you record from now on have this stamp or a larger one; then tell me.

    A stamp of 0 asks for nothing but how far you are.
    """

    number: Total
    stamp: Total


class StampPassed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """To your `number`: the events up to position `below` are all of mine with smaller stamps.

    No event of mine will have a smaller stamp than `passed`. Those up to position `before` are from
    before I took part. `members` are the data centres that have a part in the order, as I know;
    `why` says why it could not be, "" where it was.
    """

    number: Total
    passed: Total = 0
    before: Total = 0
    below: Total = 0
    members: list[str] = []
    why: str = ""


class ReadEvents(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Tell me up to `limit` of your events after this position."""

    number: Total
    after: Total
    limit: Total


class EventsRead(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """To your `number`: these events, in the order of their positions."""

    number: Total
    events: list[Recorded]


InOrder = PassStamp | StampPassed | ReadEvents | EventsRead
