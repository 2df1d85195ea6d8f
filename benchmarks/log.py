"""How fast the log in SQLite is, against what it is made of and against another event store."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import aiosqlite
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.logs import open_log
from benchmarks.rows import Row, sized
from vcap_es.events.chain import Stored
from vcap_es.events.codec import encode
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import Definition, Fact, IntervalOpened, MetaDefined, ToppedUp, Version
from vcap_es.events.log import Head
from vcap_es.events.sealing import seal
from vcap_es.projections.replay import recover

WRITERS = (1, 16, 256)
"""How many tasks append at once, each one event and the next when that is durable."""

_LEAST = {
    "append, 256 writers, against bare aiosqlite": 0.3,
    "copy of sealed events": 50_000,
    "replay with chain and fold": 150_000,
    "replay against PyPI eventsourcing": 3,
}
AIMS = {figure: f">= {least:,}" for figure, least in _LEAST.items()}

_ROUNDS = sized(3, tiny=1)
_EVENTS = sized({1: 800, 16: 6_000, 256: 40_000}, tiny={1: 20, 16: 100, 256: 600})
_REPLAYED = sized(200_000, tiny=4_000)
_CAPS = tuple(f"campaign:{number}" for number in range(1000))
_REPLAYED_OF_PEER = sized(5_000, tiny=200)
_COPIED = sized(200_000, tiny=3_000)
_COPY_BATCH = 1_000

AppendOne = Callable[[Draft], Awaitable[object]]


def append_rates(rounds: int = _ROUNDS) -> dict[str, dict[str, float]]:
    """Durable appends per second for each number of writers, and how they compare.

    `vcap_es` is `SqliteLog` with Avro, hash chain, ids and epoch; `aiosqlite` is a bare group
    commit of as many bytes an event. Both have synchronous=FULL, one event an append, and take
    turns; figures are medians of `rounds`, the ratio is the median of each turn's ratio.
    """
    rates: dict[str, dict[str, float]] = {}
    for writers in WRITERS:
        ours, bare = [], []
        for _ in range(rounds):
            with _folder() as folder:
                ours.append(asyncio.run(_ours(folder, writers)))
                bare.append(asyncio.run(_bare(folder, writers)))
        rates[f"{writers} writers"] = {
            "vcap_es": median(ours),
            "aiosqlite": median(bare),
            "ratio": median(one / other for one, other in zip(ours, bare, strict=True)),
        }
    return rates


def replay_rate(rounds: int = _ROUNDS) -> dict[str, float]:
    """Events per second read from SQLite and decoded, and those of a replay by `eventsourcing`.

    The peer replays one aggregate from its own SQLite store, events of the same fields.
    """
    ours, peer = [], []
    for _ in range(rounds):
        with _folder() as folder:
            ours.append(asyncio.run(_replay(folder)))
            peer.append(_replay_of_peer(folder))
    ratio = median(one / other for one, other in zip(ours, peer, strict=True))
    return {"vcap_es": median(ours), "eventsourcing": median(peer), "ratio": ratio}


def copy_rate(rounds: int = _ROUNDS) -> float:
    """Events per second that a log copies from another: every link checked, each batch durable."""
    entries = seal(_drafts(_COPIED), 1, Head())
    rates = []
    for _ in range(rounds):
        with _folder() as folder:
            rates.append(asyncio.run(_copy(folder, entries)))
    return median(rates)


async def _copy(folder: Path, entries: list[Stored]) -> float:
    async with open_log(folder / "copy.db") as log:
        start = time.perf_counter()
        for first in range(0, len(entries), _COPY_BATCH):
            await log.copy(entries[first : first + _COPY_BATCH], first)
        took = time.perf_counter() - start
        assert (await log.head()).position == len(entries)
        return len(entries) / took


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="vcap-bench-", dir=Path.cwd()) as folder:
        yield Path(folder)


def _drafts(amount: int) -> list[Draft]:
    return [_draft(number, _fact(number)) for number in range(1, amount + 1)]


def _draft(number: int, fact: Fact) -> Draft:
    return Draft(
        event_id=number.to_bytes(16),
        recorded_at=1_790_000_000_000_000 + number,
        dc="ams",
        actor="server-17",
        correlation="",
        fact=fact,
    )


def _fact(number: int) -> ToppedUp:
    incarnation = "5f0e8c1a9b3d47262d1c0b7e6a59f483"
    return ToppedUp(
        cap=_CAPS[number % len(_CAPS)], number=20_412, incarnation=incarnation, moved=number
    )


async def _rate(append: AppendOne, writers: int) -> float:
    drafts = _drafts(_EVENTS[writers])

    async def write(own: list[Draft]) -> None:
        for draft in own:
            await append(draft)

    start = time.perf_counter()
    await asyncio.gather(*(write(drafts[first::writers]) for first in range(writers)))
    return len(drafts) / (time.perf_counter() - start)


async def _ours(folder: Path, writers: int) -> float:
    async with open_log(folder / "ours.db") as log:
        return await _rate(lambda draft: log.append([draft], 1), writers)


async def _bare(folder: Path, writers: int) -> float:
    """The least that a group commit is: a queue, a writer, a table of positions and bytes."""
    waiting: asyncio.Queue[tuple[bytes, asyncio.Future[int]]] = asyncio.Queue()
    payload = bytes(_row_bytes())

    async def append(_: Draft) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((payload, answer))
        return await answer

    async with aiosqlite.connect(folder / "bare.db", isolation_level=None) as db:
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = FULL")
        await db.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        writer = asyncio.create_task(_group_commit(db, waiting))
        try:
            return await _rate(append, writers)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


async def _group_commit(
    db: aiosqlite.Connection, waiting: asyncio.Queue[tuple[bytes, asyncio.Future[int]]]
) -> None:
    position = 0
    while True:
        group = [await waiting.get()]
        while not waiting.empty():
            group.append(waiting.get_nowait())
        rows = [(position + place, body) for place, (body, _) in enumerate(group, 1)]
        await db.execute("BEGIN IMMEDIATE")
        await db.executemany("INSERT INTO events VALUES (?, ?)", rows)
        await db.commit()
        for (position, _), (_, answer) in zip(rows, group, strict=True):
            answer.set_result(position)


def _row_bytes() -> int:
    """How many bytes one of our rows holds: fact, id, link, and the texts and numbers."""
    draft = _drafts(1)[0]
    texts = len(draft.dc + draft.actor + draft.correlation + type(draft.fact).__name__)
    return len(encode(draft.fact)) + len(draft.event_id) + 32 + texts + 16


async def _replay(folder: Path) -> float:
    """As a master starts: read, check the chain, decode, fold."""
    async with open_log(folder / "replay.db", "OFF") as log:
        drafts = _history(_REPLAYED)
        for first in range(0, len(drafts), 5_000):
            await log.append(drafts[first : first + 5_000], 1)
        start = time.perf_counter()
        recovered = await recover(log)
        assert recovered.head.position == _REPLAYED
        return _REPLAYED / (time.perf_counter() - start)


def _history(amount: int) -> list[Draft]:
    """A life that folds: caps, their intervals, and topups of their slices."""
    facts: list[Fact] = []
    version = Version(0, 1)
    for cap in _CAPS:
        definition = Definition(total=1 << 60)
        facts.append(MetaDefined(cap=cap, version=version, definition=definition))
        facts.append(
            IntervalOpened(
                cap=cap,
                number=20_412,
                start=0,
                end=1,
                total=1 << 60,
                version=version,
                timezone="UTC",
                tzdata="2026a",
            )
        )
    facts += [_fact(number) for number in range(1, amount - len(facts) + 1)]
    return [_draft(number, fact) for number, fact in enumerate(facts, 1)]


class _Volumecap(Aggregate):
    """The peer's slice: what one server was given of one interval."""

    @event("Opened")
    def __init__(self, cap: str, number: int) -> None:
        self.cap = cap
        self.number = number
        self.moved = 0

    @event("ToppedUp")
    def top_up(self, cap: str, number: int, incarnation: str, moved: int) -> None:
        assert (self.cap, self.number, len(incarnation)) == (cap, number, 32)
        self.moved = moved


