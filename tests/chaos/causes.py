"""Why a gap was as long as it was, by what the nodes logged meanwhile."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tests.chaos.told import Gap

MARGIN_SECONDS = 0.1
LINES_MAX = 30


class Line(NamedTuple):
    """What a node logged, at this second of the monotonic clock."""

    at: float
    node: str
    event: str
    details: Mapping[str, object]

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.node} {self.event} {told}"


def lines_of(directory: Path, since: float, until: float) -> list[Line]:
    """What all nodes with logs in `directory` told in this span, in order."""
    ahead = time.time() - time.monotonic()
    lines = [
        line
        for path in directory.glob("*.log")
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if (line := _line(path.stem, text, ahead)) is not None and since <= line.at <= until
    ]
    return sorted(lines, key=lambda each: each.at)


def _line(node: str, text: str, ahead: float) -> Line | None:
    try:
        told = json.loads(text)
        at = datetime.fromisoformat(told["at"]).timestamp() - ahead
        event = str(told["event"])
    except (ValueError, TypeError, KeyError):
        return None  # a traceback, or the last line of who was killed
    kept = {
        name: value
        for name, value in told.items()
        if name not in ("at", "event", "level", "component", "node", "dc") and value is not None
    }
    return Line(at, node, event, kept)


def causes(gap: Gap, lines: Sequence[Line]) -> list[str]:
    """What in these lines makes a gap long, in words; nothing where nothing does."""
    until = gap.since + gap.seconds
    within = [each for each in lines if gap.since - MARGIN_SECONDS <= each.at <= until]
    found = [
        f"{each.node} was not run for {each.details['ms']} ms"
        for each in within
        if each.event == "this process was not run"
    ]
    found += [
        f"{each.node}: a write of its {each.details['what']} took {each.details['ms']} ms"
        for each in within
        if each.event == "slow disk"
    ]
    found += [
        f"{each.node} waited for {each.details['why']}"
        for each in within
        if each.event == "commit waits"
    ]
    tries = Counter(each.node for each in within if each.event == "stands for election")
    found += [f"{node} stood {count} times" for node, count in tries.items() if count > 1]
    refused = Counter(str(each.details["by"]) for each in within if each.event == "refused")
    found += [f"{by} refused {count} times" for by, count in refused.items()]
    led = [each for each in within if each.event == "role" and each.details["role"] == "leading"]
    found += [f"{each.node} led after {_ms(each.at - gap.since)} ms" for each in led]
    return list(dict.fromkeys(found))


def told(gap: Gap, lines: Sequence[Line]) -> list[str]:
    """The causes, and what was logged, with milliseconds since the last acknowledgement."""
    why = "; ".join(causes(gap, lines)) or "nothing that was logged: the machine was busy"
    shown = lines[:LINES_MAX]
    return [why, *(f"{_ms(each.at - gap.since):>6} ms  {each}"[:180] for each in shown)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
