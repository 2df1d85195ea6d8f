"""What is done to a log in a life of it: appends, copies, cuts, in an order from a seed."""

from collections.abc import Callable, Sequence
from random import Random

from tests.support.drafts import draft, epoch_started, spend_reported
from vcap_es.events.chain import Stored
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft
from vcap_es.events.log import head_of
from vcap_es.events.logs.sqlite_writer import AppendJob, CopyJob, SqliteWriter
from vcap_es.events.sealing import seal

Deed = Callable[[SqliteWriter], None]
"""One transaction."""

CAPS = ("ads:1", "ads:2", "llm:7")


class Deeds:
    """Chooses one deed after the other, by what the log is like."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, writer: SqliteWriter) -> Deed:
        """The next deed for a log like that of `writer`."""
        kinds = [self._append, self._append, self._copy, self._copy, self._both, self._commit]
        if writer.head.position > writer.committed:
            kinds += [self._truncate, self._commit]
        return self._random.choice(kinds)(writer)

    def _append(self, writer: SqliteWriter) -> Deed:
        epoch = self._epoch(writer)
        batches = [self._drafts() for _ in range(self._random.randint(1, 3))]
        if self._random.random() < 0.3:  # an id once more: the transaction is begun anew
            batches.append([batches[0][0], *self._drafts()])
        return lambda log: _commit(log, [_appended(batch, epoch) for batch in batches])

    def _copy(self, writer: SqliteWriter) -> Deed:
        copy = CopyJob(entries := self._entries(writer), self._known(writer, len(entries)))
        return lambda log: _commit(log, [copy])

    def _both(self, writer: SqliteWriter) -> Deed:
        entries = self._entries(writer)
        first, more = CopyJob(entries, 0), self._drafts()
        commit = CopyJob([], self._known(writer, len(entries)))
        epoch = entries[-1].epoch + 1
        return lambda log: _commit(log, [first, _appended(more, epoch), commit])

    def _commit(self, writer: SqliteWriter) -> Deed:
        known = self._known(writer, 0)
        return lambda log: _commit(log, [CopyJob([], known)])

    def _truncate(self, writer: SqliteWriter) -> Deed:
        after = self._random.randint(writer.committed, writer.head.position)

        def truncate(log: SqliteWriter) -> None:
            log.truncate(after)

        return truncate

    def _entries(self, writer: SqliteWriter) -> list[Stored]:
        epoch = self._epoch(writer)
        entries = seal(self._drafts(), epoch, writer.head)
        if self._random.random() < 0.3:
            entries += seal(self._drafts(), epoch + 1, head_of(entries[-1]))
        return entries

    def _epoch(self, writer: SqliteWriter) -> int:
        """One that is not over; behind a cut a new one, as nobody cuts what he wrote himself."""
        (fence,) = writer._db.execute("SELECT epoch FROM fence").fetchone()
        (cut,) = writer._db.execute("SELECT coalesce(max(epoch), -1) FROM diverged").fetchone()
        return max(int(fence), int(cut) + 1) + (self._random.random() < 0.2)

    def _known(self, writer: SqliteWriter, more: int) -> int:
        head = writer.head.position + more
        return self._random.randint(writer.committed, head) if self._random.random() < 0.7 else 0

    def _drafts(self) -> list[Draft]:
        return [self._draft() for _ in range(self._random.randint(1, 5))]

    def _draft(self) -> Draft:
        event_id = self._random.getrandbits(127)
        match self._random.randrange(6):
            case 0:
                reported = spend_reported(*self._random.sample(CAPS, self._random.randint(1, 3)))
                return draft(reported, event_id=event_id % 2**40)
            case 1:
                return draft(epoch_started(self._random.randrange(9)), event_id=event_id % 2**40)
            case _:
                return draft(event_id=event_id % 2**40, cap=self._random.choice(CAPS))


def _appended(batch: Sequence[Draft], epoch: int) -> AppendJob:
    return AppendJob(batch, [encode(each.fact) for each in batch], epoch)


def _commit(writer: SqliteWriter, appends: Sequence[AppendJob | CopyJob]) -> None:
    for outcome in writer.commit(appends):
        assert isinstance(outcome, list), outcome
