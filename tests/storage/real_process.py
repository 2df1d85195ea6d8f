"""The life of a log in a process of its own, with Python's own SQLite: what `strace` saw of it.

No file system stands in between: these are the calls to the system, and all of them, also those
that the product does without SQLite. `python -m tests.storage.real_process SEED FOLDER` is that
process.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from tests.storage.disk import DIRECTORY, Disk, Operation, Sync, Truncate, Write
from tests.storage.life import Life
from vcap_es.events.logs import sqlite_writer

_ROOT = Path(__file__).parents[2]
_STEPS = 25
_MARKS = "marks"
_CALLS = "open,openat,creat,close,pwrite64,write,writev,pwritev,pwritev2,lseek,fsync,fdatasync,"
_CALLS += "sync_file_range,truncate,ftruncate,fallocate,unlink,unlinkat,rename,renameat,renameat2"
_HARMLESS = {"open", "openat", "close", "lseek"}


@cache
def obstacle() -> str:
    """Why no process can be traced here; "" where one can."""
    try:
        subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], check=True, capture_output=True)
    except FileNotFoundError:
        return "there is no strace"
    except subprocess.CalledProcessError as error:
        return f"strace may not trace: {error.stderr.decode().strip()}"
    return ""


def traced(seed: int, folder: Path) -> Life:
    """A life that another process led, and on its disk all that that process did to it."""
    theirs, ours, calls = folder / "theirs", folder / "ours", folder / "calls"
    theirs.mkdir()
    ours.mkdir()
    _trace(seed, theirs, calls)
    life = _lived(seed, ours, Disk({}))  # the same one again, for its states
    disk = Disk({})
    for call in _calls(calls.read_text()):
        _note(disk, theirs, call)
    assert (disk.done, disk.begun) == (life.disk.done, life.disk.begun)
    life.disk = disk
    return life


def _trace(seed: int, folder: Path, calls: Path) -> None:
    log = folder / "subject" / "events.db"
    files = [log.parent, log, f"{log}-wal", f"{log}-journal", folder / _MARKS]
    watched = [option for file in files for option in ("-P", str(file))]
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "9999999", "-o", str(calls)]
    child = [sys.executable, "-m", "tests.storage.real_process", str(seed), str(folder)]
    whole = [*strace, "-e", f"trace={_CALLS}", *watched, *child]
    subprocess.run(whole, check=True, cwd=_ROOT)


class _Call(NamedTuple):
    name: str
    file: str
    arguments: str


def _calls(trace: str) -> Iterator[_Call]:
    """The calls that succeeded, each with the file that its first argument stands for."""
    for line in trace.splitlines():
        found = re.fullmatch(r"\d+ +(\w+)\((.*)\) += (-?\d+).*", line)
        assert found is not None, f"a line of strace that says something else: {line[:200]}"
        name, arguments, result = found.groups()
        path = re.match(r'\d+<([^>]*)>|"([^"]*)"', arguments)
        if int(result) >= 0 and name not in _HARMLESS:
            assert path is not None, line[:200]
            yield _Call(name, _text(path[1] or path[2]), arguments)


def _note(disk: Disk, folder: Path, call: _Call) -> None:
    """Tell the disk what a call did."""
    if call.file == str(folder / _MARKS):
        kind, number = _data(call.arguments).decode().split()
        setattr(disk, kind, int(number))
        return
    log = folder / "subject" / "events.db"
    is_folder = call.file == str(log.parent)
    disk.do(DIRECTORY if is_folder else call.file.removeprefix(str(log)), _operation(call))


def _operation(call: _Call) -> Operation:
    match call.name:
        case "pwrite64":
            return Write(int(call.arguments.rpartition(", ")[2]), _data(call.arguments))
        case "ftruncate":
            return Truncate(int(call.arguments.rpartition(", ")[2]))
        case "fsync" | "fdatasync":
            return Sync()
        case "unlink":
            return Truncate(0, deletes=True)
        case _:
            raise AssertionError(f"{call.name} on {call.file}: the disk knows no such call")


def _data(arguments: str) -> bytes:
    """The bytes of the argument in quotation marks."""
    return bytes.fromhex(arguments.split('"')[1].replace("\\x", ""))


def _text(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


class _Telling(Disk):
    """Says what was begun and done as a call to the system, so that `strace` sees when."""

    def __init__(self, marks: Path) -> None:
        self._marks = os.open(marks, os.O_WRONLY | os.O_CREAT)
        super().__init__({})

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in ("begun", "done"):
            os.write(self._marks, f"{name} {value}".encode())


def _lived(seed: int, folder: Path, disk: Disk) -> Life:
    with patch.object(sqlite_writer, "_WAL_BYTES", 70_000):
        life = Life(Random(f"real process {seed}"), folder, {}, disk)
        life.open()
        for _ in range(_STEPS):
            life.step()
        life.close()
        life.leave()
    return life


if __name__ == "__main__":
    _lived(int(sys.argv[1]), Path(sys.argv[2]), _Telling(Path(sys.argv[2]) / _MARKS))
