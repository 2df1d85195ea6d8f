"""The programs that benchmarks need: the machine's own, or Debian's, unpacked into `.cache`."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from msgspec import Struct

from compose.packages import Unavailable, unpacked

PACKAGES = {
    "wrk": ("wrk", "libluajit-5.1-2"),
    "nginx": ("nginx", "libpcre2-8-0"),
}
NOT_LOADED = 127
"""The exit status of a program whose libraries are not there."""


class Tool(Struct, frozen=True):
    """A program, and the environment in which it finds its libraries."""

    path: str
    environment: dict[str, str]


@cache
def tool(name: str) -> Tool:
    """The program `name`; raises Unavailable where it is not here and cannot be fetched."""
    found = shutil.which(name)
    if found is not None:
        return Tool(found, dict(os.environ))
    root = unpacked(name, PACKAGES[name])
    paths = (root / folder / name for folder in ("usr/bin", "usr/sbin"))
    path = next((each for each in paths if each.exists()), None)
    if path is None:
        raise Unavailable(f"{PACKAGES[name][0]} was unpacked into {root}, and has no {name}")
    libraries = os.pathsep.join(map(str, sorted(_folders_of_libraries(root))))
    fetched = Tool(str(path), {**os.environ, "LD_LIBRARY_PATH": libraries})
    tried = subprocess.run([fetched.path, "-v"], env=fetched.environment, capture_output=True)
    if tried.returncode == NOT_LOADED:
        raise Unavailable(f"{name} does not start: {tried.stderr.decode(errors='replace').strip()}")
    return fetched


def _folders_of_libraries(root: Path) -> set[Path]:
    return {each.parent for each in (root / "usr/lib").glob("**/*.so.*")}
