"""The primary master as it runs: its log, its snapshot, its clock, its links."""

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.primary import SECRET, Primary, with_primary
from vcap_es.adapters.links import send_queue as links
from vcap_es.adapters.links.send_queue import PATH, POLICY_VIOLATION
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.clock import now_us as real_now_us
from vcap_es.components.decisions.meta import Define
from vcap_es.components.master.identity import Moment
from vcap_es.components.messages.encoding import encode
from vcap_es.components.messages.server import PROTOCOL, Hello
from vcap_es.components.primary_master.outputs import Done
from vcap_es.errors import ClockBehind, LogError
from vcap_es.events.chain import Stored
from vcap_es.events.envelope import Draft
from vcap_es.events.facts import ClusterCreated, Definition
from vcap_es.events.instants import format_instant
from vcap_es.events.logs.memory import MemoryLog


class FailingLog(MemoryLog):
    """A log in memory whose disk fails when it is told to."""

    fails = False

    async def copy(self, entries: Sequence[Stored], committed: int) -> None:
        """Like a COMMIT that failed."""
        if self.fails:
            raise LogError("the disk is gone")
        await super().copy(entries, committed)


def define(cap: str, total: int = 100) -> Define:
    """A command of an operator."""
    return Define(cap=cap, definition=Definition(total=total))


def master(log: MemoryLog, snapshot: Path | None = None) -> MasterNode:
    """A node that will lead the log."""
    return MasterNode(log, dc="dc1", name="m1", secret=SECRET, snapshot=snapshot)


def hello(incarnation: str = "1" * 32, session: str = "s", protocol: int = PROTOCOL) -> bytes:
    """What a server says first."""
    return encode(
        Hello(
            protocol=protocol,
            incarnation=incarnation,
            session=session,
            name="s1",
            address="",
        )
    )


def link_to(primary: Primary, secret: str = SECRET, sock: socket.socket | None = None) -> connect:
    """A connection to its link."""
    url = f"{primary.url.replace('http', 'ws')}{PATH}"
    return connect(
        url, additional_headers={"Authorization": f"Bearer {secret}"}, sock=sock, compression=None
    )


