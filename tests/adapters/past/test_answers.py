"""Answers about the past are what a plain fold over the whole log gives, wherever they begin."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.archives import archive, body, events_of, indexed, told, write
from tests.support.lives import CAPS, NOON, SECOND, SERVERS, lives, recorded
from vcap_es.adapters.http.shapes.caps import balances_of, books_of
from vcap_es.adapters.http.shapes.events import event_of
from vcap_es.adapters.http.shapes.statements import consume_explanation_of, explanation_of, line_of
from vcap_es.adapters.past import index as index_module
from vcap_es.adapters.past.messages import (
    BalancesThen,
    ConsumeOf,
    EventsOf,
    IntervalsOf,
    LogPage,
    ReasonsOf,
    StatementOf,
)
from vcap_es.errors import InvalidInput, RequestRefused, VcapError
from vcap_es.events.consume_ids import ConsumeId
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Fact, caps_of, part_of
from vcap_es.projections.balances import interval_balance
from vcap_es.projections.consumes import explain_consume
from vcap_es.projections.explanations import explain
from vcap_es.projections.history import fold_until
from vcap_es.projections.statement import statement

NAMES = {"a1": "first"}


def _json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _or_refusal(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except RequestRefused as refused:
        return refused.code
    except VcapError as error:
        return str(error)


def _of_cap(events: list[Recorded], cap: str, until: int) -> list[Recorded]:
    return [each for each in events if cap in caps_of(each.fact) and each.position <= until]


class _Plain:
    """What the whole log says, read anew for each question."""

    def __init__(self, events: list[Recorded], cap: str, until: int) -> None:
        self.events, self.cap, self.until = _of_cap(events, cap, until), cap, until

    def balances(self, *, position: int | None = None, at: int | None = None) -> Any:
        history = fold_until(self.events, cap=self.cap, position=position, at=at)
        meta = history.state.metas.get(self.cap)
        if meta is None:
            return "unknown_cap"
        last = [
            each.position
            for each in self.events
            if (position is None or each.position <= position)
            and (at is None or each.recorded_at <= at)
        ]
        return _json(balances_of(meta, last[-1]))

    def intervals(self) -> Any:
        found = fold_until(self.events, cap=self.cap).intervals(self.cap)
        return _json([books_of(interval_balance(each)) for each in found])

    def lines(self, number: int | None) -> Any:
        return _json([line_of(each) for each in statement(self.events, self.cap, number)])

    def reasons(self, at: int) -> Any:
        return _json(explanation_of(self.cap, explain(self.events, self.cap, at=at, names=NAMES)))

    def consume(self, wanted: ConsumeId) -> Any:
        return _json(consume_explanation_of(self.cap, explain_consume(self.events, wanted, NAMES)))

    def history(self) -> bytes:
        shown = (event_of(each, part_of(each.fact, {self.cap})) for each in self.events)
        return b"".join(msgspec.json.encode(each) + b"\n" for each in shown)


@settings(max_examples=60)
@given(lives(longest=150), st.data())
def test_answers_are_those_of_a_plain_fold(facts: list[Fact], data: st.DataObject) -> None:
    """However far the index has come, and in whatever steps, no answer differs by a byte."""
    # Given a log with an index that has come some way, chapters being few events apart
    cap = data.draw(st.sampled_from(CAPS))
    until = data.draw(st.integers(0, len(facts)))
    ways = sorted(data.draw(st.lists(st.integers(0, until), max_size=3)))
    with (
        TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(index_module, "EVENTS_APART", data.draw(st.integers(1, 9)))
        patch.setattr(index_module, "LEDGER_EVENTS_MIN", data.draw(st.integers(1, 9)))
        patch.setattr(index_module, "BYTES_AN_EVENT", 10_000)
        path = Path(folder) / "log.sqlite"
        write(path, facts)
        plain = _Plain(events_of(path), cap, until)
        for way in ways:
            with archive(path) as found:
                indexed(found, way)
        # When everything that there is to ask is asked
        with archive(path, writes=data.draw(st.booleans())) as found:

            def ask(question: Any) -> Any:
                return _or_refusal(lambda: told(found, question, until, NAMES))

            # Then all of it is as the whole log says
            for position in data.draw(st.lists(st.integers(0, until), max_size=4)):
                asked = BalancesThen(cap, position=position)
                assert ask(asked) == plain.balances(position=position)
            for seconds in data.draw(st.lists(st.integers(-2, 160), max_size=4)):
                at = NOON + seconds * SECOND
                assert ask(BalancesThen(cap, at=at)) == plain.balances(at=at)
                if plain.events:
                    assert ask(ReasonsOf(cap, at)) == _or_refusal(lambda at=at: plain.reasons(at))
            if not plain.events:
                assert ask(EventsOf(cap)) == ask(StatementOf(cap)) == "unknown_cap"
                return
            intervals = plain.intervals()
            assert ask(IntervalsOf(cap, -1, 1000))["intervals"] == intervals
            first = ask(IntervalsOf(cap, -1, 1))
            rest = ask(IntervalsOf(cap, int(first["next"] or -1), 1000))["intervals"]
            assert first["intervals"] + (rest if first["next"] else []) == intervals
            assert ask(StatementOf(cap))["lines"] == plain.lines(None)
            assert body(found, EventsOf(cap), until) == plain.history()
            for each in intervals:
                number = each["number"]
                assert ask(StatementOf(cap, number))["lines"] == plain.lines(number)
                for server in SERVERS:
                    start = data.draw(st.integers(0, 120))
                    amount = data.draw(st.integers(1, 40))
                    wanted = ConsumeId(server, number, cap, start, start + amount)
                    text = f"{server}.{number}.{cap}.{start}-{start + amount}"
                    assert ask(ConsumeOf(cap, text)) == plain.consume(wanted)


@given(lives(), st.sampled_from([None, *CAPS]), st.sampled_from([None, "ToppedUp"]), st.data())
def test_pages_of_the_log_are_whole(
    facts: list[Fact], cap: str | None, kind: str | None, data: st.DataObject
) -> None:
    """Page after page every event comes once, up to what is committed and no further."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.sqlite"
        write(path, facts)
        until, limit = data.draw(st.integers(0, len(facts))), data.draw(st.integers(1, 20))
        with archive(path) as found:
            seen, after = [], 0
            while True:
                page = told(found, LogPage(after, limit, cap, kind), until)
                assert len(page["events"]) <= limit
                assert page["head"] == until
                seen += [each["position"] for each in page["events"]]
                if page["next"] is None:
                    break
                after = page["next"]
    assert seen == [
        each.position
        for each in recorded(facts)
        if each.position <= until
        and (cap is None or cap in caps_of(each.fact))
        and (kind is None or type(each.fact).__name__ == kind)
    ]


def test_a_position_that_is_not_committed_is_refused(tmp_path: Path) -> None:
    """What is on the disk and not committed is told nobody, by whatever position."""
    path = tmp_path / "log.sqlite"
    write(path, [])
    with archive(path) as found, pytest.raises(InvalidInput, match="not written yet"):
        told(found, BalancesThen("c", position=1), 0)
