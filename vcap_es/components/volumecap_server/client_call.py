"""A client's call while it is worked on: whom it answers, and what its key keeps."""

from collections.abc import Callable

from vcap_es.components.messages.client import (
    Idempotency,
)
from vcap_es.components.messages.outcomes import (
    Outcome,
)
from vcap_es.components.volumecap_server.idempotency import IdempotencyKeys, Pending
from vcap_es.components.volumecap_server.slices.journal import Entry
from vcap_es.components.volumecap_server.slices.slice import Slice


class ClientCall:
    """One call of a client, of the API key `owner`; `touched` are the slices that it was about."""

    def __init__(self, reply: Callable[[int, Outcome], None], token: int, owner: str) -> None:
        """It is answered by `reply`, which takes its `token`."""
        self.touched: list[Slice] = []
        self.owner = owner
        self._reply, self._token = reply, token

    def entries(self, outcome: Outcome) -> list[Entry]:  # noqa: ARG002  # a keyed call has some
        """What the record of what was done says of the answer."""
        return []

    def finish(self, outcome: Outcome) -> None:
        """Give the answer."""
        self._reply(self._token, outcome)


class KeyedCall(ClientCall):
    """A call with a key, which lives with the slices that the call touched."""

    def __init__(
        self,
        reply: Callable[[int, Outcome], None],
        token: int,
        owner: str,
        idempotency: Idempotency,
        pending: Pending,
        keys: IdempotencyKeys,
    ) -> None:
        """It is `pending` among the `keys`."""
        super().__init__(reply, token, owner)
        self._idempotency, self._pending, self._keys = idempotency, pending, keys

    def entries(self, outcome: Outcome) -> list[Entry]:
        """The key of the call and its answer, if it sticks."""
        return self._keys.entries(self.owner, self._idempotency, outcome, self.touched)

    def finish(self, outcome: Outcome) -> None:
        """Keep the answer for the key, and give it to everybody who waits for this call."""
        for token in self._keys.finish(self._pending, outcome, self.touched):
            self._reply(token, outcome)
