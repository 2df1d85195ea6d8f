"""Two data centres on a real broker, of which something breaks; `make chaos` breaks much more."""

from pathlib import Path

import pytest

from compose.packages import Unavailable
from tests.chaos.centres import FAULTS, live

EACH_ONCE = ("kill primary", "kill both primaries", "kill broker", "cut off for seconds")


def test_every_unit_is_in_its_place_when_all_is_healed(tmp_path: Path) -> None:
    """Primaries of both sides, the broker and a link die while clients consume: all is exact."""
    plan = [each for each in FAULTS if each.name in EACH_ONCE]
    assert len(plan) == len(EACH_ONCE)
    try:
        findings, struck, clients = live(tmp_path, plan, seed=4)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert findings.found == []
    assert sum(struck.values()) == len(plan)
    assert any(each.consumed for each in clients.books.values())
