"""The checks of `make chaos` find what they look for, when clients remember what never was."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.chaos import checks
from tests.chaos.checks import LogWatch, check_books, check_copies, check_link, check_served
from tests.chaos.cluster import Cluster
from tests.chaos.life import Outcome, Story
from tests.chaos.report import report, spread
from tests.chaos.told import Told, Trouble
from tests.support.deployment import Deployment, deployed

TOTAL = 10


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two masters in sync, one server, and one cap."""
    directory = tmp_path_factory.mktemp("checked")
    with deployed(directory, 1, masters=2, witnesses=1) as deployment:
        terms = {"total": TOTAL, "interval": "month", "labels": {"value": "1"}}
        deployment.control("PUT", "/v1/caps/a", terms)
        yield deployment


@asynccontextmanager
async def cluster_of(dc: Deployment) -> AsyncIterator[Cluster]:
    """What operators see of it."""
    cluster = Cluster(dc)
    try:
        yield cluster
    finally:
        await cluster.close()


def test_a_lost_write_and_a_lost_topup_are_found(dc: Deployment) -> None:
    """What the log has is found there; what it has not is told by name."""

    async def check() -> None:
        async with cluster_of(dc) as cluster:
            told = Told()
            watch = LogWatch(dc, told)
            told.wrote("a", 1)
            assert await watch.check(await cluster.in_sync()) == []
            told.wrote("a", 2)
            told.topped_up("a")
            lost = ["lost: a = 2", "lost: the topup of a"]
            assert await watch.check(await cluster.in_sync()) == lost
            assert watch.acknowledged == 3

    asyncio.run(check())


def test_units_too_many_and_units_that_nobody_booked_are_found(
    dc: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients were told of more than there is, or of what the books do not have."""
    monkeypatch.setattr(checks, "PATIENCE_SECONDS", 0.2)

    async def check() -> None:
        async with cluster_of(dc) as cluster:
            told = Told()
            assert await check_books(cluster, told, ["a"]) == []
            told.consumed["a"] = 1
            assert (await check_books(cluster, told, ["a"]))[0].startswith("books: a:")
            told.consumed["a"] = TOTAL + 1
            assert (await check_books(cluster, told, ["a"]))[0].startswith("overspend: a:")

    asyncio.run(check())


def test_logs_that_are_not_copies_are_found(dc: Deployment, tmp_path: Path) -> None:
    """Equal logs are found equal, and of others the first event that differs is told."""
    ours, other = dc.log_of(0), tmp_path / "log.sqlite"
    assert asyncio.run(check_link(dc)) == []
    position, differences = asyncio.run(check_copies(ours, dc.log_of(1)))
    assert position > 4
    assert differences == []
    # When one event is another
    with closing(sqlite3.connect(ours)) as db:
        db.execute("VACUUM INTO ?", [str(other)])
    with closing(sqlite3.connect(other)) as db, db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("UPDATE events SET actor = 'somebody' WHERE position = 4")
    # Then
    position, differences = asyncio.run(check_copies(ours, other))
    assert position == 3
    assert differences[0].startswith("the logs differ behind position 3")


def test_a_server_that_did_not_serve_is_found_while_it_had_to() -> None:
    """An error within the span counts, one of another server or at another time does not."""
    told = Told()
    told.troubles += [Trouble(1.0, 0, "late"), Trouble(2.0, 0, "no"), Trouble(2.0, 1, "dead")]
    assert check_served(told, 0, since=1.5, until=2.5) == ["server1 did not serve: no"]


def test_a_gap_reaches_from_the_last_acknowledgement_to_the_first_new_one() -> None:
    """The longest one that a span touches, also when it began before."""
    told = Told()
    told.acks["write"] = [0.0, 5.0, 5.1, 5.5, 5.6, 9.0]
    assert told.gap("write", since=5.2, until=5.55).seconds == pytest.approx(0.4)
    assert told.gap("write", since=5.7, until=6.0).seconds == pytest.approx(3.4)


def outcome(gap: float, sync: float = 1.0, findings: Sequence[str] = ()) -> Outcome:
    """What a kill did."""
    gaps = {"write": gap, "topup": 0.1}
    return Outcome(fault="kill primary", gaps=gaps, sync=sync, findings=list(findings))


@pytest.mark.parametrize(
    ("outcomes", "missed"),
    [
        ([outcome(0.1)] * 2, ""),
        ([outcome(0.1)], "MISSED 2 times"),
        ([outcome(0.2)] * 2, "MISSED p50 <= 150 ms without a write"),
        ([outcome(0.1), outcome(0.6)], "MISSED p99 <= 500 ms without a write"),
        ([outcome(0.1), outcome(0.1, sync=6.0)], "MISSED p99 <= 5 s until in sync"),
    ],
)
def test_a_must_that_is_missed_is_told(outcomes: list[Outcome], missed: str) -> None:
    """Too few, too late, or not in sync soon enough: the run is not good, and says why."""
    found = report([Story(outcomes=outcomes, findings=[])], {"kill primary": 2}, {})
    assert found.is_good == (not missed)
    assert missed in "\n".join(found.lines)


def test_findings_and_what_was_skipped_are_told() -> None:
    """A finding alone makes a run not good; what could not be tried is there with its reason."""
    story = Story(outcomes=[outcome(0.1, findings=["lost: a = 2"])], findings=["overspend: b"])
    found = report([story], {"kill primary": 1}, {"fail fsync": "strace not installed"})
    told = "\n".join(found.lines)
    assert not found.is_good
    assert "SKIPPED   fail fsync: strace not installed" in told
    assert "kill primary: lost: a = 2" in told
    assert "overspend: b" in told


def test_the_spread_is_of_values_that_were_seen() -> None:
    """The median, the 99th of a hundred, the largest; none is made up between two."""
    assert spread([float(each) for each in range(1, 101)]) == (50.0, 99.0, 100.0)
    assert spread([]) == (0.0, 0.0, 0.0)