async def closed(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Why the master has closed a connection."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            while True:
                await connection.recv()
    return connection.close_code, connection.close_reason


# ---- the log


def test_when_the_log_fails_the_node_stops_loudly() -> None:
    """Who waits for an answer gets an error, `failure` raises, and nothing is taken any more."""

    async def check() -> None:
        log = FailingLog()
        async with master(log) as node:
            done = await node.submit(define("a"), actor="op", correlation="")
            assert isinstance(done, Done)
            # When
            log.fails = True
            calls = [node.submit(define(cap), actor="op", correlation="") for cap in "bc"]
            answers = await asyncio.gather(
                *calls, node.view(lambda state: len(state.metas)), return_exceptions=True
            )
            # Then
            assert all(isinstance(each, LogError) for each in answers)
            with pytest.raises(LogError, match="the disk is gone"):
                await node.failure()
            with pytest.raises(LogError, match="stopped"):
                await node.submit(define("d"), actor="op", correlation="")
            assert [ok for name, ok, _ in node.ready() if name == "log"] == [False]
        assert (await log.read(limit=1000))[-1].position == (await log.head()).position
        assert {each.fact.cap for each in await log.read(kind="MetaDefined")} == {"a"}  # type: ignore[union-attr]  # of this kind alone

    asyncio.run(check())


def test_a_failed_log_leaves_no_snapshot(tmp_path: Path) -> None:
    """What was decided and is not on the log must not be there after the next start."""

    async def check() -> None:
        log = FailingLog()
        async with master(log, tmp_path / "snapshot") as node:
            log.fails = True
            with pytest.raises(LogError):
                await node.submit(define("a"), actor="op", correlation="")
        assert not (tmp_path / "snapshot").exists()

    asyncio.run(check())


# ---- the snapshot


def test_a_snapshot_is_written_at_the_end_and_spares_the_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next start goes on from it; the state is that of a whole replay."""

    async def check() -> None:
        log, snapshot = MemoryLog(), tmp_path / "snapshot"
        async with master(log, snapshot) as node:
            await node.submit(define("a"), actor="op", correlation="")
        head = await log.head()
        # When it starts again, then it reads only what came behind the snapshot
        async with master(log, snapshot) as node:
            assert set(node.state.metas) == {"a"}
        assert f"after={head.position}" in replayed(capsys)
        # And one that is damaged, or of another log, is only a detour
        snapshot.write_bytes(snapshot.read_bytes()[:-1])
        async with master(log, snapshot) as node:
            assert set(node.state.metas) == {"a"}
        assert "after=0" in replayed(capsys)
        async with master(MemoryLog(), snapshot) as node:
            assert not node.state.metas
        assert "after=0" in replayed(capsys)

    asyncio.run(check())


def replayed(capsys: pytest.CaptureFixture[str]) -> str:
    """What a node told last of its replay, as `name=value` words."""
    captured = capsys.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if "replayed" in line]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])


def test_a_master_that_was_left_takes_part_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes late, like a timer or the end of a link, moves nothing and sets no timer."""

    async def check() -> None:
        async with master(MemoryLog()) as node:
            core = node.core
        heard: list[Moment] = []
        monkeypatch.setattr(core, "tick", heard.append)
        node._tick()
        await asyncio.sleep(0)
        assert heard == []
        assert node._timer is not None
        assert node._timer.cancelled()

    asyncio.run(check())


# ---- the clock


def test_a_clock_that_jumps_opens_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is not ready and says so; when the clock is right again it goes on."""
    jumped_us = 0
    monkeypatch.setattr(
        "vcap_es.adapters.master.master_node.now_us", lambda: real_now_us() + jumped_us
    )

    async def check(primary: Primary) -> None:
        nonlocal jumped_us
        await primary.define("minute", interval="minute")
        before = (await primary.node.log.head()).position
        # When the clock jumps by a day
        jumped_us = 86_400_000_000
        async with asyncio.timeout(20):
            while (await primary.http.get("/readyz")).status_code == 200:  # noqa: ASYNC110  # over HTTP
                await asyncio.sleep(0.01)
        assert "wall clock" in (await primary.http.get("/readyz?verbose")).text
        # Then nothing was ended or opened
        kinds = {type(each.fact).__name__ for each in await primary.node.log.read(before)}
        assert not kinds & {"IntervalEnded", "IntervalOpened", "IntervalClosed"}
        # And when it is set right, all is well
        jumped_us = 0
        async with asyncio.timeout(20):
            while (await primary.http.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # over HTTP
                await asyncio.sleep(0.01)

    with_primary(tmp_path, check)


def test_what_is_decided_while_the_clock_is_wrong_has_the_right_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump that servers and operators lived through does not end intervals afterwards."""
    jumped_us = 0
    monkeypatch.setattr(
        "vcap_es.adapters.master.master_node.now_us", lambda: real_now_us() + jumped_us
    )

    async def check(primary: Primary) -> None:
        nonlocal jumped_us
        await primary.define("before")
        before = (await primary.node.log.head()).position
        # Given a command, and a tick, while the clock is two days ahead
        jumped_us = 2 * 86_400_000_000
        await primary.define("meanwhile")
        jumped_us = 0
        # When time goes on
        primary.node.core.tick(primary.node.moment())
        await primary.define("after")
        # Then no interval has ended, and all are of today
        events = await primary.node.log.read(before)
        assert "IntervalEnded" not in {type(each.fact).__name__ for each in events}
        assert all(each.recorded_at < real_now_us() for each in events)

    with_primary(tmp_path, check)


# ---- links


def test_a_wrong_secret_opens_no_link(tmp_path: Path) -> None:
    """It is refused before a word is said, and the control plane is as it was."""

    async def check(primary: Primary) -> None:
        for secret in ("wrong", "", SECRET[:-1], "é" * 64):
            with pytest.raises(InvalidStatus) as raised:
                async with link_to(primary, secret.encode().decode("latin-1")):
                    pass
            assert raised.value.response.status_code == 403
        assert (await primary.get("/v1/nodes"))["servers"] == []

    with_primary(tmp_path, check)


def test_a_server_of_another_protocol_is_told_to_upgrade(tmp_path: Path) -> None:
    """And so is one whose journal was copied: each is closed with the reason."""

    async def check(primary: Primary) -> None:
        async with link_to(primary) as connection:
            await connection.send(hello(protocol=PROTOCOL + 1))
            code, reason = await closed(connection)
            assert code == POLICY_VIOLATION
            assert "upgrade" in (reason or "")
        async with link_to(primary) as first, link_to(primary) as second:
            await first.send(hello(session="first"))
            await first.recv()
            await second.send(hello(session="second"))
            code, reason = await closed(second)
            assert code == POLICY_VIOLATION
            assert "copied" in (reason or "")
        async with link_to(primary) as connection:
            await connection.send(b"\xc1 no message")
            code, reason = await closed(connection)
            assert code == POLICY_VIOLATION
            assert "not understood" in (reason or "")

    with_primary(tmp_path, check)


def test_a_server_too_slow_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded; it is closed, and everybody else is served."""
    monkeypatch.setattr(links, "QUEUE_MAX", 8)

    async def check(primary: Primary) -> None:
        url = primary.url.removeprefix("http://").split(":")
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, (url[0], int(url[1])))
        async with link_to(primary, sock=small) as connection:
            await connection.send(hello())
            await connection.recv()
            connection.transport.pause_reading()
            # When it reads nothing while the keys change again and again
            async with asyncio.timeout(60):
                while primary.node.servers:
                    await primary.make_key("client", *(f"scope{each}*" for each in range(60)))
            # Then it is forgotten, and the connection ends as soon as it reads
            connection.transport.resume_reading()
            await closed(connection)
        assert (await primary.define("served"))["definition"]["total"] == 100

    with_primary(tmp_path, check)


async def stamped(ahead_s: int) -> MemoryLog:
    """A log whose last event was recorded by a clock that was so far ahead."""
    log = MemoryLog()
    fact = ClusterCreated(cluster="c" * 32, dc="dc1", master="m0")
    draft = Draft(
        event_id=b"1" * 16,
        recorded_at=real_now_us() + ahead_s * 1_000_000,
        dc="dc1",
        actor="m0",
        correlation="",
        fact=fact,
    )
    await log.append([draft], epoch=1)
    return log


def test_a_start_with_a_clock_far_behind_the_log_is_refused_unless_told() -> None:
    """The refusal says by how much, and what to do; with the option the master leads."""

    async def scenario() -> None:
        # Given
        log = await stamped(ahead_s=10 * 24 * 3600)
        # When
        with pytest.raises(ClockBehind, match=r"86\d{4} s behind .* --clock-behind-max-s 86\d{4}"):
            async with master(log):
                pass
        # Then
        async with MasterNode(
            log, dc="dc1", name="m1", secret=SECRET, clock_behind_max_s=11 * 24 * 3600
        ) as node:
            assert node.role == "primary"

    asyncio.run(scenario())


def test_a_log_that_is_ahead_of_the_clock_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The check of the clock says by how much, and until when the calendar stands."""

    async def scenario() -> None:
        # Given
        log = await stamped(ahead_s=3600)
        # When
        async with master(log) as node:
            node._tick()
            words = {name: (holds, word) for name, holds, word in node.ready()}
        # Then
        holds, word = words["clock"]
        assert holds
        assert re.search(r"stamped 3[56]\d\d s ahead of this clock: no period begins or ends", word)
        assert format_instant((await log.read())[0].recorded_at)[:16] in word
        assert "ahead of this clock" in capsys.readouterr().out

    asyncio.run(scenario())


def test_another_clock_of_a_node_is_said() -> None:
    """Who connects with a clock that is two days behind is named, until it goes."""

    async def scenario() -> None:
        # Given
        async with master(MemoryLog()) as node:
            moment = node.moment()
            told = Hello(
                protocol=PROTOCOL,
                incarnation="1" * 32,
                session="s",
                name="s1",
                address="",
                utc=moment.utc - 2 * 24 * 3600 * 1_000_000,
            )
            # When
            node.core.heard(7, told, moment)
            # Then
            [(_, _, word)] = [each for each in node.ready() if each[0] == "clock"]
            assert word.startswith("the clock of s1 was 172800 s behind this one")
            node.core.disconnected(7, moment)
            assert ("clock", True, "sound") in node.ready()

    asyncio.run(scenario())
