"""Idempotency keys: the same key gives the same answer, for a retention time.

Who calls with a key that waits gets the first call's answer. An answer is kept for the retention
time, but never past the close of its interval, and a `capped` never past its period. Beyond the
room there is the oldest answers of whoever has the most are evicted; a call that waits never is.
"""

from hashlib import sha256

from msgspec import Struct

from vcap_es.components.messages.client import Idempotency
from vcap_es.components.messages.outcomes import ConsumedAll, ConsumedEach, Outcome, Refused
from vcap_es.components.volumecap_server.key_files import KeyFiles
from vcap_es.components.volumecap_server.keys.ledger import DIGEST_BYTES, Place, record_of
from vcap_es.components.volumecap_server.keys.packed_answers import pack, unpack
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Entry, Journal, Keyed
from vcap_es.components.volumecap_server.slices.slice import Slice

MARK_BYTES = 8
"""What is kept of what a call asked, to tell another request with its key."""


class Pending(Struct, frozen=True):
    """A keyed call without an answer yet: what it asks, and who waits for it."""

    caller: str
    digest: bytes
    mark: bytes
    waiting: list[int]


class IdempotencyKeys:
    """The keyed calls of one server: those that wait, and the answers of the others."""

    def __init__(self, holdings: SliceEngine, journal: Journal) -> None:
        self._holdings = holdings
        self.ledger = journal.keys
        self.ledger.limit(holdings.limits.keys_max, holdings.limits.key_retention_ms)
        self._files = KeyFiles(holdings, journal)
        self._waiting: dict[tuple[str, bytes], Pending] = {}

    # ---- calls

    def admit(self, caller: str, idempotency: Idempotency, token: int) -> Pending | Outcome | None:
        """A call to be done and then to `finish`, an answer, or None: `token` waits for another."""
        digest, mark = key_digest(idempotency.key), mark_of(idempotency.fingerprint)
        pending = self._waiting.get((caller, digest))
        if pending is not None:
            if pending.mark != mark:
                return _reused()
            pending.waiting.append(token)
            return None
        record = self.ledger.find(caller, digest)
        known = self._known(record[MARK_BYTES:]) if record is not None else None
        if record is None or known is None:
            pending = self._waiting[caller, digest] = Pending(caller, digest, mark, [token])
            return pending
        return known if record[:MARK_BYTES] == mark else _reused()

    def _known(self, data: bytes) -> Outcome | None:
        """An answer that holds still: its interval is open, or if it is a refusal its period."""
        slices = self._holdings.slices
        answer = unpack(
            data, self._holdings.incarnation, self.ledger.names.get, slices.__contains__
        )
        found = slices.get(answer[1]) if answer is not None else None
        if answer is None or found is None:
            return None
        return None if isinstance(answer[0], Refused) and self._is_over(found) else answer[0]

    def _is_over(self, found: Slice) -> bool:
        """Whether the period of a slice is over, as far as can be known here."""
        now_ns, current = self._holdings.now_ns, self._holdings.slice_at(found.cap)
        is_followed = current is not None and current.number > found.number
        return found.ended or is_followed or now_ns >= found.end_ns

    def finish(self, pending: Pending, outcome: Outcome, touched: list[Slice]) -> list[int]:
        """The call is answered: who waits for it. The answer is kept, if it sticks."""
        del self._waiting[pending.caller, pending.digest]
        found = self._keeps(outcome, touched)
        if found is not None:
            name = self._files.name(found)
            answer = pack(outcome, name, found.cap, _prefixes(outcome, touched))
            self._files.put(pending.caller, record_of(pending.digest, pending.mark + answer))
        return pending.waiting

    def entries(
        self, caller: str, idempotency: Idempotency, outcome: Outcome, touched: list[Slice]
    ) -> list[Entry]:
        """The key and its answer, for the very record that has what was done."""
        found = self._keeps(outcome, touched)
        if found is None:
            return []
        cells = self._holdings.cells
        return [
            Keyed(
                key=idempotency.key,
                fingerprint=sha256(idempotency.fingerprint).digest(),
                outcome=outcome,
                cap=found.cap,
                number=found.number,
                spent=[(each.cap, each.number, each.spent(cells)) for each in touched],
                caller=caller,
            )
        ]

    def _keeps(self, outcome: Outcome, touched: list[Slice]) -> Slice | None:
        """The slice that the key lives with; None where the key does not stick to this answer."""
        if not sticks(outcome):
            return None
        if isinstance(outcome, Refused) and not touched:
            return self._holdings.current.get(outcome.cap)
        return next((each for each in touched if not each.closed), None)

    def forget(self, found: Slice) -> None:
        """The interval is closed, and its keys with it."""
        self.ledger.names.pop(found.name, None)

    @property
    def waiting(self) -> int:
        """How many keyed calls have no answer yet."""
        return len(self._waiting)

    @property
    def file_bytes(self) -> int:
        """About how large the key files are."""
        return self._files.size

    def tick(self, now_ns: int) -> None:
        """Time has passed: drop what is older than the retention time."""
        self._files.tick(now_ns)

    def rewritten(self, number: int) -> None:
        """The key file of that number has all that was kept before it."""
        self._files.rewritten(number)


def key_digest(key: str) -> bytes:
    """What a key is found by."""
    return sha256(key.encode()).digest()[:DIGEST_BYTES]


def mark_of(fingerprint: bytes) -> bytes:
    """What is kept of what a call asked."""
    return sha256(fingerprint).digest()[:MARK_BYTES]


def sticks(outcome: Outcome) -> bool:
    """Whether a key keeps this answer: a yes does, and of the refusals only `capped`."""
    return not isinstance(outcome, Refused) or outcome.code == "capped"


def _prefixes(outcome: Outcome, touched: list[Slice]) -> dict[str, Place]:
    """How the ids of a batch begin, and of which intervals they are."""
    if not isinstance(outcome, ConsumedAll | ConsumedEach):
        return {}
    return {each.id_prefix: each.key for each in touched}


def _reused() -> Refused:
    detail = "this Idempotency-Key was used for another request: use a new key"
    return Refused(code="key_reused", cap="", detail=detail)


def take_in(journal: Journal, now_ns: int) -> None:
    """Move the keys that frames have into the ledger, unless an answer there is good still.

    Intervals that the journal has no more are closed, and their names are forgotten.
    """
    names = journal.keys.names
    for name in [each for each, place in names.items() if place not in journal.kept]:
        del names[name]
    by_place = {place: name for name, place in names.items()}
    for keyed in journal.keyed.values():
        caller, digest = caller_of(keyed), key_digest(keyed.key)
        place, known = (keyed.cap, keyed.number), journal.keys.find(caller, digest)
        if place not in journal.kept or _is_open(known, journal):
            continue
        if place not in by_place:
            by_place[place] = journal.keys.name(place)
        answer = pack(keyed.outcome, by_place[place], keyed.cap, {})
        record = record_of(digest, keyed.fingerprint[:MARK_BYTES] + answer)
        journal.keys.add(caller, record, now_ns)
    journal.keyed.clear()


def _is_open(record: bytes | None, journal: Journal) -> bool:
    """Whether a record is of an interval that the journal has."""
    if record is None:
        return False
    names, kept = journal.keys.names, journal.kept
    return unpack(record[MARK_BYTES:], "", names.get, kept.__contains__) is not None


def caller_of(keyed: Keyed) -> str:
    """Whose key it is: older journals have the caller only at the beginning of the key."""
    if keyed.caller is not None:
        return keyed.caller
    caller, slash, _ = keyed.key.partition("/")
    return caller if slash else ""
