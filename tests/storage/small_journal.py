"""A journal on a disk that is really full, in a process of its own.

`python -m tests.storage.small_journal FOLDER`: FOLDER is a small file system with nothing in it.
A store into memory that is mapped to a hole of a file ends the process where the disk is full.
"""

import json
import os
import sys
from pathlib import Path

from tests.storage.small_disk import SmallDisk
from vcap_es.adapters.storage.ballot_file import BallotFile
from vcap_es.adapters.storage.journal_files import JournalFiles
from vcap_es.components.volumecap_server.slices.journal import Dropped, Entry
from vcap_es.components.volumecap_server.slices.slice import CELLS_PER_SLOT
from vcap_es.errors import JournalError

SLOTS_MAX = 1 << 20
"""Their cells would need far more room than there is."""


def main(folder: Path) -> None:
    """Use a journal until the disk is full, and go on when there is room again."""
    disk = SmallDisk(folder)
    files = JournalFiles(folder / "j", slots_max=SLOTS_MAX)
    files.begin(incarnation=lambda: "i" * 32, session="s")
    ballot = BallotFile.open(folder / "ballot", lambda: "m0")
    disk.fill(0)
    slots = 0
    while files.has_room(slots + 1):
        slots += 1
        for cell in range(CELLS_PER_SLOT):
            files.cells[(slots - 1) * CELLS_PER_SLOT + cell] = slots
    ballot.keep(ballot.ballot)
    disk.make_room()
    grown = files.has_room(slots + 1)
    files.cells[slots * CELLS_PER_SLOT] = 1
    disk.fill(0)
    print(json.dumps({"slots": slots, "grown": grown, "said": _said(files), "new": _new(folder)}))
    os._exit(0)


def _said(files: JournalFiles) -> str:
    """What a journal says that cannot be written."""
    entry: Entry = Dropped(cap="c" * 1000, number=0)
    try:
        while True:
            files.write([entry])
    except JournalError as error:
        return str(error)


def _new(folder: Path) -> str:
    """What a journal says that cannot be made."""
    try:
        JournalFiles(folder / "k", slots_max=SLOTS_MAX)
    except JournalError as error:
        return str(error)
    return "made"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
