"""One order of the events of all data centres: by stamp, then data centre, then position.

Up to a watermark, below which no data centre will ever record anything again, the place of an event
in it is for ever. It is told as a number: how many events of all data centres come before it.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge

from vcap_es.events.envelope import Recorded

Place = tuple[int, str, int]


def place_of(event: Recorded) -> Place:
    """Where an event stands: what is smaller comes earlier."""
    return event.recorded_at, event.dc, event.position


def in_order(logs: Iterable[Iterable[Recorded]]) -> Iterator[Recorded]:
    """The events of several logs, each in the order of its positions, in the one order of all."""
    return merge(*logs, key=place_of)


def number_after(after: Mapping[str, int], before: Mapping[str, int]) -> int:
    """How many events come up to these positions, not counting those from before the order."""
    return sum(position - before.get(dc, 0) for dc, position in after.items())
