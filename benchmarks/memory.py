"""How much memory a cap takes in the state of a data centre.

Caps are folded from decoded facts, as a master does at its start: one definition, two open
intervals of a day each, and (second figure) a server that holds a slice of the first. The figure is
a slope, between few caps and many, so that the interpreter and the code are not in it; each point
is a process of its own.
"""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, sized
from vcap_es.events.codec import decode, encode
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalOpened,
    MetaDefined,
    ToppedUp,
    Version,
)
from vcap_es.projections.states.data_centre import Fold

CAPS_FEW, CAPS_MANY = sized((10_000, 100_000), tiny=(100, 5_000))
BYTES_MAX = 1024
"""What a cap may take, in bytes."""

AIMS = {
    f"{kind} {counter}, a cap": f"<= {BYTES_MAX}"
    for kind in ("idle", "held")
    for counter in ("resident", "allocated")
}

_MIDNIGHT = 1_767_225_600_000_000
_DAY_US = 86_400_000_000
_ROOT = Path(__file__).resolve().parents[1]


def bytes_per_cap() -> dict[str, int]:
    """Bytes a cap, as resident memory of a process and as Python's allocator counts them.

    `idle` caps have two open intervals; `held` ones also a slice of the first at one server.
    """
    figures: dict[str, int] = {}
    for held in (False, True):
        few, many = _point(CAPS_FEW, held=held), _point(CAPS_MANY, held=held)
        for counter in ("resident", "allocated"):
            slope = (many[counter] - few[counter]) // (CAPS_MANY - CAPS_FEW)
            figures[f"{'held' if held else 'idle'} {counter}"] = slope
    return figures


def figures() -> list[Row]:
    """The figures of this section, with the aim where there is one."""
    return [
        Row(f"{name}, a cap", str(value), "bytes", AIMS[f"{name}, a cap"], value <= BYTES_MAX)
        for name, value in bytes_per_cap().items()
    ]


def _point(caps: int, *, held: bool) -> dict[str, int]:
    """The memory of two processes that fold this many caps; only one of them counts allocations."""
    return {"resident": _run(caps, held, "resident"), "allocated": _run(caps, held, "allocated")}


def _run(caps: int, held: bool, counter: str) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", str(caps), str(int(held)), counter]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout))


def _measure(caps: int, *, held: bool, counter: str) -> int:
    """The bytes that the state of `caps` caps takes in this process."""
    if counter == "allocated":
        tracemalloc.start()
    before = _used(counter)
    fold = Fold()
    for fact in _facts(caps, held=held):
        fold.evolve(decode(encode(fact)))
    used = _used(counter) - before
    assert len(fold.state.metas) == caps
    return used


def _used(counter: str) -> int:
    if counter == "allocated":
        return tracemalloc.get_traced_memory()[0]
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status tells no resident size: this needs Linux")


def _facts(caps: int, *, held: bool) -> Iterator[Fact]:
    definition, version = Definition(total=1_000_000), Version(0, 1)
    for cap in map("campaign:{:08}".format, range(caps)):
        yield MetaDefined(cap=cap, version=version, definition=definition)
        for number in range(2):
            start = _MIDNIGHT + number * _DAY_US
            yield IntervalOpened(
                cap=cap,
                number=number,
                start=start,
                end=start + _DAY_US,
                total=definition.total,
                version=version,
                timezone=definition.timezone,
                tzdata="2026a",
            )
        if held:
            yield ToppedUp(cap=cap, number=0, incarnation="0f" * 16, moved=1000)


if __name__ == "__main__":
    print(_measure(int(sys.argv[1]), held=sys.argv[2] == "1", counter=sys.argv[3]))
