"""Files of secrets: written whole, readable by their owner alone."""

import os
from pathlib import Path
from secrets import token_hex


def write_secret(path: Path, text: str) -> None:
    """Write a secret that only its owner can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    with path.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def ensure_node_secret(path: Path) -> None:
    """Make the secret by which nodes know each other, where there is none."""
    if not path.exists():
        write_secret(path, token_hex(32))
