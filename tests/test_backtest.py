"""Backtests against models that are simple enough to trust: a counter for each interval."""

import asyncio
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcap_es.backtest import BacktestReport, backtest
from vcap_es.backtest.tally import AnswerTally
from vcap_es.backtest.trace import Consumption, Trace
from vcap_es.caps_file import CapsFile, parse_caps
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.errors import InvalidInput
from vcap_es.events.envelope import Recorded
from vcap_es.events.facts import Definition, IntervalOpened, MetaDefined, Version
from vcap_es.events.instants import format_instant, parse_instant
from vcap_es.events.logs.sqlite import SqliteLog
from vcap_es.events.periods import window_at
from vcap_es.projections.audit import Audit
from vcap_es.projections.states.data_centre import Fold

ROOT = Path(__file__).parents[1]
FLIGHTS = ROOT / "examples" / "flights"
HOUR_US = 3_600_000_000
DAY_CAP = '[[cap]]\nid = "a"\ntotal = 10\n'


def caps(text: str = DAY_CAP) -> CapsFile:
    """The caps of a file with this text."""
    return parse_caps(text, "caps.toml")


def trace_of(directory: Path, *lines: str, header: str = "at,cap,amount") -> Path:
    """A trace with these lines."""
    path = directory / "trace.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


def events_of(path: Path) -> list[Recorded]:
    """Everything on the log at `path`."""

    async def read() -> list[Recorded]:
        log = await SqliteLog.open(path)
        try:
            return await log.read(limit=1_000_000)
        finally:
            await log.close()

    return asyncio.run(read())


def test_a_report_has_the_documented_form(tmp_path: Path) -> None:
    """The JSON of a report has exactly the names that the documentation gives."""
    # Given a cap of 10 a day in New York, and 12 units asked for on one day and 3 on the next
    wanted = caps(DAY_CAP + 'timezone = "America/New_York"\n')
    lines = (
        "2013-01-01T23:00:00-05:00,a,8",
        "2013-01-02T04:59:59Z,a,4",
        "2013-01-02T05:00:00Z,a,3",
    )
    # When they are backtested
    report = backtest(wanted, trace_of(tmp_path, *lines), servers=2)
    # Then each day has what it served; a refused consume takes nothing
    found = msgspec.json.decode(msgspec.json.encode(report))
    interval = {"total": 10, "stranded": 0}
    first = {"start": "2013-01-01T05:00:00Z", "end": "2013-01-02T05:00:00Z"}
    second = {"start": "2013-01-02T05:00:00Z", "end": "2013-01-03T05:00:00Z"}
    assert found["caps"] == {
        "a": {
            "intervals": [
                {**interval, **first, "consumed": 8, "refused": 4},
                {**interval, **second, "consumed": 3, "refused": 0},
            ]
        }
    }
    totals = found["totals"]
    assert list(totals) == [
        *("consumed", "refused", "stranded", "outside"),
        *("events", "seconds", "consumes_per_second"),
    ]
    assert (totals["consumed"], totals["refused"], totals["outside"]) == (11, 4, 0)


GAPS = st.one_of(st.integers(0, 3), st.integers(0, 7200), st.integers(0, 200_000))
LINES = st.lists(st.tuples(GAPS, st.sampled_from("abc"), st.integers(1, 9)), max_size=80)
TOTALS = st.integers(0, 40)


@settings(max_examples=40)
@given(
    lines=LINES,
    total=TOTALS,
    kind=st.sampled_from(["minute", "hour", "day", "week"]),
    servers=st.integers(1, 5),
    start=st.integers(0, 86_399_999_999),
)
def test_any_number_of_servers_serves_like_one_counter(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[int, str, int]],
    total: int,
    kind: str,
    servers: int,
    start: int,
) -> None:
    """Servers with slices of their own refuse exactly what one counter an interval refuses."""
    # Given traffic on three caps
    folder = tmp_path_factory.mktemp("counter")
    now = parse_instant("2026-03-28T00:00:00Z") + start
    spent: dict[tuple[str, int], int] = {}
    refused: dict[tuple[str, int], int] = {}
    rows = []
    for gap_s, cap, amount in lines:
        now += gap_s * 1_000_000
        rows.append(f"{format_instant(now)},{cap},{amount}")
        # ... and one counter for each interval, which takes a consume whole or not at all
        key = (cap, window_at(kind, "Europe/Berlin", now).start)  # type: ignore[arg-type]  # one of the kinds
        fits = spent.get(key, 0) + amount <= total
        into = spent if fits else refused
        into[key] = into.get(key, 0) + amount
    text = "".join(
        f'[[cap]]\nid = "{cap}"\ntotal = {total}\ninterval = "{kind}"\ntimezone = "Europe/Berlin"\n'
        for cap in "abc"
    )
    # When it is backtested
    report = backtest(caps(text), trace_of(folder, *rows), servers=servers)
    # Then every interval comes out the same, and nothing was refused that was somewhere
    found = {
        (cap, parse_instant(each.start)): each
        for cap, its in report.caps.items()
        for each in its.intervals
    }
    assert {key: each.consumed for key, each in found.items() if each.consumed} == spent
    assert {key: each.refused for key, each in found.items() if each.refused} == refused
    assert report.totals.stranded == 0


