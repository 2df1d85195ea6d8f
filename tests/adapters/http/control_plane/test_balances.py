import asyncio
import signal
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.primary import PATIENCE_SECONDS, Primary, with_primary
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed
from vcap_es.events.chain import GENESIS
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import (
    Definition,
    EpochStarted,
    Fact,
    IntervalClosed,
    IntervalEnded,
    IntervalOpened,
    MetaDefined,
    Version,
)
from vcap_es.events.instants import format_instant

DAY = 86_400_000_000


async def _consume(server: ServerNode, cap: str, amount: int) -> Consumed:
    outcome = await server.submit(Consume(cap=cap, minimum=amount, maximum=amount))
    assert isinstance(outcome, Consumed), outcome
    return outcome


async def _spent(primary: Primary, cap: str, amount: int) -> Any:
    """The cap, as soon as its servers have told the master that they spent that much."""
    return await primary.eventually(
        f"/v1/caps/{cap}", lambda each: each["current"]["spent"] == amount
    )


def _is_balanced(interval: dict[str, Any]) -> bool:
    names = ("available", "held", "spent", "expired", "unreported")
    return bool(interval["total"] == sum(interval[name] for name in names))


def test_balances_tell_where_every_unit_is(tmp_path: Path) -> None:
    """Every balance sums to its total, and its servers to what is held and spent."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await _consume(primary.servers[0], "shop:a", 3)
        await _consume(primary.servers[1], "shop:a", 5)
        await _spent(primary, "shop:a", 8)
        found = await primary.get("/v1/caps/shop:a/balances")
        assert [each["number"] for each in found["intervals"]] == [0, 1]
        for each in found["intervals"]:
            assert _is_balanced(each)
            assert each["held"] == sum(server["held"] for server in each["servers"])
        assert sorted(each["spent"] for each in found["intervals"][0]["servers"]) == [3, 5]
        holders = (await primary.get("/v1/caps/shop:a/holders"))["holders"]
        assert {each["name"] for each in holders} == {"s1", "s2"}
        assert all(each["connected"] for each in holders)

    with_primary(tmp_path, check, ["s1", "s2"])


def test_balances_are_told_as_they_were(tmp_path: Path) -> None:
    """By position and by instant the past comes back; the future and the time before do not."""

    async def check(primary: Primary) -> None:
        before = format_instant(primary.node.now())
        await primary.define("shop:a")
        events = (await primary.get("/v1/log?cap=shop:a"))["events"]
        await primary.define("shop:a", total=40)
        await _consume(primary.servers[0], "shop:a", 4)
        now = await _spent(primary, "shop:a", 4)

        async def then(query: str) -> tuple[int, Any]:
            answer = await primary.call("GET", f"/v1/caps/shop:a/balances?{query}")
            return answer.status_code, answer.json()

        status, found = await then(f"position={events[-1]['position']}")
        assert (status, found["version"], found["position"]) == (200, "0.1", events[-1]["position"])
        assert [each["available"] for each in found["intervals"]] == [100, 100]
        assert await then(f"at={events[-1]['recorded_at']}") == (status, found)
        status, found = await then(f"position={primary.node.durable}")
        assert (status, found["intervals"][0]["spent"]) == (200, now["current"]["spent"])
        assert (await then(f"position={primary.node.durable + 1}"))[0] == 422
        assert (await then("position=1"))[1]["code"] == "unknown_cap"
        assert (await then(f"at={before}"))[1]["code"] == "unknown_cap"
        assert (await then("at=2998-01-01T00:00:00Z"))[0] == 422
        assert (await then("at=yesterday"))[0] == 422
        assert (await then(f"at={before}&position=1"))[0] == 400

    with_primary(tmp_path, check, ["s1"])


def _closed_days(cap: str, days: int) -> list[Fact]:
    """A cap with that many days that are over; every second closes after the one behind it."""
    version = Version(0, 1)
    facts: list[Fact] = [
        EpochStarted(epoch=1, leader="m1"),
        MetaDefined(cap=cap, version=version, definition=Definition(total=100)),
    ]
    for number in range(days):
        opened = IntervalOpened(
            cap=cap,
            number=number,
            start=number * DAY,
            end=(number + 1) * DAY,
            total=100,
            version=version,
            timezone="UTC",
            tzdata="2026f",
        )
        facts += [opened, IntervalEnded(cap=cap, number=number)]
        if number % 2:
            facts.append(IntervalClosed(cap=cap, number=number, unreported=0))
            facts.append(IntervalClosed(cap=cap, number=number - 1, unreported=0))
    return facts


def test_closed_intervals_are_read_from_the_log(tmp_path: Path) -> None:
    """Every interval that a cap had is listed once, in order, however its pages are cut."""

    async def check(primary: Primary) -> None:
        whole = (await primary.get("/v1/caps/shop:a/intervals"))["intervals"]
        numbers = [each["number"] for each in whole]
        assert numbers == list(range(len(whole)))
        assert [each["closed"] for each in whole[:8]] == [True] * 8
        assert [each["ended"] for each in whole[8:]] == [False] * (len(whole) - 8)
        assert len(whole) > 8
        assert all(map(_is_balanced, whole))
        for limit in (1, 3, len(whole), 1000):
            pages: list[Any] = []
            path = f"/v1/caps/shop:a/intervals?limit={limit}"
            while path:
                answer = await primary.call("GET", path)
                assert len(answer.json()["intervals"]) <= limit
                pages += answer.json()["intervals"]
                path = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
            assert pages == whole

    with_primary(tmp_path, check, past=_closed_days("shop:a", 8))


def test_a_statement_leads_to_the_balance(tmp_path: Path) -> None:
    """Each line moves an amount; the last line of an interval has the balance of that interval."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await _consume(primary.servers[0], "shop:a", 3)
        cap = await _spent(primary, "shop:a", 3)
        lines = (await primary.get("/v1/caps/shop:a/statement?interval=0"))["lines"]
        assert {each["number"] for each in lines} == {0}
        for place in ("available", "held", "spent", "expired", "unreported"):
            into = sum(each["amount"] for each in lines if each["target"] == place)
            out = sum(each["amount"] for each in lines if each["source"] == place)
            assert into - out == lines[-1][place] == cap["current"][place]
        whole = (await primary.get("/v1/caps/shop:a/statement"))["lines"]
        assert [each["what"] for each in whole][:2] == ["defined", "opened"]
        answer = await primary.call("GET", "/v1/caps/shop:a/statement?interval=9")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    with_primary(tmp_path, check, ["s1"])


