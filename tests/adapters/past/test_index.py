"""The index saves reading, and never changes an answer: in doubt it is thrown away."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import archive, body, indexed, told, write
from tests.support.lives import DAY, NOON, SECOND
from vcap_es.adapters.past import index as index_module
from vcap_es.adapters.past.archive import Archive
from vcap_es.adapters.past.index import index_path
from vcap_es.adapters.past.messages import (
    AnyQuestion,
    BalancesThen,
    ConsumeOf,
    IntervalsOf,
    ReasonsOf,
    StatementOf,
)
from vcap_es.errors import LogError
from vcap_es.events.facts import (
    Definition,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaDefined,
    Spend,
    SpendReported,
    ToppedUp,
    Version,
)

V1 = Version(0, 1)
EVENTS = 9_600


def _opened(number: int, total: int = 10**9) -> IntervalOpened:
    return IntervalOpened(
        cap="c",
        number=number,
        start=NOON + number * DAY,
        end=NOON + (number + 1) * DAY,
        total=total,
        version=V1,
        timezone="UTC",
        tzdata="2026a",
    )


def _long_life(events: int = EVENTS) -> list[Fact]:
    """A closed interval, and one that is open yet, each with half of about so many events."""
    facts: list[Fact] = [MetaDefined(cap="c", version=V1, definition=Definition(total=10**9))]
    for number in range(2):
        facts.append(_opened(number))
        for each in range(1, events // 4 + 1):
            facts.append(ToppedUp(cap="c", number=number, incarnation="s", moved=10 * each))
            spent = 10 * each - 4
            entry = Spend(cap="c", number=number, spent=spent, refunded=0, refused=0, final=False)
            facts.append(SpendReported(incarnation="s", entries=[entry]))
        if number == 0:
            facts += [
                IntervalEnded(cap="c", number=0),
                IntervalClosed(cap="c", number=0, unreported=4),
            ]
    return facts


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log on which one cap has many events, with its index."""
    path = tmp_path_factory.mktemp("old") / "log.sqlite"
    write(path, _long_life())
    with archive(path) as found:
        indexed(found, _head(found))
    return path


def _head(found: Archive) -> int:
    return found.pages.head().position


QUESTIONS: list[AnyQuestion] = [
    BalancesThen("c", position=EVENTS // 3),
    BalancesThen("c", position=EVENTS - 3),
    BalancesThen("c", at=NOON + (EVENTS // 3 * 2) * SECOND),
    IntervalsOf("c", -1, 10),
    ReasonsOf("c", NOON + 5000 * SECOND),
    ReasonsOf("c", NOON + DAY + SECOND),
    ConsumeOf("c", "s.0.c.11-13"),
    ConsumeOf("c", "s.0.c.20000-20015"),
    ConsumeOf("c", "s.1.c.15001-15002"),
    ConsumeOf("c", "s.1.c.29994-29999"),
    ConsumeOf("c", "s.1.c.99999-100000"),
    ConsumeOf("c", "s.0.c.29990-29998"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_a_question_reads_little_of_a_long_life(
    old: Path, question: AnyQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many events the cap has, no more are read than lie between some chapters."""
    # Given an archive that counts what it reads
    read: list[int] = []
    with archive(old) as found:
        of_cap = found.pages.of_cap

        def counted(*arguments: Any, **more: Any) -> Any:
            page = of_cap(*arguments, **more)
            read.append(len(page.events))
            return page

        monkeypatch.setattr(found.pages, "of_cap", counted)
        # When it is asked
        body(found, question, _head(found))
    # Then it has read a few chapters' worth, of all the thousands
    assert sum(read) <= 4 * index_module.EVENTS_APART


@pytest.mark.parametrize("question", [*QUESTIONS, StatementOf("c", 1)], ids=repr)
def test_the_index_changes_no_answer(old: Path, question: AnyQuestion, tmp_path: Path) -> None:
    """Without it, the same is read from the log itself."""
    plain = tmp_path / "log.sqlite"
    plain.write_bytes(old.read_bytes())
    with archive(old) as found, archive(plain, writes=False) as without:
        head = _head(found)
        assert body(found, question, head) == body(without, question, head)
    assert not index_path(plain).exists(), "who only reads leaves nothing there"


def test_an_index_of_another_log_is_thrown_away(tmp_path: Path) -> None:
    """A log that was put back, or differs anywhere before where the index came from, is not it."""
    path = tmp_path / "log.sqlite"
    write(path, _long_life(2_000))
    with archive(path) as found:
        indexed(found, _head(found))
        assert found.index.positions("c", 0, 10**6)
    # Given the log of another life in its place
    path.unlink()
    Path(f"{path}-wal").unlink(missing_ok=True)
    Path(f"{path}-shm").unlink(missing_ok=True)
    write(path, [MetaDefined(cap="c", version=V1, definition=Definition(total=5)), _opened(0, 7)])
    with archive(path) as found:
        # Then nothing of the old index is left, and answers are those of the new log
        assert found.index.positions("c", 0, 10**6) == []
        assert found.index.scanned == 0
        assert told(found, BalancesThen("c"), 2)["intervals"][0]["total"] == 7


def test_an_index_of_another_version_is_made_anew(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that folds otherwise reads nothing of what an earlier one has kept."""
    path = tmp_path / "log.sqlite"
    for suffix in ("", "-index"):
        Path(f"{path}{suffix}").write_bytes(Path(f"{old}{suffix}").read_bytes())
    monkeypatch.setattr(index_module, "FORMAT", b"another")
    with archive(path) as found:
        assert found.index.positions("c", 0, 10**6) == []


def test_a_damaged_chapter_is_never_believed(old: Path, tmp_path: Path) -> None:
    """Who hits it is told to ask again; after that, answers come from the log."""
    path = tmp_path / "log.sqlite"
    for suffix in ("", "-index"):
        Path(f"{path}{suffix}").write_bytes(Path(f"{old}{suffix}").read_bytes())
    with sqlite3.connect(index_path(path)) as db:
        db.execute("UPDATE chapters SET life = CAST(life || x'00' AS BLOB)")
    db.close()
    asked = BalancesThen("c", position=EVENTS // 2)
    with archive(path) as found, archive(old) as sound:
        with pytest.raises(LogError, match="ask again"):
            told(found, asked, EVENTS)
        assert told(found, asked, EVENTS) == told(sound, asked, EVENTS)


def test_an_index_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nothing is kept, and every answer is right."""
    path = tmp_path / "log.sqlite"
    monkeypatch.setattr(index_module, "EVENTS_APART", 20)
    write(path, _long_life(2_000))
    with archive(path) as found:
        assert found.index._db is not None
        found.index._db.execute("PRAGMA max_page_count = 1")
        indexed(found, _head(found))
        assert "full" in found.index.failure
        intervals = told(found, IntervalsOf("c", -1, 10), _head(found))["intervals"]
        assert [each["spent"] for each in intervals] == [4_996, 4_996]


def test_chapters_take_little_room(old: Path) -> None:
    """The index of a long life is a small part of its log."""
    assert index_path(old).stat().st_size < old.stat().st_size / 4
