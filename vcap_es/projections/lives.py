"""The life of one cap, as far as it can be asked about: folded event by event, and kept as bytes.

A `CapLife` knows at each event where every unit is, which events put it there, and what each server
has, lot by lot. It can be taken as bytes at any event and restored from them, so that a question
about any moment takes the events since the last such chapter, and not all since the first.
"""

from hashlib import sha256

from msgspec import DecodeError, Struct, field, inspect, msgpack

from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import (
    Fact,
    HoldingRecovered,
    IntervalClosed,
    Returned,
    SpendReported,
    ToppedUp,
    TopupRecovered,
)
from vcap_es.projections.consumes import Lifetime, Purse, spend_into
from vcap_es.projections.explanations import Tallies, add_up
from vcap_es.projections.history import Place, narrowed
from vcap_es.projections.statement import Posting, Statement
from vcap_es.projections.states.interval import Interval
from vcap_es.projections.states.meta import Meta

MEANING = 1
"""Raised when facts lead to other lives though the structs stay as they are."""


class IntervalLedger(Struct, array_like=True):
    """What is known of one interval besides its amounts.

    `opened` is the position of its first event, and `events` counts them all; `purses` are what
    its servers have, by incarnation.
    """

    opened: int
    events: int = 0
    lifetime: Lifetime = field(default_factory=Lifetime)
    tallies: Tallies = {}
    purses: dict[str, Purse] = {}

    def purse(self, server: str) -> Purse:
        """What `server` has of it."""
        found = self.purses.get(server)
        if found is None:
            found = self.purses[server] = Purse()
        return found


class ClosedBooks(Struct, array_like=True):
    """An interval that is closed, by the event at the position `closed`, and its ledger."""

    interval: Interval
    ledger: IntervalLedger
    closed: int


class _Chapter(Struct, array_like=True):
    position: int
    latest: int
    meta: Meta | None
    balances: dict[int, dict[Place, int]]
    ledgers: dict[int, IntervalLedger]


FORMAT = sha256(f"{MEANING} {inspect.type_info(_Chapter)!r}".encode()).digest()
"""The digest of everything that a life is made of: names, types and defaults of all fields."""

_decoder = msgpack.Decoder(_Chapter)
_encoder = msgpack.Encoder()


class CapLife:
    """The life of `cap` up to its event at `position`; feed it every event of the cap.

    `latest` is the latest instant that any of them was recorded at, in microseconds UTC. `ledgers`
    are those of the intervals that are not closed, by number; `closed` are those that have closed
    since somebody last took them out of that list.
    """

    def __init__(self, cap: str) -> None:
        self.cap = cap
        self.position, self.latest = 0, -(2**63)
        self.statement = Statement(cap)
        self.ledgers: dict[int, IntervalLedger] = {}
        self.closed: list[ClosedBooks] = []

    @property
    def meta(self) -> Meta | None:
        """The definition in force and the intervals that are not closed; None before the first."""
        return self.statement.history.state.metas.get(self.cap)

    def feed(self, event: Recorded) -> None:
        """Take in the next event; one that does not speak of the cap changes nothing."""
        fact = narrowed(event.fact, self.cap)
        if fact is None:
            return
        postings = self.statement.post(fact)
        self.position, self.latest = event.position, max(self.latest, event.recorded_at)
        touched: dict[int, IntervalLedger] = {}
        for posting in postings:
            if posting.number is not None:
                touched[posting.number] = self._add(posting, event)
        for ledger in touched.values():
            ledger.events += 1
        self._follow(fact, event)

    def take(self) -> bytes:
        """This life as bytes; what has closed is not in them."""
        return _encoder.encode(
            _Chapter(self.position, self.latest, self.meta, self.statement.balances, self.ledgers)
        )

    @classmethod
    def restore(cls, cap: str, taken: bytes) -> "CapLife":
        """The life that `take` gave the bytes of. Raises ValueError where they are none."""
        try:
            chapter = _decoder.decode(taken)
        except DecodeError as error:
            raise ValueError(f"these bytes are no life of {cap}: {error}") from error
        life = cls(cap)
        life.position, life.latest = chapter.position, chapter.latest
        life.statement = Statement(cap, chapter.meta, chapter.balances)
        life.ledgers = chapter.ledgers
        return life

    def _add(self, posting: Posting, event: Recorded) -> IntervalLedger:
        assert posting.number is not None, "it is of an interval"
        ledger = self.ledgers.get(posting.number)
        if ledger is None:
            ledger = self.ledgers[posting.number] = IntervalLedger(event.position)
        add_up(ledger.tallies, posting, event.position)
        return ledger

    def _follow(self, fact: Fact, event: Recorded) -> None:
        """Keep account of each server's lots, and of when intervals open and end."""
        match fact:
            case SpendReported():
                for entry in fact.entries:
                    self.ledgers[entry.number].purse(fact.incarnation).report(entry, event)
            case ToppedUp() | TopupRecovered() | HoldingRecovered() | Returned():
                spend_into(self.ledgers[fact.number].purse(fact.incarnation), fact, event)
            case IntervalClosed():
                self._close(fact.number, event)
            case _:
                number = getattr(fact, "number", None)
                if number in self.ledgers:
                    self.ledgers[number].lifetime.take_in(fact, event.recorded_at)

    def _close(self, number: int, event: Recorded) -> None:
        ledger = self.ledgers.pop(number)
        ledger.lifetime.closed_at = event.recorded_at
        history = self.statement.history
        (interval,) = history.closed.pop(self.cap)
        self.statement.balances.pop(number, None)
        self.closed.append(ClosedBooks(interval, ledger, event.position))
