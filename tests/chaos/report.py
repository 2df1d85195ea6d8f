"""The figures of a run, what must hold of them, and what could not be tried."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil

from msgspec import Struct

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.life import Outcome, Story
from tests.chaos.told import KINDS

SYNC_SECONDS = 5.0
"""Both masters are in sync so soon when nothing is wrong any more, 99 times of a hundred."""

_COLUMNS = ("fault", "times", "no write ms", "no topup ms", "in sync s", "flaws", "")


class Report(Struct, kw_only=True):
    """What came of it: the lines to print, and whether every must was met."""

    lines: list[str]
    is_good: bool


def report(
    stories: Sequence[Story], planned: Mapping[str, int], skipped: Mapping[str, str]
) -> Report:
    """All figures of these lives, of which so many faults were planned."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for story in stories:
        for outcome in story.outcomes:
            outcomes[outcome.fault].append(outcome)
    rows = [_row(FAULTS[name], outcomes[name], count) for name, count in planned.items()]
    findings = [each for story in stories for each in _findings(story)]
    lines = [*_table([_COLUMNS, *(cells for cells, _ in rows)]), *_totals(stories, findings)]
    lines += [f"SKIPPED   {name}: {why}" for name, why in skipped.items()]
    lines += [
        f"SLOW      {why}" for story in stories for each in story.outcomes for why in each.why
    ]
    lines += [f"FINDING   {each}" for each in findings[:50]]
    return Report(lines=lines, is_good=not findings and all(good for _, good in rows))


def _findings(story: Story) -> list[str]:
    of_faults = [f"{each.fault}: {text}" for each in story.outcomes for text in each.findings]
    return [*of_faults, *story.findings]


def _row(fault: Fault, outcomes: Sequence[Outcome], planned: int) -> tuple[Sequence[str], bool]:
    missed: list[str] = []
    if len(outcomes) < planned:
        missed.append(f"{planned} times")
    cells = [fault.name, str(len(outcomes))]
    for kind in KINDS:
        gaps = [each.gaps[kind] for each in outcomes]
        cells.append("/".join(f"{each * 1000:.0f}" for each in spread(gaps)))
        if fault.gap is not None:
            missed += [
                f"{name} <= {limit * 1000:.0f} ms without a {kind}"
                for name, limit, found in zip(("p50", "p99"), fault.gap, spread(gaps), strict=False)
                if found > limit
            ]
    syncs = spread([each.sync for each in outcomes])
    cells.append("/".join(f"{each:.1f}" for each in syncs))
    if syncs[1] > SYNC_SECONDS:
        missed.append(f"p99 <= {SYNC_SECONDS:.0f} s until in sync")
    cells.append(str(sum(map(len, (each.findings for each in outcomes)))))
    cells.append(f"MISSED {', '.join(missed)}" if missed else "ok")
    return cells, not missed


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, the 99th of a hundred, and the largest; 0 where there are none."""
    if not values:
        return 0.0, 0.0, 0.0
    ordered = sorted(values)
    return tuple(ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 1.0))  # type: ignore[return-value]  # of three shares


def _totals(stories: Sequence[Story], findings: Sequence[str]) -> list[str]:
    def count(*words: str) -> int:
        return sum(any(word in each for word in words) for each in findings)

    totals = {
        "acknowledgements found on the log of later leaders": sum(s.acknowledged for s in stories),
        "acknowledged events lost": count("lost:"),
        "caps overspent": count("overspend:"),
        "books that are not exact": count("equation:", "books:"),
        "consumes within a slice that lasts, answered yes": sum(s.steady for s in stories),
        "visible errors there": count("did not serve:"),
        "events that both masters have alike": sum(s.position for s in stories),
        "findings in all": len(findings),
    }
    width = max(map(len, totals))
    return [
        "p50/p99/max: without an acknowledged write, without a topup, until both are in sync",
        "",
        *(f"{name:<{width}}  {value:>9,}" for name, value in totals.items()),
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
