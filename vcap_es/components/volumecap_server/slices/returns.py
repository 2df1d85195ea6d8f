"""Giving back: what is asked of a slice, but for what waiting consumes that fit will take."""

from vcap_es.components.volumecap_server.slices.journal_writer import JournalWriter
from vcap_es.components.volumecap_server.slices.reporter import Reporter
from vcap_es.components.volumecap_server.slices.slice import Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable


class Returns:
    """Returns units to the pool: those recalled, and all when the interval or the server ends."""

    def __init__(
        self, table: SliceTable, journal_writer: JournalWriter, reporter: Reporter
    ) -> None:
        self._table, self._journal_writer, self._reporter = table, journal_writer, reporter

    def give(self, found: Slice) -> None:
        """Return what is asked for, as far as it is free; answer a recall when that is decided."""
        asked = self._asked_back(found)
        if asked is None:
            return
        amount = min(self._spare(found), asked - found.returned)
        if amount > 0:
            found.returned += amount
            found.want = 0
            self._journal_writer.keep(found)
        if found.recall is not None and (found.returned >= asked or not self._is_undecided(found)):
            found.answering, found.recall = found.recall[0], None
        self.answer(found)

    def answer(self, found: Slice) -> None:
        """A recall is answered when the record with the return is fsynced."""
        if found.answering is not None and found.returned == found.returned_kept:
            found.answered, found.answering = found.answering, None
            self._reporter.tell(found)

    def _asked_back(self, found: Slice) -> int | None:
        if self._table.is_stopping or found.ended:
            return found.returned + max(0, found.balance(self._table.cells))
        return found.recall[1] if found.recall else None

    def _spare(self, found: Slice) -> int:
        balance = found.balance(self._table.cells)
        for waiter in found.waiters:
            if waiter.is_done:
                continue
            if waiter.minimum > balance:
                break
            balance -= min(waiter.maximum, balance)
        return max(0, balance)

    def _is_undecided(self, found: Slice) -> bool:
        """Whether the fate of some unit is open: it may still come free here."""
        balance = found.balance(self._table.cells)
        fits = any(not each.is_done and each.minimum <= balance for each in found.waiters)
        return fits or found.pinned > 0
