"""Snapshots on a disk: written whole or not at all."""

import os
from pathlib import Path

from vcap_es.adapters.storage.durable_files import sync_directory

SNAPSHOT_BYTES_MAX = 1 << 32
"""A larger file is not read: no state is that large."""


def save_snapshot(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`; whoever reads it finds the old bytes or the new ones.

    The bytes are on the disk when this returns. Raises OSError where the disk does not take them;
    the old file is then as it was.
    """
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def load_snapshot(path: Path) -> bytes | None:
    """The bytes of the file at `path`; None where there is no file, or none worth reading."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > SNAPSHOT_BYTES_MAX:
                return None
            return file.read()
    except FileNotFoundError:
        return None
