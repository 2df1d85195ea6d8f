"""What a volumecap server writes into its journal, and what it knows when it reads it again.

A frame of entries is written at once and read back whole or not at all. Entries that must survive
the machine are fsynced; the others need only survive the process. The running `spent` of each
slice lives beside the frames, in cells of shared memory.
"""

from typing import Protocol

from msgspec import Struct, field, msgpack, structs

from vcap_es.components.messages.outcomes import Outcome
from vcap_es.components.volumecap_server.keys.ledger import KeyLedger
from vcap_es.components.volumecap_server.keys.records import KeyFile
from vcap_es.errors import JournalDamaged
from vcap_es.events.amounts import MAX_AMOUNT


class Cells(Protocol):
    """Shared memory of signed 64-bit integers; each slice has a slot of them."""

    def __getitem__(self, index: int, /) -> int:
        """The integer at `index`."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Let the integer at `index` be `value`, in one store."""
        ...


class Begun(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The server started; `start` counts the starts of this journal."""

    incarnation: str
    start: int
    session: str
    boot: str


class Kept(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The running totals of a slice, and the ceiling that its `spent` stays below.

    `slot` is the place of its cells, -1 where there was no room for them. Units
    refunded count from here on only, and never before.
    """

    cap: str
    number: int
    start: int
    end: int
    slot: int
    received: int
    returned: int
    ceiling: int
    refunded: int


class Dropped(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The interval is closed and its slot is free."""

    cap: str
    number: int


class Marked(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Of the consume that spent the range `[first, last)`, `refunded` units came back in all.

    That may be none yet, of what a commit took above its hold. `owner` is the API key in whose
    share the mark is.
    """

    cap: str
    number: int
    first: int
    last: int
    refunded: int
    owner: str = ""


class HoldNoted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The hold of the range `[first, last)` is open until `expires_ns`, or settled.

    `above` is the range that its commit took above it, if any. `owner` is the API key in whose
    share it is.
    """

    cap: str
    number: int
    first: int
    last: int
    expires_ns: int
    is_open: bool
    spent: int
    owner: str = ""
    above: tuple[int, int] | None = None


class Aged(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The units below `floor` are too old to be refunded, and their marks are gone.

    `seen` are instants in microseconds UTC, and the running total spent of each.
    """

    cap: str
    number: int
    floor: int
    seen: list[tuple[int, int]]


class Keyed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The call with this idempotency key was answered so: in the record that has what was done.

    `spent` are the running totals that the answer stands for, by cap and interval number: they
    hold even where a cell was not written any more. Journals from before key files have all keys
    so, without their `caller`.
    """

    key: str
    fingerprint: bytes
    outcome: Outcome
    cap: str
    number: int
    spent: list[tuple[str, int, int]]
    caller: str | None = None


Entry = Begun | Kept | Dropped | Marked | HoldNoted | Aged | Keyed
SliceKey = tuple[str, int]
Range = tuple[int, int]


class Journal(Struct):
    """What the entries of a journal say together.

    `keyed` are the keys that frames have, and `names` those of each slice; `keys` are all others,
    up to `key_file`: a ledger with a secret, from whoever reads the key files.
    """

    incarnation: str = ""
    start: int = 0
    session: str = ""
    boot: str = ""
    kept: dict[SliceKey, Kept] = field(default_factory=dict)
    marks: dict[SliceKey, dict[Range, Marked]] = field(default_factory=dict)
    holds: dict[SliceKey, dict[Range, HoldNoted]] = field(default_factory=dict)
    aged: dict[SliceKey, Aged] = field(default_factory=dict)
    keyed: dict[str, Keyed] = field(default_factory=dict)
    names: dict[SliceKey, list[str]] = field(default_factory=dict)
    spent: dict[SliceKey, int] = field(default_factory=dict)
    keys: KeyLedger = field(default_factory=lambda: KeyLedger(b""))
    key_file: KeyFile = field(default_factory=lambda: KeyFile(0, 0))

    def fold(self, entry: Entry) -> None:
        """Take in the next entry."""
        match entry:
            case Begun():
                self.incarnation, self.start = entry.incarnation, entry.start
                self.session, self.boot = entry.session, entry.boot
            case Kept():
                self.kept[(entry.cap, entry.number)] = entry
            case Marked():
                marks = self.marks.setdefault((entry.cap, entry.number), {})
                marks[(entry.first, entry.last)] = entry
            case HoldNoted():
                self._fold_hold(entry)
            case Aged():
                self._fold_aged(entry)
            case Keyed():
                self._fold_keyed(entry)
            case Dropped():
                self._drop((entry.cap, entry.number))

    def _fold_hold(self, entry: HoldNoted) -> None:
        key = (entry.cap, entry.number)
        self.holds.setdefault(key, {})[(entry.first, entry.last)] = entry
        self.spent[key] = max(self.spent.get(key, 0), entry.spent)

    def _fold_aged(self, entry: Aged) -> None:
        key = (entry.cap, entry.number)
        self.aged[key] = entry
        for known in (self.marks.get(key, {}), self.holds.get(key, {})):
            for span in [each for each in known if each[0] < entry.floor]:
                del known[span]

    def _fold_keyed(self, entry: Keyed) -> None:
        self.keyed[entry.key] = entry
        self.names.setdefault((entry.cap, entry.number), []).append(entry.key)
        for cap, number, spent in entry.spent:
            self.spent[(cap, number)] = max(self.spent.get((cap, number), 0), spent)

    def _drop(self, key: SliceKey) -> None:
        for known in (self.kept, self.marks, self.holds, self.aged, self.spent):
            known.pop(key, None)
        for name in self.names.pop(key, ()):
            at = self.keyed.get(name)
            if at is not None and (at.cap, at.number) == key:
                del self.keyed[name]

    def entries(self) -> list[Entry]:
        """The same knowledge in the fewest entries, for a journal that is written anew."""
        begun = Begun(
            incarnation=self.incarnation, start=self.start, session=self.session, boot=self.boot
        )
        marks = [each for ranges in self.marks.values() for each in ranges.values()]
        holds = [each for ranges in self.holds.values() for each in ranges.values()]
        return [
            begun,
            *self.kept.values(),
            *marks,
            *holds,
            *self.aged.values(),
            *self.keyed.values(),
        ]


encode = msgpack.Encoder().encode
decode = msgpack.Decoder(list[Entry]).decode


def settle_cells(journal: Journal, cells: Cells, *, same_boot: bool) -> None:
    """Set the cells to what is surely spent.

    After the death of the process the cells are exact, but for answers noted just before it;
    after the death of the machine everything below the ceiling counts as spent, and open holds
    as committed. Raises `JournalDamaged` where a cell is above its ceiling.
    """
    if not same_boot:
        _freeze(journal)
    for key, kept in journal.kept.items():
        if kept.slot < 0:
            continue
        # A ceiling above all that can be counted was written once; no cell was ever there.
        spent = cells[kept.slot] if same_boot else min(kept.ceiling, MAX_AMOUNT)
        cells[kept.slot] = max(spent, journal.spent.get(key, 0) if same_boot else 0)
        if not same_boot:
            cells[kept.slot + 1] = 0
        if not cells[kept.slot] <= kept.ceiling:
            raise JournalDamaged(
                f"{kept.cap}, interval {kept.number}: spent {cells[kept.slot]} is above the "
                f"ceiling {kept.ceiling}"
            )


def _freeze(journal: Journal) -> None:
    """Let open holds count as committed: their clock is gone, and so may be what became of them."""
    for holds in journal.holds.values():
        for span, hold in holds.items():
            holds[span] = structs.replace(hold, is_open=False)