def test_years_of_empty_periods_cost_nothing_and_are_listed(tmp_path: Path) -> None:
    """Traffic of a few hours in eight years is counted exactly, and only those hours are logged."""
    # Given 60 lines in each of two hours, years apart, of five caps that are capped in each
    first, last = "2016-02-29T10", "2024-02-29T22"
    lines = [
        f"{hour}:{n // 2:02}:{n % 2}0Z,{'abcde'[n % 5]},{1 + n % 3}"
        for hour in (first, last)
        for n in range(60)
    ]
    text = "".join(f'[[cap]]\nid = "{cap}"\ntotal = 17\ninterval = "hour"\n' for cap in "abcde")
    log = tmp_path / "log.sqlite"
    # When they are backtested
    report = backtest(caps(text), trace_of(tmp_path, *lines), log=log)
    # Then each cap is like one counter that begins anew with the hour
    for place, cap in enumerate("abcde"):
        left, refused = 17, 0
        for amount in [1 + n % 3 for n in range(60) if n % 5 == place]:
            left, refused = (left - amount, refused) if amount <= left else (left, refused + amount)
        intervals = report.caps[cap].intervals
        busy = [each for each in intervals if each.consumed or each.refused]
        assert [each.start[:13] for each in busy] == [first, last]
        assert {(each.consumed, each.refused) for each in busy} == {(17 - left, refused)}
        # And every hour between them is there, one after the other
        hours = (parse_instant(f"{last}:00:00Z") - parse_instant(f"{first}:00:00Z")) // HOUR_US
        assert len(intervals) == hours + 1
        assert all(one.end == other.start for one, other in pairwise(intervals))
        assert {each.total for each in intervals} == {17}
    assert report.totals.stranded == 0
    # And the log has intervals where there was traffic alone
    opened = [each for each in events_of(log) if isinstance(each.fact, IntervalOpened)]
    assert len(opened) == 2 * 5
    assert report.totals.events < 10 * len(lines)


def test_a_cap_that_nobody_asks_for_has_its_periods_in_the_report(tmp_path: Path) -> None:
    """A cap is listed by its calendar from its start on, with its first, shorter period."""
    text = (
        DAY_CAP
        + '[[cap]]\nid = "b"\ntotal = 9\ninitial_total = 4\nstart = 2026-01-02T12:00:00Z\n'
        + "end = 2026-01-04T06:00:00Z\n"
    )
    lines = ("2026-01-01T12:00:00Z,a,1", "2026-01-05T12:00:00Z,a,1")
    intervals = backtest(caps(text), trace_of(tmp_path, *lines)).caps["b"].intervals
    assert [(each.start, each.end, each.total) for each in intervals] == [
        ("2026-01-02T12:00:00Z", "2026-01-03T00:00:00Z", 4),
        ("2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", 9),
        ("2026-01-04T00:00:00Z", "2026-01-04T06:00:00Z", 9),
    ]


def test_what_is_asked_outside_of_a_cap_is_counted_apart(tmp_path: Path) -> None:
    """Units asked for before a cap's start or after its end belong to no interval."""
    bounds = 'start = 2026-01-02T12:00:00Z\nend = 2026-01-03T12:00:00Z\ninterval = "hour"\n'
    lines = (
        "2026-01-01T00:00:00Z,a,3",
        "2026-01-02T11:59:59.999999Z,a,4",
        "2026-01-02T12:00:00Z,a,10",
        "2026-01-03T11:59:59.999999Z,a,10",
        "2026-01-03T12:00:00Z,a,5",
    )
    report = backtest(caps(DAY_CAP + bounds), trace_of(tmp_path, *lines))
    assert (report.totals.consumed, report.totals.outside) == (20, 12)
    intervals = report.caps["a"].intervals
    assert len(intervals) == 24
    assert [each.consumed for each in intervals] == [10, *[0] * 22, 10]


