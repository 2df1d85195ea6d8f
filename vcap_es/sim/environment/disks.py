"""What survives: the log and the ballot of a master, the ballot of a witness, a server's journal.

Whatever is here outlives a crash. What a process has asked for and was not told to be done may or
may not be here afterwards; that is drawn when the process ends.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from vcap_es.components.consensus.voter import Ballot
from vcap_es.components.volumecap_server.idempotency import take_in
from vcap_es.components.volumecap_server.keys.ledger import KeyLedger
from vcap_es.components.volumecap_server.keys.records import (
    FileBegun,
    KeyEntry,
    KeyFile,
    decode_keys,
    encode_keys,
    read_keys,
    whole_ledger,
)
from vcap_es.components.volumecap_server.slices.journal import (
    Dropped,
    Entry,
    Journal,
    Kept,
    decode,
    encode,
    settle_cells,
)
from vcap_es.components.volumecap_server.slices.limits import Limits
from vcap_es.events.chain import GENESIS, Stored

CELLS = 4096
"""Like those of a real journal, they hold 64 bits with a sign, and nothing larger."""
BOOT = "boot"


@dataclass
class LogDisk:
    """A master's log. `entries` and the watermark `committed` are durable.

    One that `is_full` says so; one that `is_hung` says nothing, and writes nothing.
    """

    entries: list[Stored] = field(default_factory=list)
    committed: int = 0
    aside: list[Stored] = field(default_factory=list)
    is_full: bool = False
    is_hung: bool = False

    def append(self, entries: list[Stored], committed: int) -> None:
        """Add events at the end; up to `committed` they are committed."""
        self.entries += entries
        self.committed = max(self.committed, committed)

    def cut(self, after: int) -> tuple[int, bytes]:
        """Set aside all after `after`: how many, and the link of the last."""
        gone = self.entries[after:]
        del self.entries[after:]
        self.aside += gone
        return len(gone), gone[-1].link if gone else self.link_at(after)

    def link_at(self, position: int) -> bytes:
        """The link of the event at `position`, which must be there; of none at 0."""
        return self.entries[position - 1].link if position else GENESIS

    def has(self, position: int, link: bytes) -> bool:
        """Whether the event with that link is durable at that position."""
        return position <= len(self.entries) and self.link_at(position) == link

    def lose_tail(self, after: int) -> None:
        """A flipped bit ends the log early, and nothing says so: the watermark was in it too."""
        del self.entries[after:]
        self.committed = min(self.committed, after)


@dataclass
class BallotDisk:
    """A voter's ballot; written whole or not at all. `writing` is one on its way."""

    ballot: Ballot
    writing: Ballot | None = None

    def crash(self, random: Random) -> None:
        """What was on its way is there, or is not."""
        if self.writing is not None and random.random() < 0.5:
            self.ballot = self.writing
        self.writing = None


@dataclass
class KeyFileDisk:
    """A key file; the first `synced` frames outlive the machine."""

    frames: list[bytes] = field(default_factory=list)
    synced: int = 0


Written = tuple[int, dict[int, int]]
"""How many frames there are, and how many in each key file."""


@dataclass
class Disk:
    """The journal of one server as its files have it; `synced` frames outlive the machine."""

    frames: list[bytes] = field(default_factory=list)
    synced: int = 0
    cells: "array[int]" = field(default_factory=lambda: array("q", bytes(8 * CELLS)))
    key_files: dict[int, KeyFileDisk] = field(default_factory=dict)
    ceilings: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)

    def write(self, entries: list[Entry]) -> None:
        """Append a frame; only the process is sure to find it again."""
        self.frames.append(encode(entries))
        for entry in entries:
            if isinstance(entry, Kept):
                known = self.ceilings.setdefault((entry.cap, entry.number), [])
                known.append((len(self.frames), entry.ceiling))
            elif isinstance(entry, Dropped):
                self.ceilings.pop((entry.cap, entry.number), None)

    def write_keys(self, entries: list[KeyEntry]) -> None:
        """Append a frame to the key file."""
        self.key_files[max(self.key_files)].frames.append(encode_keys(entries))

    def turn_keys(self, number: int, begun: FileBegun) -> None:
        """Begin another key file."""
        self.key_files[number] = KeyFileDisk([encode_keys([begun])])

    def drop_keys(self, number: int) -> None:
        """Remove a key file."""
        self.key_files.pop(number, None)

    def rewrite_keys(self, number: int, pieces: Iterable[list[KeyEntry]]) -> None:
        """Let a key file be there, durably."""
        frames = [encode_keys(each) for each in pieces]
        self.key_files[number] = KeyFileDisk(frames, len(frames))

    @property
    def written(self) -> Written:
        """What is written so far."""
        return len(self.frames), {key: len(each.frames) for key, each in self.key_files.items()}

    def sync(self, written: Written) -> None:
        """So much outlives the machine."""
        frames, keys = written
        self.synced = max(self.synced, frames)
        for number, count in keys.items():
            if number in self.key_files:
                file = self.key_files[number]
                file.synced = max(file.synced, count)
        for known in self.ceilings.values():
            while len(known) > 1 and known[1][0] <= self.synced:
                del known[0]

    def ceiling(self, key: tuple[str, int]) -> int:
        """What may be spent, whichever of the frames not synced the machine would lose."""
        known = self.ceilings.get(key, [])
        if not known or known[0][0] > self.synced:
            return 0
        return min(ceiling for _, ceiling in known)

    def lose_power(self, random: Random) -> None:
        """Of what was not synced, any first part is there; the cells are not."""
        kept = random.randint(self.synced, len(self.frames))
        del self.frames[kept:]
        self.cells[:] = array("q", [random.randrange(3) for _ in self.cells])
        for file in self.key_files.values():
            del file.frames[random.randint(file.synced, len(file.frames)) :]

    def read(
        self,
        *,
        same_boot: bool,
        limits: Limits | None = None,
        now_ns: int = 0,
        secret: bytes = b"",
    ) -> Journal:
        """What the frames say; written anew in the fewest entries, as a starting server does."""
        kept = limits or Limits()
        journal = Journal(keys=KeyLedger(secret, kept.keys_max, kept.key_retention_ms))
        for frame in self.frames:
            for entry in decode(frame):
                journal.fold(entry)
        settle_cells(journal, self.cells, same_boot=same_boot)
        boot = BOOT if same_boot else "another boot"
        read_keys(self._key_entries(), journal.keys, boot=boot, now_ns=now_ns)
        take_in(journal, now_ns)
        journal.key_file = KeyFile(max(self.key_files, default=0) + 1, now_ns, journal.keys.size)
        return journal

    def _key_entries(self) -> Iterator[KeyEntry]:
        for number in sorted(self.key_files):
            for frame in self.key_files[number].frames:
                yield from decode_keys(frame)

    def rewrite(self, journal: Journal) -> None:
        """Replace all frames by one, and all key files by one, durably."""
        file = journal.key_file
        self.key_files.clear()
        pieces = whole_ledger(journal.keys, boot=BOOT, now_ns=file.until_ns)
        self.rewrite_keys(file.number, pieces)
        self.frames, self.synced, self.ceilings = [], 0, {}
        self.write(journal.entries())
        self.sync(self.written)
