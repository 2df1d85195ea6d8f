"""Why a gap was as long as it was, by what the nodes logged meanwhile."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tests.chaos.told import Gap

EARLIER_SECONDS = 2.0
"""So long before a fault what was logged tells whether it could be borne."""

LINES_MAX = 20


class Line(NamedTuple):
    """What a node logged, at this second of the monotonic clock."""

    at: float
    node: str
    event: str
    details: Mapping[str, object]

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.node} {self.event} {told}"


_CAUSES: dict[str, Callable[[Line], str]] = {
    "this process was not run": lambda line: f"was not run for {line.details['ms']} ms",
    "slow disk": lambda line: f"took {line.details['ms']} ms to write its {line.details['what']}",
    "commit waits": lambda line: f"waited for {line.details['why']}",
    "stands for election": lambda line: f"stood for epoch {line.details['epoch']}",
    "refused": lambda line: f"was refused by {line.details['by']}",
    "must not lead": lambda line: f"must not lead: {line.details['why']}",
    "is let in": lambda line: f"let {line.details['follower']} in",
    "is not let in": lambda line: f"gave up letting {line.details['follower']} in",
    "begins anew": lambda line: f"began anew: {line.details['reason']}",
    "role": lambda line: f"was {line.details['role']}",
}
"""What is told of a line of each kind; of others, nothing."""

_SHOWN = {*_CAUSES, "proposed", "decided", "commit goes on", "refusal", "link lost", "replayed"}
_HIDDEN = {"at", "event", "level", "component", "node", "dc"}


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
    details = {name: value for name, value in told.items() if name not in _HIDDEN}
    return Line(at, node, event, details)


def causes(gap: Gap, struck: float, lines: Sequence[Line]) -> list[str]:
    """What in these lines made a gap long, in words, after a fault that struck at that second."""
    found = [text for text in [_unborne([each for each in lines if each.at < struck])] if text]
    for each in lines:
        if each.event in _CAUSES and gap.since <= each.at <= gap.since + gap.seconds:
            found.append(f"{_after(gap, each)} {each.node} {_CAUSES[each.event](each)}")
    return found


def _unborne(before: Sequence[Line]) -> str:
    """Why nobody else could lead when the fault struck, "" where somebody could."""
    decided = [each for each in before if each.event == "decided"]
    if not decided:
        return ""
    if decided[-1].details["before"]:
        return "nobody else could lead: who votes was being changed"
    is_alone = ", " not in str(decided[-1].details["isr"])
    return "nobody else could lead: no second copy was in sync" if is_alone else ""


def told(gap: Gap, struck: float, lines: Sequence[Line]) -> list[str]:
    """The causes, and then what was logged."""
    unknown = f"nothing was logged of it, at load {os.getloadavg()[0]:.1f}"
    shown = [each for each in lines if each.event in _SHOWN and each.at >= struck][:LINES_MAX]
    why = "; ".join(causes(gap, struck, lines)) or unknown
    return [why, *(f"    {_after(gap, each)}  {each}"[:180] for each in shown)]


def _after(gap: Gap, line: Line) -> str:
    """When that was, counted from the last acknowledgement before the gap."""
    return f"{(line.at - gap.since) * 1000:+.0f} ms"