def test_a_template_defines_caps_as_they_come(tmp_path: Path) -> None:
    """A cap that only a template matches has the template's total from its first line on."""
    text = '[[cap]]\nmatch = "user:*"\ntotal = 2\n'
    lines = [f"2026-01-01T00:00:0{n}Z,user:{n % 2},1" for n in range(7)]
    report = backtest(caps(text), trace_of(tmp_path, *lines))
    consumed = {cap: found.intervals[0].consumed for cap, found in report.caps.items()}
    assert consumed == {"user:0": 2, "user:1": 2}
    assert report.totals.refused == 3


def test_even_pacing_holds_units_back(tmp_path: Path) -> None:
    """A paced cap serves no more than was released; what is refused for that is not stranded."""
    text = '[[cap]]\nid = "a"\ntotal = 24\npacing = "even"\n'
    lines = [f"2026-01-01T{hour:02}:00:00Z,a,1" for hour in (6, 12) for _ in range(20)]
    report = backtest(caps(text), trace_of(tmp_path, *lines), servers=3)
    (interval,) = report.caps["a"].intervals
    assert (interval.consumed, interval.refused, interval.stranded) == (12, 28, 0)


def test_a_shadow_cap_reports_what_it_would_have_refused(tmp_path: Path) -> None:
    """A shadow cap says yes to everybody; the report has what a hard one would refuse."""
    lines = [f"2026-01-01T00:00:{n:02}Z,a,1" for n in range(15)]
    report = backtest(caps(DAY_CAP + 'mode = "shadow"\n'), trace_of(tmp_path, *lines))
    (interval,) = report.caps["a"].intervals
    assert (interval.consumed, interval.refused, interval.stranded) == (10, 5, 0)


def test_every_interval_between_the_first_line_and_the_last_is_listed(tmp_path: Path) -> None:
    """Intervals without traffic are in the report; the one opened ahead of need is not."""
    path = trace_of(tmp_path, "2026-01-01T12:00:00Z,a", "2026-01-05T12:00:00Z,a", header="at,cap")
    intervals = backtest(caps(), path).caps["a"].intervals
    assert [each.start[:10] for each in intervals] == [f"2026-01-0{day}" for day in range(1, 6)]
    assert [each.consumed for each in intervals] == [1, 0, 0, 0, 1]


def test_an_empty_trace_gives_an_empty_report(tmp_path: Path) -> None:
    """Without a line nothing has happened, and that is no error."""
    report = backtest(caps(), trace_of(tmp_path))
    assert (report.caps, report.totals.consumed, report.totals.events) == ({}, 0, 0)


