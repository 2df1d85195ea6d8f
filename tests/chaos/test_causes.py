"""What made a gap long is told by the lines that nodes logged in it."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.causes import lines_of, told
from tests.chaos.told import Gap


def log(path: Path, struck: float, lines: list[tuple[float, str, dict[str, object]]]) -> None:
    """Let a node have logged these events, at seconds after that of the monotonic clock."""
    wall = time.time() - time.monotonic() + struck
    with path.open("a") as file:
        for after, event, details in lines:
            at = datetime.fromtimestamp(wall + after, UTC).isoformat()
            file.write(json.dumps({"event": event, "at": at, **details}) + "\n")


def test_a_long_gap_is_told_with_what_nodes_logged_in_it(tmp_path: Path) -> None:
    """The cause names the node, what it waited for and when; what is no line is skipped."""
    # Given
    struck = time.monotonic()
    log(tmp_path / "master0.log", struck, [(-1.0, "decided", {"isr": "m0-a, m1-b", "before": ""})])
    with (tmp_path / "master0.log").open("a") as file:
        file.write('Traceback (most recent\n{"event": "decided"')
    lines: list[tuple[float, str, dict[str, object]]] = [
        (0.1, "role", {"role": "leading"}),
        (0.2, "linked", {"epoch": 3}),
        (0.3, "is let in", {"node": "m1", "follower": "m0-a", "lag": 2}),
        (0.5, "commit waits", {"why": "its own disk", "ms": 250}),
        (9.0, "slow disk", {"what": "log", "ms": 700}),
    ]
    log(tmp_path / "master1.log", struck, lines)
    # When
    why, *shown = told(Gap(0.8, struck), struck, lines_of(tmp_path, struck - 2, struck + 0.8))
    # Then
    assert why.split("; ") == [
        "+100 ms master1 was leading",
        "+300 ms master1 let m0-a in",
        "+500 ms master1 waited for its own disk",
    ]
    assert len(shown) == 3


def test_a_fault_that_nobody_could_bear_is_told_as_such(tmp_path: Path) -> None:
    """While one master alone is in sync, or alone decides who votes, nobody else may lead."""
    for isr, before, why in (
        ("m0-a", "", "nobody else could lead: no second copy was in sync"),
        ("m0-a, m1-b", "m0-a", "nobody else could lead: who votes was being changed"),
    ):
        # Given
        struck = time.monotonic()
        path = tmp_path / "master0.log"
        path.write_text("")
        log(path, struck, [(-0.1, "decided", {"isr": isr, "before": before})])
        # When
        found = told(Gap(2.0, struck), struck, lines_of(tmp_path, struck - 2, struck + 2))
        # Then
        assert found == [why]


def test_a_gap_of_which_nothing_was_logged_is_told_with_the_load(tmp_path: Path) -> None:
    """Then it is not known why, and that is said."""
    struck = time.monotonic()
    (why,) = told(Gap(1.0, struck), struck, lines_of(tmp_path, struck - 2, struck + 1))
    assert why.startswith("nothing was logged of it, at load ")
