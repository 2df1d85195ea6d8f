"""A consume of several caps: all of them or none.

Each slice sets its units aside, in the order of cap ids, so that two such consumes never wait for
each other; only when all have are they spent.
"""

from collections.abc import Callable

from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, ConsumedAll, Refused
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.slice import Slice, Waiter
from vcap_es.events.units import MS

Done = Callable[[ConsumedAll | Refused, list[Slice]], None]


class AllOrNone:
    """One such call.

    `shadow` gives a shadow cap's answer in the place of a refusal, if the cap is one; `consumed`
    describes what was just spent; `done` takes the outcome and the slices touched.
    """

    def __init__(
        self,
        holdings: SliceEngine,
        items: list[Consume],
        *,
        shadow: Callable[[Consume, Refused], Consumed | None],
        consumed: Callable[[Slice, int], Consumed],
        done: Done,
    ) -> None:
        self._holdings, self._items = holdings, items
        self._shadow, self._consumed, self._done = shadow, consumed, done
        self._order = sorted(range(len(items)), key=lambda index: items[index].cap)
        self._deadline_ns = holdings.now_ns + holdings.limits.max_wait_ms * MS
        self._pinned: dict[int, Slice] = {}
        self._shadowed: dict[int, Consumed] = {}

    def go_on(self) -> None:
        """Set the next item aside, or spend them all."""
        settled = len(self._pinned) + len(self._shadowed)
        if settled == len(self._items):
            self._spend()
        else:
            self._pin(self._order[settled])

    def _pin(self, index: int) -> None:
        item = self._items[index]

        def taken(found: Slice, _: int) -> None:
            self._pinned[index] = found
            self.go_on()

        def refused(refusal: Refused) -> None:
            shadowed = self._shadow(item, refusal)
            if shadowed is None:
                self._refuse(refusal)
            else:
                self._shadowed[index] = shadowed
                self.go_on()

        low, high, until = item.minimum, item.maximum, self._deadline_ns
        self._holdings.enqueue(Waiter(item.cap, low, high, until, taken, refused, pins=True))

    def _spend(self) -> None:
        if not all(found.is_open(self._holdings.now_ns) for found in self._pinned.values()):
            self._begin_again()
            return
        answers: list[Consumed] = []
        for index, item in enumerate(self._items):
            found = self._pinned.get(index)
            if found is not None:
                self._holdings.unpin(found, item.maximum, spend=True)
                answers.append(self._consumed(found, item.maximum))
            else:
                answers.append(self._shadowed[index])
        touched = list(self._pinned.values())
        self._done(ConsumedAll(items=answers), touched)
        self._wake(touched)

    def _begin_again(self) -> None:
        """An interval ended while we waited for another cap; its units are not ours any more."""
        self._let_go()
        self._shadowed = {}
        self.go_on()

    def _refuse(self, refusal: Refused) -> None:
        self._done(refusal, [])
        self._let_go()

    def _let_go(self) -> None:
        pinned, self._pinned = self._pinned, {}
        for index, found in pinned.items():
            self._holdings.unpin(found, self._items[index].maximum, spend=False)
        self._wake(list(pinned.values()))

    def _wake(self, slices: list[Slice]) -> None:
        for found in slices:
            self._holdings.wake(found)
