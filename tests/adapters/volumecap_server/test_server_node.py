"""A volumecap server as it runs: its link, its journal, its end."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.support.primary import PATIENT, SECRET, Primary, with_primary
from vcap_es.adapters.volumecap_server.server_node import ServerNode
from vcap_es.components.messages.client import Consume
from vcap_es.components.messages.outcomes import Consumed, Refused
from vcap_es.errors import JournalError, VcapError

PATIENCE_SECONDS = 20


def server(primary: Primary, directory: Path, secret: str = SECRET) -> ServerNode:
    """A server with its journal in `directory`."""
    return ServerNode(
        directory,
        name="s1",
        masters=[primary.url],
        secret=secret,
        limits=PATIENT,
        synchronous=False,
    )


async def ready(node: ServerNode) -> None:
    """Wait until it can serve."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(is_fine for _, is_fine, _ in node.ready()):  # noqa: ASYNC110  # as a probe asks
            await asyncio.sleep(0.01)


async def consume(node: ServerNode, cap: str, amount: int = 1) -> Consumed:
    """Consume, which must succeed."""
    outcome = await node.submit(Consume(cap=cap, minimum=amount, maximum=amount))
    assert isinstance(outcome, Consumed), outcome
    return outcome


async def spent(primary: Primary, cap: str, amount: int) -> None:
    """Wait until the master was told of so much."""
    await primary.eventually(
        f"/v1/caps/{cap}/balances", lambda found: found["intervals"][0]["spent"] == amount
    )


def test_a_lost_link_is_made_again_and_what_was_spent_is_told(tmp_path: Path) -> None:
    """It serves on from its slice meanwhile."""

    async def check(primary: Primary) -> None:
        await primary.define("c", total=2_560)
        async with server(primary, tmp_path / "s1") as node:
            await ready(node)
            await consume(node, "c", 5)
            # When the master lets it go
            [(_, close)] = primary.node._links.values()
            close("another one, please")
            await consume(node, "c")
            # Then
            await ready(node)
            await spent(primary, "c", 6)

    with_primary(tmp_path, check)


def test_an_orderly_end_leaves_nothing_held(tmp_path: Path) -> None:
    """Leaving the context returns all that is unspent before the link is gone."""

    async def check(primary: Primary) -> None:
        await primary.define("c", total=2_560)
        async with server(primary, tmp_path / "s1") as node:
            await ready(node)
            await consume(node, "c", 5)
            # Whoever waited for a failure and gave up has not failed the node.
            waiting = asyncio.create_task(node.failure())
            await asyncio.sleep(0)
            waiting.cancel()
        interval = (await primary.get("/v1/caps/c/balances"))["intervals"][0]
        assert (interval["held"], interval["spent"], interval["available"]) == (0, 5, 2_555)

    with_primary(tmp_path, check)


def test_without_a_master_it_refuses_and_is_not_ready(tmp_path: Path) -> None:
    """Unknown state refuses; nothing is thrown, and nothing was held at the end."""

    async def check() -> None:
        node = ServerNode(tmp_path / "s1", name="s1", masters=["http://127.0.0.1:1"], secret=SECRET)
        async with node:
            outcome = await node.submit(Consume(cap="c", minimum=1, maximum=1))
            assert isinstance(outcome, Refused)
            assert outcome.code == "unavailable"
            link, keys = node.ready()
            assert (link[1], keys[1]) == (False, False)

    asyncio.run(check())


def test_a_wrong_secret_is_what_it_says(tmp_path: Path) -> None:
    """The check of the link names it."""

    async def check(primary: Primary) -> None:
        async with server(primary, tmp_path / "s1", secret="f" * 64) as node:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "node secret" not in node.ready()[0][2]:  # noqa: ASYNC110  # as a probe asks
                    await asyncio.sleep(0.01)

    with_primary(tmp_path, check)