def test_explanations_are_told_in_words(tmp_path: Path) -> None:
    """Where every unit is now, where it was, and what became of one consume by its id."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await primary.define("shop:b")
        consumed = await _consume(primary.servers[0], "shop:a", 3)
        await _spent(primary, "shop:a", 3)
        found = await primary.get("/v1/caps/shop:a/explain")
        amounts = {each["place"]: each["amount"] for each in found["reasons"]}
        assert amounts["minted"] == 100 == sum(amounts.values()) - 100
        assert f"3 units spent at s1 ({primary.servers[0].incarnation})" in found["text"]
        opened = (await primary.get("/v1/log?cap=shop:a&kind=IntervalOpened"))["events"][0]
        then = await primary.get(f"/v1/caps/shop:a/explain?at={opened['recorded_at']}")
        assert "100 units free" in then["text"]
        one = await primary.get(f"/v1/caps/shop:a/explain?id={consumed.id}")
        assert (one["status"], one["reasons"]) == ("reported", [])
        assert "3 units of shop:a" in one["text"]
        assert f"what server s1 ({primary.servers[0].incarnation}) spent" in one["text"]
        for path, status in (
            (f"/v1/caps/shop:b/explain?id={consumed.id}", 422),
            ("/v1/caps/shop:a/explain?id=nonsense", 422),
            ("/v1/caps/shop:a/explain?at=2013-01-01T00:00:00Z", 422),
            (f"/v1/caps/shop:a/explain?id={consumed.id}&at=2013-01-01T00:00:00Z", 400),
            ("/v1/caps/shop:c/explain", 404),
        ):
            assert (await primary.call("GET", path)).status_code == status, path

    with_primary(tmp_path, check, ["s1"])


def test_the_history_is_every_event_of_the_cap(tmp_path: Path) -> None:
    """The download has a line an event, the very events that the log gives for that cap."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await primary.define("shop:b")
        for _ in range(3):
            await _consume(primary.servers[0], "shop:a", 3)
            await _consume(primary.servers[0], "shop:b", 3)
        await _spent(primary, "shop:a", 9)
        await _spent(primary, "shop:b", 9)
        answer = await primary.call("GET", "/v1/caps/shop:a/history")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert "shop_a.jsonl" in answer.headers["content-disposition"]
        lines = [msgspec.json.decode(line) for line in answer.text.splitlines()]
        assert lines == (await primary.get("/v1/log?cap=shop:a&limit=1000"))["events"]
        assert "shop:b" not in answer.text

    with_primary(tmp_path, check, ["s1"])


