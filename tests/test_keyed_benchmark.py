"""The benchmark of keyed calls runs, in a size that takes no time."""

from benchmarks import keyed


def test_the_benchmark_of_keyed_calls_runs() -> None:
    """It gives rates, and what a key costs in the journal; no figure of so few calls counts."""
    rows = keyed.figures(calls=200, rounds=1)
    assert [row["figure"] for row in rows] == [
        "with a key each",
        "without",
        "keyed / plain",
        "journal of a key",
    ]
    assert rows[-1]["reached"], rows[-1]
