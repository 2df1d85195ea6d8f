"""`python -m vcap_es.sim`: live simulated lives, and say what came of them."""

import os
import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from time import perf_counter

from msgspec import json

from vcap_es.sim.lives.crash_points import STEPS
from vcap_es.sim.lives.profiles import PROFILES, options
from vcap_es.sim.mutations.__main__ import main as hunt_all
from vcap_es.sim.runs import LifeOutcome, Summary, live_once, run, summarize
from vcap_es.sim.shrinking import Case, shrink

SEEDS = Path("tests/seeds")
MIXTURE = {
    "failover": 39,
    "copies": 8,
    "exactly": 5,
    "growth": 8,
    "disks": 12,
    "voters": 12,
    "joint": 2,
    "solo": 2,
}
MIXTURE |= {"promises": 1, "deposed": 1, "tails": 1, "lossy": 1, "forced": 1, "transfers": 2}
MIXTURE |= {"steps": 1, "bounds": 1, "restored": 2, "readmitted": 1}
"""How many of a hundred seeds go to which profile where none is named."""

NODE_FAULTS = ("crash", "power", "amid", "behind", "pause", "slow", "wall", "stop")
DISK_FAULTS = ("fsync", "full", "hang", "tail", "wipe")
LINK_FAULTS = ("cut", "part", "isolate", "clog", "reset")


def main() -> int:
    """Do what the command line asks; 0 where every life ended well."""
    wanted = _arguments()
    if wanted.mutations:
        return hunt_all([])
    if wanted.seed is not None:
        return _one(wanted)
    if wanted.regression:
        return _regression()
    return _many(wanted)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m vcap_es.sim", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), help="a mixture where none is named")
    parser.add_argument("--seeds", default="0..100", metavar="A..B", help="from A up to, not B")
    parser.add_argument("--base", metavar="COMMIT", help="begin the seeds at a number made of it")
    parser.add_argument("--seed", type=int, help="live one life")
    parser.add_argument("--trace", action="store_true", help="print what happens in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mutations", action="store_true", help="hunt every planted bug")
    parser.add_argument("--regression", action="store_true", help=f"the lives in {SEEDS}")
    return parser.parse_args()


# ---- one life


def _one(wanted: Namespace) -> int:
    profile = wanted.profile or "failover"
    print(f"options: {options(PROFILES[profile], wanted.seed)}")
    outcome = live_once(profile, wanted.seed, say=print if wanted.trace else None)
    if not outcome.check:
        print(f"seed {wanted.seed} of {profile} ends well, trace {outcome.trace}")
        return 0
    _tell(outcome, is_shrunk=not wanted.trace)
    return 1


def _regression() -> int:
    failed = 0
    for path in sorted(SEEDS.glob("*.json")):
        check = json.decode(path.read_bytes(), type=Case).live()
        print(f"{path}: {check or 'ends well'}")
        failed += bool(check)
    return 1 if failed else 0


# ---- many lives


def _many(wanted: Namespace) -> int:
    began = perf_counter()
    lives = list(_lives(wanted))
    print(f"{platform.machine()}, {wanted.jobs} of {os.cpu_count()} cores, Python", end=" ")
    print(f"{platform.python_version()}: {len(lives)} lives from seed {lives[0][1]}", flush=True)
    summary = summarize(run(lives, wanted.jobs), lambda outcome: _seen(outcome))
    _print(summary, perf_counter() - began)
    return 1 if summary.failures else 0


def first_seed(commit: str | None) -> int:
    """Where the seeds of a commit begin, so that each lives other lives; 0 for none."""
    return int(commit[:6], 16) * 1000 if commit else 0


def _lives(wanted: Namespace) -> Iterator[tuple[str, int]]:
    first, last = (int(each) for each in wanted.seeds.split(".."))
    base = first_seed(wanted.base)
    shares = list(chain.from_iterable([name] * share for name, share in MIXTURE.items()))
    for seed in range(base + first, base + last):
        # A stride that has no common factor with 100 spreads the profiles evenly.
        yield wanted.profile or shares[seed * 37 % 100], seed


def _seen(outcome: LifeOutcome) -> None:
    if outcome.check:
        _tell(outcome, is_shrunk=True)


def _tell(outcome: LifeOutcome, *, is_shrunk: bool) -> None:
    """Print a life that failed, how to see it again, and what it comes down to."""
    profile, seed, figures = outcome.profile, outcome.seed, outcome.figures
    print(
        f"SIM FAIL check={outcome.check} {outcome.finding}\n"
        f"  seed={seed} profile={profile} vt={figures.virtual_ms / 1000:.4f}s"
        f" step={figures.events} trace={outcome.trace}\n"
        f"  replay: python -m vcap_es.sim --profile {profile} --seed {seed} --trace\n"
        f"  options: {options(PROFILES[profile], seed)}",
        flush=True,
    )
    if is_shrunk and outcome.check != "determinism":
        case = shrink(profile, seed, outcome.check)
        path = _save(case)
        shrunk = ", ".join(map(str, case.mishaps))
        print(f"  shrunk: to {len(case.mishaps)} mishaps: [{shrunk}] saved {path}", flush=True)


def _save(case: Case) -> Path:
    SEEDS.mkdir(parents=True, exist_ok=True)
    path = SEEDS / f"{case.profile}-{case.seed}.json"
    path.write_bytes(json.format(json.encode(case), indent=1) + b"\n")
    return path


def _print(summary: Summary, seconds: float) -> None:
    figures, mishaps = summary.figures, summary.figures.mishaps

    def count(kinds: tuple[str, ...]) -> int:
        return sum(mishaps.get(each, 0) for each in kinds)

    rows = {
        "lives": f"{summary.lives} in {seconds:.0f} s, {summary.lives / seconds:.1f} per second",
        "lived twice, same trace": f"{summary.repeated}",
        "virtual time": f"{figures.virtual_ms / 3_600_000:.2f} hours",
        "events": f"{figures.events:,}",
        "calls of clients": f"{figures.asked:,}",
        "acknowledged events": f"{figures.acknowledged:,}",
        "elections": f"{figures.elections:,}",
        "node faults": f"{count(NODE_FAULTS):,}",
        "disk faults": f"{count(DISK_FAULTS):,}",
        "partitions and resets": f"{count(LINK_FAULTS):,}",
        "switchovers": f"{count(('switch',)):,}",
        "messages": f"{figures.messages:,}",
        "steps of transfers": _steps(mishaps),
        "packet faults": f"{figures.lost:,} lost, {figures.repeated:,} repeated,"
        f" {figures.reordered:,} reordered, {figures.swallowed:,} swallowed by cuts",
        "violations": f"{len(summary.failures)}",
    }
    for name, value in rows.items():
        print(f"  {name:26}{value}")


def _steps(mishaps: dict[str, int]) -> str:
    counts = [mishaps.get(each, 0) for each in STEPS]
    return f"masters died {sum(counts):,} times, at each of {len(STEPS)} at least {min(counts):,}"


if __name__ == "__main__":
    sys.exit(main())