def test_the_log_is_read_page_by_page(tmp_path: Path) -> None:
    """Following `Link` gives every event once and in order; single events are the same."""

    async def check(primary: Primary) -> None:
        for index in range(5):
            await primary.define(f"shop:{index}")
        head, seen = primary.node.durable, list[Any]()
        path = "/v1/log?limit=3"
        while path:
            answer = await primary.call("GET", path)
            assert answer.json()["head"] == head
            seen += answer.json()["events"]
            path = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
        assert [each["position"] for each in seen] == list(range(1, head + 1))
        assert await primary.get("/v1/log/7") == seen[6]
        for position in ("0", "-1", str(head + 1), "x", "9" * 30, str(2**63)):
            assert (await primary.call("GET", f"/v1/log/{position}")).status_code == 404
        kinds = {each["kind"] for each in (await primary.get("/v1/log?kind=MetaDefined"))["events"]}
        assert kinds == {"MetaDefined"}
        assert (await primary.call("GET", "/v1/log?kind=Nonsense")).status_code == 400

    with_primary(tmp_path, check)


def test_events_are_shown_as_far_as_a_key_opens_them(tmp_path: Path) -> None:
    """Of a report over many caps a key sees its own; facts of no cap take a key to all."""

    async def check(primary: Primary) -> None:
        for cap in ("shop:a", "web:a"):
            await primary.define(cap)
            await _consume(primary.servers[0], cap, 3)
        await _spent(primary, "shop:a", 3)
        await _spent(primary, "web:a", 3)
        own = await primary.make_key("auditor", "shop:*")
        answer = await primary.call("GET", "/v1/log?limit=1000", key=own)
        assert "shop:a" in answer.text
        assert "web:a" not in answer.text
        kinds = {each["kind"] for each in answer.json()["events"]}
        assert "SpendReported" in kinds
        assert not kinds & {"ApiKeyCreated", "EpochStarted"}
        assert (await primary.call("GET", "/v1/log?cap=web:a", key=own)).status_code == 403
        assert (await primary.call("GET", "/v1/log/1", key=own)).status_code == 404

    with_primary(tmp_path, check, ["s1"])


def test_a_sound_log_is_verified(tmp_path: Path) -> None:
    """The chain and the books hold, up to the last event, whose link is told."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await _consume(primary.servers[0], "shop:a", 3)
        await _spent(primary, "shop:a", 3)
        found = await primary.get("/v1/verify")
        last = await primary.get(f"/v1/log/{found['position']}")
        assert found == {
            "sound": True,
            "position": found["position"],
            "link": last["link"],
            "findings": [],
        }
        assert found["link"] != GENESIS.hex()

    with_primary(tmp_path, check, ["s1"])


def test_a_changed_log_is_found(tmp_path: Path) -> None:
    """An actor that was rewritten behind the master's back breaks the chain there."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        with sqlite3.connect(tmp_path / "log.sqlite") as database:
            tables = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall()
            for (name,) in tables:
                database.execute(f"DROP TRIGGER {name}")
            database.execute("UPDATE events SET actor = 'nobody' WHERE position = 3")
        database.close()
        found = await primary.get("/v1/verify")
        assert found["sound"] is False
        assert [each["rule"] for each in found["findings"]] == ["chain"]
        assert "position 3" in found["findings"][0]["detail"]

    with_primary(tmp_path, check)


def test_one_verification_runs_at_a_time(tmp_path: Path) -> None:
    """A second one is told to come back later, so auditors cannot stop the master with them."""

    async def check(primary: Primary) -> None:
        for index in range(50):
            await primary.define(f"shop:{index}")
        answers = await asyncio.gather(*(primary.call("GET", "/v1/verify") for _ in range(4)))
        statuses = sorted(each.status_code for each in answers)
        assert statuses[0] == 200
        assert set(statuses) == {200, 429}
        refused = next(each for each in answers if each.status_code == 429)
        assert refused.headers["retry-after"] == "5"

    with_primary(tmp_path, check)


