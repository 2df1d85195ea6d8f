"""Idempotency keys: the same key gives the same answer, until the end of the interval."""

from msgspec import Struct, field

from vcap_es.components.commands import Idempotency
from vcap_es.components.journal_records import Keyed
from vcap_es.components.outcomes import ConsumedAll, ConsumedEach, Outcome, Refused
from vcap_es.components.slice import Slice


class Call(Struct):
    """A keyed call: its answer once there is one, the slice it lives with, and who waits for it."""

    fingerprint: bytes
    outcome: Outcome | None = None
    waiting: list[int] = field(default_factory=list)
    found: Slice | None = None

    def is_over(self, now_ns: int) -> bool:
        """Whether it was refused, in a period that is over: asked again, it may be served."""
        if self.found is None or not isinstance(self.outcome, Refused):
            return False
        return self.found.ended or now_ns >= self.found.deadline_ns


class KeyStore:
    """The keyed calls of one server; a full store refuses new keys.

    What is bounded is the answers that are kept: a call with many items counts as many.
    """

    def __init__(self, keys_max: int, keyed: dict[str, Keyed]) -> None:
        self._keys_max = keys_max
        self._calls = {
            key: Call(fingerprint=each.fingerprint, outcome=each.outcome)
            for key, each in keyed.items()
        }
        self._kept = sum(weight(each.outcome) for each in keyed.values())

    def admit(self, idempotency: Idempotency, token: int, now_ns: int) -> Outcome | bool:
        """True: go on and `finish`; False: `token` waits for the first call's answer."""
        call = self._calls.get(idempotency.key)
        if call is not None and call.is_over(now_ns):
            self._part(idempotency.key, call)
            call = None
        if call is None:
            return self._begin(idempotency, token)
        if call.fingerprint != idempotency.fingerprint:
            detail = "this Idempotency-Key was used for another request: use a new key"
            return Refused(code="key_reused", cap="", detail=detail)
        if call.outcome is not None:
            return call.outcome
        call.waiting.append(token)
        return False

    def _begin(self, idempotency: Idempotency, token: int) -> Outcome | bool:
        if self._kept >= self._keys_max:
            detail = "no room for more idempotency keys until an interval ends"
            return Refused(code="keys_full", cap="", detail=detail, retry_after_ms=1000)
        self._calls[idempotency.key] = Call(fingerprint=idempotency.fingerprint, waiting=[token])
        self._kept += 1
        return True

    def finish(self, key: str, outcome: Outcome, found: Slice | None) -> list[int]:
        """The call is answered: who waits for it. Kept until `found` closes, or not at all."""
        call = self._calls[key]
        waiting, call.waiting = call.waiting, []
        if found is None or found.closed:
            self._forget(key)
        else:
            call.outcome = outcome
            self._kept += weight(outcome) - 1
            self.adopt(key, found)
        return waiting

    def _part(self, key: str, call: Call) -> None:
        """The key begins anew, and does not end with the slice that it lived with."""
        if call.found is not None and call.found.keys is not None:
            call.found.keys.remove(key)
        self._forget(key)

    def forget(self, found: Slice) -> None:
        """The interval is closed, and its keys with it."""
        for key in found.keys or ():
            self._forget(key)

    def _forget(self, key: str) -> None:
        call = self._calls.pop(key, None)
        if call is not None:
            self._kept -= weight(call.outcome)

    def adopt(self, key: str, found: Slice) -> None:
        """The key lives as long as this slice."""
        if found.keys is None:
            found.keys = []
        found.keys.append(key)
        self._calls[key].found = found


def weight(outcome: Outcome | None) -> int:
    """How many answers an outcome is; a call without one yet counts as one."""
    return len(outcome.items) if isinstance(outcome, ConsumedAll | ConsumedEach) else 1


def sticks(outcome: Outcome) -> bool:
    """Whether a key keeps this answer: a yes does, and of the refusals only `capped`."""
    return not isinstance(outcome, Refused) or outcome.code == "capped"
