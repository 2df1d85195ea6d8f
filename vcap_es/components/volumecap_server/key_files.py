"""The key files of a server: what is written into which, and when one is dropped or written anew.

A file is written for a stretch of time, or until it is long, and dropped whole when the newest
answer in it is older than the retention time. Where evicted answers are most of what the files have
(and more than a whole file), all that is left is written into one file, by the side, and that takes
the place of those before it.
"""

from collections import deque

from vcap_es.components.volumecap_server.keys.records import (
    CallerNamed,
    FileBegun,
    IntervalNamed,
    KeyAnswered,
    KeyEntry,
    KeyFile,
    whole_ledger,
)
from vcap_es.components.volumecap_server.slices.engine import SliceEngine
from vcap_es.components.volumecap_server.slices.journal import Journal
from vcap_es.components.volumecap_server.slices.outputs import (
    DropKeys,
    RewriteKeys,
    TurnKeys,
    WriteKeys,
)
from vcap_es.components.volumecap_server.slices.slice import NO_SLOT, Slice

ENTRY_BYTES = 16
"""What a record costs in a file beside its own bytes."""


class KeyFiles:
    """The files of one server, oldest first."""

    def __init__(self, holdings: SliceEngine, journal: Journal) -> None:
        """Go on after the file that `journal` was read from."""
        self._holdings, self._boot, self._ledger = holdings, journal.boot, journal.keys
        self._files = deque([journal.key_file])
        self._size_max = holdings.limits.key_file_bytes_max
        self._due_ns = 0
        self._is_rewriting = False
        self._write, self._write_at = WriteKeys([]), 0
        for name, place in journal.keys.names.items():
            holdings.slices[place].name = name

    @property
    def size(self) -> int:
        """About how many bytes the files have."""
        return sum(each.size for each in self._files)

    def name(self, found: Slice) -> int:
        """The name of an interval, which the file that is written now has said."""
        self.tick(self._holdings.now_ns)
        if not found.name:
            found.name = self._ledger.name(found.key)
            if found.slot == NO_SLOT:
                self._holdings.journal_writer.note(self._holdings.journal_writer.bare(found))
        number = self._files[-1].number
        if found.named_in != number:
            found.named_in = number
            self._entries().append(IntervalNamed(found.name, *found.key))
        return found.name

    def put(self, caller: str, record: bytes) -> None:
        """Keep a record of a caller; the names in it are said already."""
        file, entries = self._files[-1], self._entries()
        share = self._ledger.add(caller, record, self._holdings.now_ns)
        if share.named_in != file.number:
            share.named_in = file.number
            entries.append(CallerNamed(share.index, caller))
        file.size += len(record) + ENTRY_BYTES
        entries.append(KeyAnswered(share.index, record))

    def _entries(self) -> list[KeyEntry]:
        """What is written next: one write has all that comes before the outputs are taken."""
        outputs, at = self._holdings.outputs, self._write_at
        if at >= len(outputs) or outputs[at] is not self._write:
            self._write, self._write_at = WriteKeys([]), len(outputs)
            outputs.append(self._write)
        return self._write.entries

    def tick(self, now_ns: int) -> None:
        """Time has passed: begin another file, and drop those that nobody needs."""
        current = self._files[-1]
        self._ledger.expire(now_ns)
        if now_ns < self._due_ns and current.size < self._size_max:
            return
        current.until_ns = min(current.until_ns, now_ns)
        while self._files and now_ns - self._files[0].until_ns >= self._ledger.retention_ns:
            self._drop_oldest()
        number = current.number + 1
        garbage_max = self._ledger.size + self._size_max
        if self.size > self._ledger.size + garbage_max and not self._is_rewriting:
            self._rewrite(number, now_ns)
            number += 1
        self._begin(number, now_ns)

    def _begin(self, number: int, now_ns: int) -> None:
        until_ns = self._due_ns = now_ns + self._ledger.stretch_ns
        self._files.append(KeyFile(number, until_ns))
        begun = FileBegun(self._boot, until_ns)
        self._holdings.outputs.append(TurnKeys(number, begun))
        self._write = WriteKeys([])

    def _drop_oldest(self) -> None:
        self._holdings.outputs.append(DropKeys(self._files.popleft().number))

    def _rewrite(self, number: int, now_ns: int) -> None:
        self._is_rewriting = True
        self._ledger.close_all(now_ns)
        self._files.append(KeyFile(number, now_ns, self._ledger.size))
        pieces = whole_ledger(self._ledger, boot=self._boot, now_ns=now_ns)
        self._holdings.outputs.append(RewriteKeys(number, pieces))

    def rewritten(self, number: int) -> None:
        """The file of that number has all that those before it had."""
        self._is_rewriting = False
        while self._files and self._files[0].number < number:
            self._drop_oldest()
