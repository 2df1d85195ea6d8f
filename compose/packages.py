"""Debian's packages unpacked into `.cache`, for any user: nothing is installed or started.

A package that is installed already is used as it is. Where apt cannot be asked, or has no such
package, `Unavailable` says so.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
FETCH_SECONDS = 300


class Unavailable(Exception):
    """What is needed cannot be had on this machine; says what, and why."""


def unpacked(name: str, packages: Sequence[str]) -> Path:
    """The root under which `packages` are unpacked, fetched the first time; `name` names it."""
    root = CACHE / name
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch(root, packages)
    return root


def _fetch(root: Path, packages: Sequence[str]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Unavailable(f"no apt-get here to fetch {packages[0]}: install it")
    fetched = root.with_suffix(".fetched")
    shutil.rmtree(fetched, ignore_errors=True)
    (fetched / "root").mkdir(parents=True)
    if _run("apt-get", "download", *packages, at=fetched):
        # The lists of a bare machine are empty; whoever may not fill them is told so here.
        _run("apt-get", "update", at=fetched)
        if error := _run("apt-get", "download", *packages, at=fetched):
            raise Unavailable(f"apt-get cannot download {packages[0]}: {error}")
    for each in sorted(fetched.glob("*.deb")):
        if error := _run("dpkg", "-x", str(each), "root", at=fetched):
            raise Unavailable(f"{each.name} cannot be unpacked: {error}")
    (fetched / "root").rename(root)
    shutil.rmtree(fetched)


def _run(*command: str, at: Path) -> str:
    """Why a command failed; "" where it did not."""
    try:
        done = subprocess.run(
            command, cwd=at, check=False, capture_output=True, text=True, timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {FETCH_SECONDS} s"
    return "" if done.returncode == 0 else (done.stderr.strip() or "it failed").splitlines()[-1]
