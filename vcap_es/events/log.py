"""The port `EventLog`: what a log promises, whatever keeps it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from vcap_es.errors import EpochRefused, InvalidInput, LogDamaged, LogError
from vcap_es.events.chain import GENESIS, Stored, verify
from vcap_es.events.envelope import Draft, Recorded

BATCH_EVENTS_MAX = 10_000
"""A longer batch is refused: it would hold up everyone who waits behind it."""


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """The end of a log: the position and link of its last event, and its epoch."""

    position: int = 0
    epoch: int = 0
    link: bytes = GENESIS


class Truncated(Struct, frozen=True, kw_only=True, gc=False):
    """`count` events were set aside; the last of them had `link`, b"" where there was none."""

    count: int
    link: bytes


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
    - A batch for which there is no room is not recorded, raises `DiskFull`, and may be appended
      again when there is room.
    - A reader sees a prefix of the log, never skips and never reorders, while a writer appends.
    - What is known to be committed is never truncated.
    """

    async def append(self, batch: Sequence[Draft], epoch: int) -> list[Recorded]:
        """Record `batch` at the end of the log, durably; an empty batch only checks the epoch."""
        ...

    async def copy(self, entries: Sequence[Stored], committed: int) -> None:
        """Record events that were sealed already, durably, as they are.

        They follow the head link by link, their epochs never fall and their ids are new: else
        `LogDamaged` is raised and nothing recorded; likewise `UnknownFact` for a fact that this
        version cannot read. All up to the position `committed`, as far as the log goes, is known
        to be committed.
        """
        ...

    async def truncate(self, after: int) -> Truncated:
        """Set all events above `after` aside: nobody was ever told of them.

        They are kept apart, for people. Raises `LogError` where one of them is committed.
        """
        ...

    async def read_diverged(self, *, limit: int = 1000) -> list[Stored]:
        """Up to `limit` events that were ever set aside, oldest first."""
        ...

    async def committed(self) -> int:
        """The last position that `copy` was told to be committed; it never falls."""
        ...

    async def history(self) -> list[tuple[int, int]]:
        """Each epoch of the log with its last position, oldest first."""
        ...

    async def read(
        self, after: int = 0, *, limit: int = 1000, cap: str | None = None, kind: str | None = None
    ) -> list[Recorded]:
        """Up to `limit` events with positions above `after`, oldest first.

        `cap` keeps only events that speak of that cap, `kind` only facts of that class name.
        """
        ...

    async def read_stored(self, after: int = 0, *, limit: int = 1000) -> list[Stored]:
        """Like `read`, with each fact in the bytes that were written, to verify or to copy."""
        ...

    async def head(self) -> Head:
        """The end of the log as of the last append that succeeded."""
        ...

    async def wait(self, after: int) -> None:
        """Return as soon as there is an event above `after`; a closed log raises `LogClosed`."""
        ...

    async def close(self) -> None:
        """Release files and threads; the log is not used afterwards."""
        ...


def check_batch(batch: Sequence[Draft]) -> None:
    """Raise `InvalidInput` for a batch that no log takes."""
    if len(batch) > BATCH_EVENTS_MAX:
        raise InvalidInput(f"a batch of {len(batch)} events: {BATCH_EVENTS_MAX} at most, split it")
    for draft in batch:
        _check_draft(draft)


def _check_draft(draft: Draft) -> None:
    if type(draft.event_id) is not bytes or len(draft.event_id) != 16:
        raise InvalidInput(f"the event id {draft.event_id!r} is not 16 bytes")
    if type(draft.recorded_at) is not int or not -(2**63) <= draft.recorded_at < 2**63:
        raise InvalidInput(f"recorded_at {draft.recorded_at!r} is not a 64-bit integer")
    for text in (draft.dc, draft.actor, draft.correlation):
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise InvalidInput(f"{text!r} is not text: dc, actor and correlation are") from None


def check_copy(entries: Sequence[Stored], head: Head) -> None:
    """Raise `LogDamaged` for events that are not the next ones behind `head`."""
    verify(entries, head.link)
    position, epoch = head.position, head.epoch
    for entry in entries:
        position += 1
        fits = entry.position == position and epoch <= entry.epoch < 2**63
        if not fits or len(entry.event_id) != 16:  # of a longer one the link covers 16 bytes only
            raise LogDamaged(
                f"an event of position {entry.position} and epoch {entry.epoch} cannot follow "
                f"position {position - 1} of epoch {epoch}"
            )
        epoch = entry.epoch


def check_ids(entries: Sequence[Stored], is_known: Callable[[bytes], bool]) -> None:
    """Raise `LogDamaged` for events to copy one of which has the id of another, or a known one."""
    seen: set[bytes] = set()
    for entry in entries:
        if entry.event_id in seen or is_known(entry.event_id):
            raise LogDamaged(
                f"the event of position {entry.position} has the id {entry.event_id.hex()}, which"
                " another event has"
            )
        seen.add(entry.event_id)


def check_truncation(after: int, committed: int, head: int) -> None:
    """Raise `LogError` where a log must not, or cannot, be cut after `after`."""
    if not committed <= after <= head:
        raise LogError(
            f"a log up to {head}, committed up to {committed}, cannot be truncated behind {after}"
        )


def head_of(event: Recorded | Stored | None) -> Head:
    """The head of a log that ends with `event`; None: of an empty one."""
    if event is None:
        return Head()
    return Head(position=event.position, epoch=event.epoch, link=event.link)


def check_epoch(epoch: int, highest: int) -> None:
    """Raise `EpochRefused` for a writer of an epoch below the highest on the log."""
    if type(epoch) is not int or not 0 <= epoch < 2**63:
        raise InvalidInput(f"the epoch {epoch!r} is not a 64-bit integer from 0 on")
    if epoch < highest:
        raise EpochRefused(f"epoch {epoch} is over: the log is at epoch {highest}; stop writing")