def test_a_journal_has_one_server(tmp_path: Path) -> None:
    """A second one in the same process or another is refused, and the first goes on."""

    async def check(primary: Primary) -> None:
        await primary.define("c")
        async with server(primary, tmp_path / "s1") as node:
            with pytest.raises(JournalError, match="in use"):
                server(primary, tmp_path / "s1")
            await ready(node)
            await consume(node, "c")

    with_primary(tmp_path, check)


def test_when_the_journal_fails_the_server_stops_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be kept is not promised: `failure` raises what the disk said."""

    async def check(primary: Primary) -> None:
        await primary.define("c", total=1_000_000)
        async with server(primary, tmp_path / "s1") as node:
            await ready(node)
            await consume(node, "c")

            def full(_: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(node._files, "write", full)
            waiting = asyncio.create_task(
                node.submit(Consume(cap="c", minimum=200_000, maximum=200_000))
            )
            with pytest.raises((OSError, VcapError), match="No space left"):
                await asyncio.wait_for(node.failure(), PATIENCE_SECONDS)
            with pytest.raises(JournalError, match="outcome unknown"):
                await waiting
            with pytest.raises(JournalError, match="stopped"):
                await consume(node, "c")
            monkeypatch.undo()

    with_primary(tmp_path, check)


def test_an_old_copy_of_a_journal_is_moved_aside(tmp_path: Path) -> None:
    """A journal from a backup is behind what the master has seen: it ends, and says where it is.

    Started again it is a new incarnation; what the old one held stays held, and no unit is served
    twice.
    """

    async def check(primary: Primary) -> None:
        # Given a copy of the journal from before most was consumed
        await primary.define("c", total=100)
        journal, copy = tmp_path / "s1", tmp_path / "copy"
        async with server(primary, journal) as node:
            await ready(node)
            await consume(node, "c", 5)
            await spent(primary, "c", 5)
            shutil.copytree(journal, copy)
            await consume(node, "c", 40)
            await spent(primary, "c", 45)
            old = node.incarnation
        # When the copy is started
        shutil.rmtree(journal)
        shutil.copytree(copy, journal)
        async with server(primary, journal) as node:
            with pytest.raises(JournalError, match="moved to") as raised:
                await asyncio.wait_for(node.failure(), PATIENCE_SECONDS)
        # Then
        assert (tmp_path / "s1.aside1").is_dir()
        assert "s1.aside1" in str(raised.value)
        assert not journal.exists()
        async with server(primary, journal) as node:
            assert node.incarnation != old
            await ready(node)
            interval = (await primary.get("/v1/caps/c/balances"))["intervals"][0]
            await consume(node, "c", interval["available"])
            outcome = await node.submit(Consume(cap="c", minimum=1, maximum=1))
            assert isinstance(outcome, Refused)
            assert outcome.code == "capped"

    with_primary(tmp_path, check)


@pytest.mark.parametrize("input_", ["written", "tick", "take"])
def test_an_error_of_its_own_stops_the_server_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, input_: str
) -> None:
    """Whatever is not sure any more ends it: it never serves on with half of it done."""

    async def check(primary: Primary) -> None:
        await primary.define("c", total=1_000_000)
        async with server(primary, tmp_path / "s1") as node:
            await ready(node)

            def wrong(*_: object) -> None:
                raise AssertionError("this cannot be")

            monkeypatch.setattr(node.core, input_, wrong)
            waiting = asyncio.create_task(node.submit(Consume(cap="c", minimum=1, maximum=1)))
            with pytest.raises(AssertionError, match="this cannot be"):
                await asyncio.wait_for(node.failure(), PATIENCE_SECONDS)
            # Whoever asked hears something, be it that nobody knows
            await asyncio.wait([waiting], timeout=PATIENCE_SECONDS)
            assert waiting.exception() is None or "outcome unknown" in str(waiting.exception())
            monkeypatch.undo()
        with pytest.raises(JournalError, match="stopped"):
            await consume(node, "c")

    with_primary(tmp_path, check)
