"""What clients were promised of their idempotency keys, watched at one server from outside.

C13 for keys: an answered key gives no other answer within the retention time, whatever dies, as
long as its interval is open and the answer is among those that there is room for.
"""

from msgspec import Struct

from vcap_es.components.messages.client import Idempotency
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Outcome,
    Refused,
)
from vcap_es.components.volumecap_server.idempotency import sticks
from vcap_es.components.volumecap_server.keys.ledger import Place
from vcap_es.components.volumecap_server.volumecap_server import VolumecapServer
from vcap_es.events.consume_ids import find_shadow_id, parse_consume_id
from vcap_es.events.units import MS
from vcap_es.sim.environment.violations import Violation

EQUAL_PARTS = 4
"""Whoever has less than this part of the room never loses an answer to others."""

BATCH_COST = 4
"""A batch of simulated clients counts as fewer keys than this."""

Life = tuple[int, str]
"""How often the machine was lost, and the incarnation: with another one nothing is promised."""


class KeyPromise(Struct, frozen=True):
    """An answer that a key has, since when, of which intervals, and what was evicted until then."""

    outcome: object
    at_ns: int
    life: Life
    places: list[Place]
    evicted: int


class PromisedCall(Struct, frozen=True):
    """A keyed call, and what it must be answered, if there is a promise."""

    owner: str
    idempotency: Idempotency
    promise: KeyPromise | None


class Promises:
    """All keys that one server was asked with."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: dict[int, PromisedCall] = {}
        self._known: dict[tuple[str, str], KeyPromise] = {}
        self._evicted_before = 0

    def asks(
        self, token: int, owner: str, key: Idempotency, core: VolumecapServer, life: Life
    ) -> None:
        """Somebody asks with a key."""
        promise = self._known.get((owner, key.key))
        holds = promise is not None and self._holds(owner, promise, core, life)
        self._asked[token] = PromisedCall(owner, key, promise if holds else None)

    def _holds(self, owner: str, promise: KeyPromise, core: VolumecapServer, life: Life) -> bool:
        """Whether the server has to know the answer still."""
        holdings, limits = core.holdings, core.limits
        is_new = holdings.now_ns - promise.at_ns < limits.key_retention_ms * MS
        if promise.life != life or not is_new or not self._has_room(owner, promise, core):
            return False
        if isinstance(promise.outcome, Refused):
            found = holdings.slices.get(promise.places[0])
            current = holdings.slice_at(promise.places[0][0])
            if found is None or found.ended or holdings.now_ns >= found.end_ns:
                return False
            return current is None or current is found
        return any(each in holdings.slices for each in promise.places)

    def _has_room(self, owner: str, promise: KeyPromise, core: VolumecapServer) -> bool:
        if promise.evicted == self._evictions(core):
            return True
        mine = [each for (whose, _), each in self._known.items() if whose == owner]
        cost = sum(
            BATCH_COST if isinstance(each.outcome, ConsumedAll | ConsumedEach) else 1
            for each in mine
        )
        return cost <= core.limits.keys_max // EQUAL_PARTS

    def _evictions(self, core: VolumecapServer) -> int:
        return self._evicted_before + core.keys.ledger.evicted

    def dies(self, core: VolumecapServer) -> None:
        """The process ends: nobody is answered any more."""
        self._evicted_before = self._evictions(core)
        self._asked.clear()

    def answers(self, token: int, outcome: object, core: VolumecapServer, life: Life) -> None:
        """The server has answered a call, maybe one with a key."""
        asked = self._asked.pop(token, None)
        if asked is None or (isinstance(outcome, Refused) and outcome.code == "key_reused"):
            return
        if asked.promise is not None and outcome != asked.promise.outcome:
            raise Violation(
                "C13",
                f"{self._name}: {asked.owner}/{asked.idempotency.key} was answered "
                f"{asked.promise.outcome}, and is answered {outcome}",
            )
        promise = asked.promise or self._promise(asked, outcome, core, life)
        if promise is not None:
            self._bind_who_waits(asked, promise)

    def _promise(
        self, asked: PromisedCall, outcome: object, core: VolumecapServer, life: Life
    ) -> KeyPromise | None:
        """The promise that an answer is, if it is one."""
        if not isinstance(outcome, Outcome) or not sticks(outcome):
            return None
        places = _places(outcome, core)
        if not places:
            return None
        known = self._known.get((asked.owner, asked.idempotency.key))
        if known is not None and known.outcome == outcome:
            return known  # it may be told a little longer than it must, and is no newer for that
        promise = KeyPromise(outcome, core.holdings.now_ns, life, places, self._evictions(core))
        self._known[asked.owner, asked.idempotency.key] = promise
        return promise

    def _bind_who_waits(self, answered: PromisedCall, promise: KeyPromise) -> None:
        """Who waits with the same key for the same request gets the same answer."""
        key = answered.owner, answered.idempotency.key
        for token, each in self._asked.items():
            is_same = (each.owner, each.idempotency.key) == key
            if is_same and each.promise is None:
                self._asked[token] = PromisedCall(each.owner, each.idempotency, promise)


def _places(outcome: Outcome, core: VolumecapServer) -> list[Place]:
    """The intervals that an answer is about, as far as they are open."""
    slices = core.holdings.slices
    match outcome:
        case Refused(cap=cap):
            found = core.holdings.current.get(cap)
            return [found.key] if found is not None else []
        case ConsumedAll(items=items) | ConsumedEach(items=items):
            ids = [each.id for each in items if isinstance(each, Consumed)]
        case _:
            ids = [outcome.id]
    named = [find_shadow_id(id_) or parse_consume_id(id_) for id_ in ids if id_]
    return [place for each in named if (place := (each.cap, each.number)) in slices]
