"""What this machine lets us break, and why not what it does not."""

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PROBE_SECONDS = 10
SMALL_DISK = "48m"
INSIDE = "--inside"
"""Says to the command line that it runs in a namespace of its own already."""

_BEGIN = 'mount -t tmpfs run /run && ip link set lo up && exec "$@"'


def own_world() -> list[str]:
    """The words before a command that runs in namespaces of its own, where it may make networks.

    All that is made there is gone when the command ends; so are all processes.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *user, *spaces, "sh", "-c", _BEGIN, "sh"]


def why_no_network() -> str:
    """Why nodes cannot have machines of their own, "" where they can."""
    if missing := _missing("unshare", "nsenter", "ip"):
        return missing
    words = "ip netns add probe && ip rule add from 10.77.0.1 to 10.77.0.2 blackhole"
    return _why_not([*own_world(), "sh", "-c", words])


def why_no_small_disk() -> str:
    """Why there can be no file system with little room, "" where there can."""
    with TemporaryDirectory() as name:
        return _why_not(["mount", "-t", "tmpfs", "-o", "size=1m", "chaos", name]) or _why_not(
            ["umount", name]
        )


def why_no_tracing() -> str:
    """Why system calls of a running process cannot be made to fail, "" where they can."""
    if missing := _missing("strace"):
        return missing
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    try:
        inject = ["-e", "inject=fdatasync:error=EIO"]
        return _why_not(["strace", "-f", "-qq", *inject, "-p", str(child.pid)])
    finally:
        child.wait()


@contextmanager
def small_disks(directories: Sequence[Path]) -> Iterator[None]:
    """A file system with little room at each of these directories, which are made."""
    with ExitStack() as stack:
        for directory in directories:
            directory.mkdir(mode=0o700)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=700", "chaos"]
            subprocess.run([*mount, str(directory)], check=True)
            stack.callback(subprocess.run, ["umount", str(directory)], check=True)
        yield


def described() -> list[str]:
    """What ran, for people."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [each.partition(":")[2].strip() for each in cpus if each.startswith("model name")]
    model = models[0] if models else platform.machine()
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return [
        f"machine   {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {load}",
        f"python    {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
    ]


def _missing(*programs: str) -> str:
    absent = [each for each in programs if shutil.which(each) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


def _why_not(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PROBE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1] if said else f"{command[0]} ended with {done.returncode}"
