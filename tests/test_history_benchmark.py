"""The benchmark of reading history, in a tiny size: it runs, and measures what it says."""

from benchmarks import history


def test_the_benchmark_of_history_runs() -> None:
    """Every figure is there; what is bounded whatever the machine does is within its bound."""
    # When it runs over a short life
    rows = history.figures(events=4_000, round_seconds=0.3)
    # Then each figure has a value, and each aim a verdict
    assert [row["figure"] for row in rows if "aim" in row] == [
        "explain one consume of any age",
        "balances at any instant",
        f"p99 of a topup, {history.AUDITORS} auditors reading all / quiet",
        "memory that the master and its reader grew by while all was read",
        "longest WAL",
    ]
    assert all(row["value"] for row in rows)
    assert all(row["reached"] in (True, False) for row in rows if "aim" in row)
    assert rows[-1]["reached"] is True