def test_a_key_that_reads_too_much_is_told_when_to_ask_again(tmp_path: Path) -> None:
    """Its budget is refused by name with 429 and Retry-After; another key reads on."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        greedy = await primary.make_key("auditor", "*")
        primary.node.past.charge(greedy.split("_")[1], 10**9)
        for path in ("/statement", "/history", "/explain", "/intervals", "/balances?position=9"):
            answer = await primary.call("GET", f"/v1/caps/shop:a{path}", key=greedy)
            assert (answer.status_code, answer.json()["code"]) == (429, "reading_budget")
            assert int(answer.headers["retry-after"]) > 60
            assert (await primary.call("GET", f"/v1/caps/shop:a{path}")).status_code == 200
        # What is live costs nothing of it
        answer = await primary.call("GET", "/v1/caps/shop:a/balances", key=greedy)
        assert answer.status_code == 200

    with_primary(tmp_path, check)


def test_who_leaves_before_the_answer_frees_their_place(tmp_path: Path) -> None:
    """A client that is gone is noticed while the past is read, not when its answer is sent."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        await primary.get("/v1/caps/shop:a/explain")
        past = primary.node.past
        assert past._process is not None
        # Given a question that is not answered for now
        past._process.send_signal(signal.SIGSTOP)
        _, writer = await asyncio.open_connection("127.0.0.1", primary.port)
        key = primary.keys["auditor"]
        head = f"GET /v1/caps/shop:a/explain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}"
        writer.write(f"{head}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while past.budgets.under_way == 0:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
            # When its client leaves
            writer.close()
            # Then nothing is under way any more
            while past.budgets.under_way > 0:  # noqa: ASYNC110  # likewise
                await asyncio.sleep(0.01)
        past._process.send_signal(signal.SIGCONT)
        assert await primary.get("/v1/caps/shop:a/explain")

    with_primary(tmp_path, check)


def test_who_leaves_in_the_middle_of_an_answer_ends_its_reading(tmp_path: Path) -> None:
    """A client that has seen enough frees its place, though the next part is not there yet."""

    async def check(primary: Primary) -> None:
        past = primary.node.past
        reader, writer = await asyncio.open_connection("127.0.0.1", primary.port)
        head = "GET /v1/caps/shop:a/history HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer"
        writer.write(f"{head} {primary.keys['auditor']}\r\n\r\n".encode())
        # Given a client that has the first part of a long answer, and no more is read for now
        assert b"200 OK" in await reader.read(100)
        assert past._process is not None
        past._process.send_signal(signal.SIGSTOP)
        # When it leaves
        writer.close()
        # Then nothing is under way any more
        async with asyncio.timeout(PATIENCE_SECONDS):
            while past.budgets.under_way > 0:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
        past._process.send_signal(signal.SIGCONT)

    with_primary(tmp_path, check, past=_closed_days("shop:a", 2_000))


def test_a_key_by_group_sees_its_group_alone(tmp_path: Path) -> None:
    """Which group a cap has now is asked of the master, whatever it had when it was recorded."""

    async def check(primary: Primary) -> None:
        await primary.define("a", group="red")
        await primary.define("b", group="blue")
        red = await primary.make_key("auditor", "group:red")

        async def seen() -> set[str]:
            answer = await primary.call("GET", "/v1/log?limit=1000", key=red)
            return {each["fact"]["cap"] for each in answer.json()["events"]}

        assert await seen() == {"a"}
        await primary.define("a", group="blue")
        await primary.define("b", group="red")
        assert await seen() == {"b"}

    with_primary(tmp_path, check)


def test_what_is_not_committed_is_told_nobody(tmp_path: Path) -> None:
    """What is on the disk of a master and may have to go again is in no answer of it."""

    async def check(primary: Primary) -> None:
        await primary.define("shop:a")
        committed = primary.node.durable
        # Given an event that was written and that nobody has committed
        last = (await primary.node.log.read(committed - 1, limit=1))[0]
        fact = MetaDefined(cap="ghost", version=Version(0, 1), definition=Definition(total=1))
        ghost = Draft(
            event_id=b"ghost" * 3 + b"!",
            recorded_at=last.recorded_at,
            dc="dc1",
            actor="m1",
            correlation="",
            fact=fact,
        )
        await primary.node.log.append([ghost], last.epoch)
        assert (await primary.node.log.head()).position == committed + 1
        # Then no reading of the past tells of it
        page = await primary.get("/v1/log?limit=1000")
        assert (page["head"], page["events"][-1]["position"]) == (committed, committed)
        for path, status in (
            (f"/v1/log/{committed + 1}", 404),
            ("/v1/caps/ghost/history", 404),
            ("/v1/caps/ghost/statement", 404),
            (f"/v1/caps/ghost/balances?position={committed + 1}", 422),
        ):
            assert (await primary.call("GET", path)).status_code == status, path
        assert (await primary.get("/v1/verify"))["position"] == committed

    with_primary(tmp_path, check)


@pytest.mark.parametrize(
    "path", ["", "/balances", "/intervals", "/holders", "/statement", "/explain", "/history"]
)
def test_what_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    """Every reading of a cap that was never defined is 404 with the cap's name."""

    async def check(primary: Primary) -> None:
        answer = await primary.call("GET", f"/v1/caps/nothing{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_cap")
        assert "nothing" in answer.json()["detail"]

    with_primary(tmp_path, check)