WRONG = {
    "": "line 1, column at is missing",
    "cap,amount\n": "line 1, column at is missing",
    "at,amount\n": "line 1, column cap is missing",
    "at,cap,amuont\n": "line 1, column 'amuont' (str) is not known",
    "at,cap,cap\n": "line 1, column cap is there twice",
    "at,cap\nyesterday,a\n": "line 2, at: ",
    "at,cap\n2026-01-01T00:00:00,a\n": "line 2, at: ",
    "at,cap\n2026-01-01T00:00:00Z,a\n2026-01-01T00:00:60Z,a\n": "line 3, at: ",
    "at,cap\n2026-01-01T00:00:01Z,a\n2026-01-01T00:00:00Z,a\n": "line 3, at: ",
    "at,cap\n2026-01-01T00:00:00Z,a b\n": "line 2, cap: ",
    "at,cap\n2026-01-01T00:00:00Z,b\n": "line 2, cap: 'b' is not among the caps",
    "at,cap\n2026-01-01T00:00:00Z\n": "line 2, has 1 columns, not 2",
    "at,cap,amount\n2026-01-01T00:00:00Z,a,0\n": "line 2, amount: ",
    "at,cap,amount\n2026-01-01T00:00:00Z,a,-1\n": "line 2, amount: ",
    "at,cap,amount\n2026-01-01T00:00:00Z,a,1.5\n": "line 2, amount: ",
    "at,cap,amount\n2026-01-01T00:00:00Z,a,\n": "line 2, amount: ",
    "at,cap,amount\n2026-01-01T00:00:00Z,a,9223372036854775808\n": "line 2, amount: ",
    'at,cap\n2026-01-01T00:00:00Z,"a\n': "line 2, is not CSV: ",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_malformed_trace_is_refused_by_line_and_column(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with a trace, the message names the file, the line and the column."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput) as raised:
        backtest(caps(), path)
    assert str(raised.value).startswith(f"{path}, {WRONG[text]}")


def test_a_trace_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A file that is missing or is no text is named in the message."""
    for content in (None, b"\xff\xfe\x00"):
        path = tmp_path / "trace.csv"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidInput, match=r"trace\.csv cannot be read"):
            backtest(caps(), path)


def test_a_trace_is_not_held_in_memory(tmp_path: Path) -> None:
    """Reading takes less memory than a hundredth of a long file."""
    lines = [f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z,a" for n in range(80_000)]
    path = trace_of(tmp_path, *lines, header="at,cap")
    tracemalloc.start()
    assert sum(line.amount for line in Trace(path)) == len(lines)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


def test_instants_are_read_alike_however_they_are_written(tmp_path: Path) -> None:
    """The short way for whole seconds in UTC gives what the parser of instants gives."""
    texts = [
        "2026-01-01T00:00:59Z",
        "2026-01-01T00:01:00Z",
        "2026-01-01T00:01:59Z",
        "2026-01-01T01:01:59.25+01:00",
        "2026-01-01t00:02:00z",
        "2026-01-01 00:02:01Z",
    ]
    path = trace_of(tmp_path, *(f"{text},a" for text in texts), header="at,cap")
    assert [line.at for line in Trace(path)] == [parse_instant(text) for text in texts]


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    """The share that is done only grows, and ends at 1."""
    lines = [f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z,a,1" for n in range(3000)]
    heard: list[float] = []
    backtest(caps(), trace_of(tmp_path, *lines), on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_a_refusal_of_what_was_somewhere_is_counted_as_stranded() -> None:
    """The tally itself knows what an interval still has: it does not ask who refused."""
    # Given a cap of 10, of which 7 were consumed
    start = parse_instant("2026-01-01T00:00:00Z")
    end = start + 86_400_000_000
    state = Fold()
    version = Version(0, 1)
    state.evolve(MetaDefined(cap="a", version=version, definition=Definition(total=10)))
    state.evolve(
        IntervalOpened(
            cap="a",
            number=0,
            start=start,
            end=end,
            total=10,
            version=version,
            timezone="UTC",
            tzdata="2026a",
        )
    )
    tally = AnswerTally()
    consumed = Consumed(
        cap="a", origin="", last=0, consumed=7, remaining=3, total=10, resets_at=end
    )
    tally.count(Consumption(2, start, "a", 7, 0), consumed, state.state)
    # When 4 units, and then 3, are refused
    refused = Refused(code="unavailable", cap="a", detail="")
    for line, amount in ((3, 4), (4, 3)):
        tally.count(Consumption(line, start, "a", amount, 0), refused, state.state)
    # Then the 3 were there
    (count,) = tally.counts["a"].values()
    assert (count.consumed, count.refused, count.stranded) == (7, 7, 3)


def test_the_log_that_is_kept_is_sound_and_the_same_each_time(tmp_path: Path) -> None:
    """A backtest leaves a log like any other; the same trace gives the same bytes."""
    # Given traffic that needs topups, recalls and refusals over an interval's end
    lines = [f"2026-01-01T23:{50 + n // 6}:{n % 6}0Z,a,1" for n in range(60)]
    lines += [f"2026-01-02T00:{n:02}:00Z,a,2" for n in range(20)]
    trace = trace_of(tmp_path, *lines)
    # When it is backtested twice
    logs = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    reports = [backtest(caps(), trace, log=log) for log in logs]
    # Then an audit finds nothing, and the logs are alike
    one, two = (events_of(log) for log in logs)
    audit = Audit()
    for event in one:
        audit.feed(event)
    assert audit.findings == []
    assert one == two
    assert len(one) == reports[0].totals.events
    # And a log that is there is never added to
    with pytest.raises(InvalidInput, match="is there already"):
        backtest(caps(), trace, log=logs[0])


def test_every_departure_of_a_year_is_capped_exactly(tmp_path: Path) -> None:
    """The flights example, run as its README tells: 336,776 real departures, each day exact."""
    trace, report = tmp_path / "flights.csv", tmp_path / "report.json"

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run(FLIGHTS / "make_trace.py", trace) == "336776 departures\n"
    inputs = ("--caps", FLIGHTS / "caps.toml", "--trace", trace)
    run("-m", "vcap_es", "backtest", *inputs, "--report", report)
    assert run(FLIGHTS / "check.py", report).startswith("exact: ")
    totals = msgspec.json.decode(report.read_bytes(), type=BacktestReport).totals
    assert totals.consumed + totals.refused == 336_776
    assert totals.refused > 10_000
    assert totals.stranded == 0
