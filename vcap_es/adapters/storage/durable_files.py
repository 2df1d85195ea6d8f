"""What every file that must outlive the machine needs, and Python leaves to its callers."""

import os
from pathlib import Path


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError where the disk takes only a part of it, or none."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def replace_whole(path: Path, data: bytes) -> None:
    """Let the file at `path` hold `data`, durably: whole, or else what it was before."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """A name that was made or changed outlives the machine only when its directory is synced."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
