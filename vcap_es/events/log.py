"""The port `EventLog`: what a log promises, whatever keeps it."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vcap_es.events.chain import GENESIS
from vcap_es.events.envelope import Draft, Recorded


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """The end of a log: the position and link of its last event, and its epoch."""

    position: int = 0
    epoch: int = 0
    link: bytes = GENESIS


class EventLog(Protocol):
    """An append-only sequence of events with one writer.

    Promises, each shown for every adapter by `tests/contracts/`:

    - A batch is recorded whole or not at all, in order, with contiguous positions.
    - When `append` returns, the batch outlives the machine (where the adapter keeps anything).
    - A batch of an epoch lower than the highest ever appended is refused inside the append with
      `EpochRefused`; nothing of it is recorded.
    - An event whose id is on the log already is not recorded again; `append` gives the event
      that is there, in its place in the answer.
    - If the outcome of an append is unknown (a failed COMMIT), `OutcomeUnknown` is raised, and
      every later append of this object raises it too: the process must stop and replay.
    - A reader sees a prefix of the log, never skips and never reorders, while a writer appends.
    """

    async def append(self, batch: Sequence[Draft], epoch: int) -> list[Recorded]:
        """Record `batch` at the end of the log, durably; an empty batch only checks the epoch."""
        ...

    async def read(
        self, after: int = 0, *, limit: int = 1000, cap: str | None = None, kind: str | None = None
    ) -> list[Recorded]:
        """Up to `limit` events with positions above `after`, oldest first.

        `cap` keeps only events that speak of that cap, `kind` only facts of that class name.
        """
        ...

    async def head(self) -> Head:
        """The end of the log as of the last append that succeeded."""
        ...

    async def close(self) -> None:
        """Release files and threads; the log is not used afterwards."""
        ...