def _replay_of_peer(folder: Path) -> float:
    store: Application[Any] = Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(folder / "peer.db"),
        }
    )
    cap = _Volumecap(cap="campaign:1", number=20_412)
    for number in range(1, _REPLAYED_OF_PEER):
        fact = _fact(number)
        cap.top_up("campaign:1", fact.number, fact.incarnation, fact.moved)
    store.save(cap)
    start = time.perf_counter()
    again: _Volumecap = store.repository.get(cap.id)
    assert again.version == _REPLAYED_OF_PEER
    rate = again.version / (time.perf_counter() - start)
    store.close()
    return rate


def figures() -> list[Row]:
    """The rows that `python -m benchmarks` prints."""
    rows: list[Row] = []
    for writers, rates in append_rates().items():
        figure = f"append, {writers}, against bare aiosqlite"
        rows.append(Row(f"append, {writers}", f"{rates['vcap_es']:,.0f}", "events/s"))
        rows.append(_row(figure, rates["ratio"], f"{rates['ratio']:.2f}", "of its rate"))
    copied = copy_rate()
    rows.append(_row("copy of sealed events", copied, f"{copied:,.0f}", "events/s"))
    replayed = replay_rate()
    ours, ratio = replayed["vcap_es"], replayed["ratio"]
    rows.append(_row("replay with chain and fold", ours, f"{ours:,.0f}", "events/s"))
    rows.append(_row("replay against PyPI eventsourcing", ratio, f"{ratio:.1f}", "times as fast"))
    return rows


def _row(figure: str, value: float, shown: str, unit: str) -> Row:
    least = _LEAST.get(figure)
    if least is None:
        return Row(figure, shown, unit)
    return Row(figure, shown, unit, AIMS[figure], value >= least)
