"""The log on disks that lose their power, their syncs, their room and their bits: 20,000 cases."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.storage.real_process import obstacle
from tests.storage.workers import tally, workers

SEEDS = {
    "power_loss": 30,
    "real_process": 4,
    "unsynced": 2,
    "failed_sync": 160,
    "failed_write": 60,
    "full_disk": 35,
    "surgery": 24,
    "held_up": 15,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes that all tests of this file share."""
    with workers() as pool:
        yield pool


def test_a_power_loss_leaves_what_was_acknowledged(pool: ProcessPoolExecutor) -> None:
    """Between any two operations: what is there is exactly the log after a transaction."""
    seen = tally(pool, "power_loss", SEEDS["power_loss"])
    assert seen["cases"] > 12_000
    assert seen["lost_begun"] > 1000  # transactions under way were lost in some cases,
    assert seen["kept_begun"] > 100  # and were there in others,
    assert seen["again"] > 1000  # also when the power failed in the recovery or soon after it


def test_a_power_loss_under_a_real_process_is_no_different(pool: ProcessPoolExecutor) -> None:
    """What it did to its disk was seen from outside: Python's own SQLite, nothing in between."""
    if reason := obstacle():
        pytest.skip(reason)
    seen = tally(pool, "real_process", SEEDS["real_process"])
    assert seen["cases"] > 1000
    assert seen["lost_begun"] > 100
    assert seen["kept_begun"] > 10


def test_a_log_that_is_not_synced_is_found_out(pool: ProcessPoolExecutor) -> None:
    """The cases above can fail: without syncs most of them do."""
    seen = tally(pool, "unsynced", SEEDS["unsynced"])
    assert seen["broken"] > seen["cases"] // 2


def test_a_failed_sync_loses_nothing_that_was_acknowledged(pool: ProcessPoolExecutor) -> None:
    """Also if a new process goes on with what the kernel shows and the disk does not hold."""
    seen = tally(pool, "failed_sync", SEEDS["failed_sync"])
    assert seen["cases"] >= 3000
    assert seen["failed"] > 100
    assert seen["seen_unacknowledged"] > 10  # a process went on with what nobody was told of


def test_a_failed_write_loses_nothing_that_was_acknowledged(pool: ProcessPoolExecutor) -> None:
    """Nor one that was half done, nor a truncation."""
    seen = tally(pool, "failed_write", SEEDS["failed_write"])
    assert seen["cases"] >= 1000
    assert seen["failed"] > 40


def test_a_full_disk_is_no_doubt(pool: ProcessPoolExecutor) -> None:
    """Nothing of the batch is there, it is recorded later, and then the power may fail as well."""
    seen = tally(pool, "full_disk", SEEDS["full_disk"])
    assert seen["cases"] >= 2000
    assert seen["full"] > 50


def test_a_damaged_wal_leaves_a_prefix_and_a_watermark_elsewhere_tells(
    pool: ProcessPoolExecutor,
) -> None:
    """Cut, zeroed or flipped anywhere: what is whole before that is there, and only that."""
    seen = tally(pool, "surgery", SEEDS["surgery"])
    assert seen["cases"] >= 2500
    assert seen["lost"] > 1000


def test_a_damaged_wal_under_a_checkpoint_leaves_a_past_or_is_told(
    pool: ProcessPoolExecutor,
) -> None:
    """A reader has held the checkpoint up, so the main file is ahead of what the WAL has left."""
    seen = tally(pool, "held_up", SEEDS["held_up"])
    assert seen["cases"] >= 600
    assert seen["told"] > 0
