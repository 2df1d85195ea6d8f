"""The keeping of a journal: what must survive the machine, one record and one fsync at a time."""

from collections import Counter
from collections.abc import Callable
from itertools import islice

from vcap_es.components.volumecap_server.slices.journal import Dropped, Entry, Journal, Kept
from vcap_es.components.volumecap_server.slices.outputs import ServerOutput, Write
from vcap_es.components.volumecap_server.slices.slice import CELLS_PER_SLOT, NO_SLOT, Slice
from vcap_es.components.volumecap_server.slices.table import SliceTable
from vcap_es.events.amounts import MAX_AMOUNT

WAITERS_COUNTED = 64


class JournalWriter:
    """Writes the totals of slices, raises their ceilings, and gives them their slots."""

    def __init__(
        self,
        journal: Journal,
        table: SliceTable,
        outputs: list[ServerOutput],
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Go on from `journal`; `has_room` says whether there are cells for the first slots."""
        self._table, self._outputs, self._has_room = table, outputs, has_room
        self._to_write: dict[Slice, None] = {}
        self._more_entries: list[Entry] = []
        self._after_write: list[Callable[[], None]] = []
        self._in_flight: tuple[int, list[Kept], list[Callable[[], None]]] | None = None
        self._tickets = 0
        self._recover(journal)

    def _recover(self, journal: Journal) -> None:
        """Take up the slices where the journal left them."""
        for key, kept in journal.kept.items():
            found = self._table.put(kept.cap, kept.number, kept.start, kept.end, 0)
            found.is_confirmed = False
            found.slot = kept.slot
            found.received = kept.received
            found.returned = found.returned_kept = kept.returned
            found.refunded = found.refunded_kept = kept.refunded
            found.ceiling = min(kept.ceiling, MAX_AMOUNT)
            marks, holds = journal.marks.get(key, {}), journal.holds.get(key, {})
            found.marks = dict(marks) or None
            found.holds = dict(holds) or None
            aged = journal.aged.get(key)
            if aged is not None:
                found.floor, found.seen = aged.floor, tuple(aged.seen)
            found.spans = sorted({*marks, *holds}) or None
            owners = {span: each.owner for span, each in marks.items()}
            owners |= {span: each.owner for span, each in holds.items()}
            found.owners = dict(Counter(owners.values())) or None
        used = {kept.slot for kept in journal.kept.values()}
        self._slots_used = max(used, default=-CELLS_PER_SLOT) // CELLS_PER_SLOT + 1
        slots = range(0, self._slots_used * CELLS_PER_SLOT, CELLS_PER_SLOT)
        self._free_slots = [slot for slot in slots if slot not in used]

    @property
    def is_idle(self) -> bool:
        """Whether everything is fsynced."""
        return self._in_flight is None and not self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether something waits for the next record; some only wait to be called after it."""
        return bool(self._to_write or self._more_entries or self._after_write)

    @property
    def is_full(self) -> bool:
        """Whether the journal has no slot for a further slice."""
        if self._free_slots:
            return False
        is_used_up = self._slots_used >= self._table.limits.slots_max
        return is_used_up or not self._has_room(self._slots_used + 1)

    def keep(self, found: Slice) -> None:
        """Let the totals of this slice be in the next record."""
        self._to_write[found] = None

    def note(self, *entries: Entry) -> None:
        """Write entries that need only survive the process, before what is answered next."""
        self._outputs.append(Write(list(entries)))

    def bare(self, found: Slice) -> Kept:
        """The record of a slice without a slot, which is known from here on and spends nothing."""
        return self._kept(found, 0)

    def keep_with(self, entries: list[Entry], found: Slice, then: Callable[[], None]) -> None:
        """Let entries be fsynced in one record with the totals of their slice; then call `then`."""
        self._more_entries += entries
        self._after_write.append(then)
        self.keep(found)

    def begin(self) -> None:
        """Write the next record, if there is something to write and none is under way."""
        if self._in_flight is not None or not self._has_more:
            return
        kept = [self._record(each) for each in self._to_write]
        self._tickets += 1
        self._in_flight = (self._tickets, kept, self._after_write)
        self._outputs.append(Write([*kept, *self._more_entries], self._tickets))
        self._to_write, self._more_entries, self._after_write = {}, [], []

    def written(self, ticket: int) -> list[tuple[Slice, Kept]]:
        """The record of that ticket is fsynced: what is kept now, of the slices still here."""
        assert self._in_flight is not None, "nothing is being written"
        in_flight, records, then = self._in_flight
        assert in_flight == ticket, "one write at a time"
        self._in_flight = None
        slices = self._table.slices
        kept = [
            (slices[(each.cap, each.number)], each)
            for each in records
            if (each.cap, each.number) in slices
        ]
        for found, record in kept:
            found.returned_kept, found.refunded_kept = record.returned, record.refunded
            found.ceiling = record.ceiling
        for call in then:
            call()
        return kept

    def drop(self, found: Slice) -> None:
        """Keep the slice no more, and let another have its slot."""
        self._to_write.pop(found, None)
        if found.spans:
            key = found.key
            self._more_entries = [each for each in self._more_entries if _key_of(each) != key]
        if found.slot != NO_SLOT or found.name:
            self.note(Dropped(cap=found.cap, number=found.number))
        if found.slot != NO_SLOT:
            self._free_slots.append(found.slot)
            found.slot = NO_SLOT  # whoever still has this slice must not read another one's cells

    def ceiling_step(self, found: Slice) -> int:
        """By how much the ceiling is raised above what is spent, in units."""
        return max(self._table.limits.ceiling_step_min, found.desired)

    def _record(self, found: Slice) -> Kept:
        """The record of a slice. While it is in flight, the lower of the two ceilings holds."""
        self._give_slot(found)
        ceiling = self._ceiling_wanted(found) if found.slot != NO_SLOT else 0
        found.ceiling = min(found.ceiling, ceiling)
        found.limit = min(found.limit, found.ceiling - found.pinned)
        return self._kept(found, ceiling)

    def _kept(self, found: Slice, ceiling: int) -> Kept:
        return Kept(
            cap=found.cap,
            number=found.number,
            start=found.start,
            end=found.end,
            slot=found.slot,
            received=found.received,
            returned=found.returned,
            ceiling=ceiling,
            refunded=found.refunded,
        )

    def _ceiling_wanted(self, found: Slice) -> int:
        waiting = sum(waiter.maximum for waiter in islice(found.waiters, WAITERS_COUNTED))
        return found.ceiling_wanted(self._table.cells, waiting, self.ceiling_step(found))

    def _give_slot(self, found: Slice) -> None:
        """A slice without a slot spends nothing; what it has received can only go back."""
        if found.slot != NO_SLOT or self.is_full:
            return
        if self._free_slots:
            found.slot = self._free_slots.pop()
        else:
            found.slot = self._slots_used * CELLS_PER_SLOT
            self._slots_used += 1
        self._table.cells[found.slot] = 0
        self._table.cells[found.slot + 1] = found.refused_before


def _key_of(entry: Entry) -> tuple[object, object]:
    return (getattr(entry, "cap", None), getattr(entry, "number", None))
