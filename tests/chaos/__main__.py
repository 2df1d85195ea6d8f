"""`make chaos`: real masters and servers are killed, paused, cut off and robbed of their disks.

    python -m tests.chaos               all of it, less than 20 minutes on two cores
    python -m tests.chaos --share 0.1   a tenth of each fault

It ends with 1 where something that must hold did not. What this machine cannot do is SKIPPED.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from math import ceil
from pathlib import Path

from tests.chaos import machine
from tests.chaos.faults import FAULTS
from tests.chaos.life import SERVERS, SETTINGS, Machines, Story, live
from tests.chaos.namespaces import Namespaces
from tests.chaos.relays import Relays
from tests.chaos.report import report
from vcap_es.adapters.http.control_plane.app import API

PLAN = {
    "kill primary": 100,
    "pause primary": 20,
    "cut primary off": 8,
    "mute primary": 4,
    "deafen primary": 4,
    "part masters": 4,
    "fail fsync": 10,
    "fill disk": 10,
    "switch over": 20,
    "kill secondary": 8,
    "kill server": 6,
    "kill witness": 6,
    "kill both masters": 4,
}
"""How often each fault strikes."""

LIFE = 40
"""Faults that one deployment lives through."""

SWITCHOVERS = "/v1/primacy/switchovers"


def main() -> None:
    """Run it all, print the figures, end with 1 where a must was missed."""
    given = _arguments()
    if not given.inside and not machine.why_no_network():
        command = [*machine.own_world(), sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        os.execvp(command[0], [*command, machine.INSIDE])  # this very program, inside
    begun = time.monotonic()
    skipped = _skipped()
    planned = {
        name: ceil(count * given.share)
        for name, count in PLAN.items()
        if name not in skipped and (not given.only or name in given.only)
    }
    for line in [*machine.described(), *_settings(given)]:
        print(line, flush=True)
    stories = _lives(planned, given)
    print()
    found = report(stories, planned, skipped)
    for line in [*found.lines, *machine.described()[:1]]:
        print(line)
    print(f"{'every must is met' if found.is_good else 'MISSED'}, {time.monotonic() - begun:.0f} s")
    sys.exit(0 if found.is_good else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--share", type=float, default=1.0, help="of each fault, as 0.1")
    parser.add_argument("--only", nargs="*", choices=list(PLAN), help="these faults alone")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(machine.INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _skipped() -> dict[str, str]:
    """The faults that cannot be here, and why."""
    why = {
        "": "",
        "tracing": machine.why_no_tracing(),
        "small disk": machine.why_no_small_disk(),
        "switchover": "" if any(each.path == SWITCHOVERS for each in API) else "no such call",
    }
    return {name: why[FAULTS[name].needs] for name in PLAN if why[FAULTS[name].needs]}


def _settings(given: argparse.Namespace) -> list[str]:
    told = " ".join(f"{name}={text}" for name, text in SETTINGS.items())
    where = "a network namespace each"
    if not given.inside:
        where = f"relays before the masters on 127.0.0.1, for: {machine.why_no_network()}"
    return [
        f"settings  2 masters, {SERVERS} servers, of which 1 or 3 are witnesses; {where}",
        f"          log synchronous=FULL, journals on, default timings; {told}",
        f"seed      {given.seed}",
    ]


def _lives(planned: dict[str, int], given: argparse.Namespace) -> Sequence[Story]:
    rng, network = random.Random(given.seed), Namespaces() if given.inside else Relays()
    full = ["fill disk"] * planned.get("fill disk", 0)
    others = [name for name, count in planned.items() for _ in range(count) if name != "fill disk"]
    rng.shuffle(others)
    lives = [others[at : at + LIFE] for at in range(0, len(others), LIFE)]
    stories = [
        _live(faults, network, 1 if number % 2 else 3, rng.randrange(1 << 32), are_small=False)
        for number, faults in enumerate(lives)
    ]
    if full:
        stories.append(_live(full, network, 1, rng.randrange(1 << 32), are_small=True))
    return stories


def _live(
    faults: Sequence[str], network: Machines, witnesses: int, seed: int, *, are_small: bool
) -> Story:
    directory = Path(tempfile.mkdtemp(prefix="vcap-chaos-"))
    begun = time.monotonic()
    with ExitStack() as stack:
        if are_small:
            masters = [directory / f"master{slot}" for slot in (0, 1)]
            stack.enter_context(machine.small_disks(masters))
        story = live(
            directory,
            [FAULTS[name] for name in faults],
            witnesses=witnesses,
            seed=seed,
            network=network,
        )
    findings = story.findings + [text for each in story.outcomes for text in each.findings]
    told = ", ".join(f"{name} x {count}" for name, count in sorted(Counter(faults).items()))
    seconds = time.monotonic() - begun
    print(f"life      {told}: {len(findings)} findings, {seconds:.0f} s", flush=True)
    if findings:
        print(f"          kept in {directory}", flush=True)
    else:
        shutil.rmtree(directory)
    return story


if __name__ == "__main__":
    main()
